"""How a published serving benchmark set its engines' schedulers, by model, GPU and day."""

from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.specs.source import Source

#: a day after all that are stated, and that of a run which states none: before NEVER, after all others
NEVER, UNDATED = "9", "8"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a benchmark's server was: what its recipe depends on."""

    engine: str  #: its name in the catalogue
    gpu: str  #: its GPU's name in the catalogue
    architecture: str  #: of its GPUs
    model_type: str  #: of the model's config
    bits: float  #: width of its weights [bit]
    tensor: int  #: tensor-parallel ranks
    ranks: int  #: attention-data-parallel ranks
    lengths: tuple[float, float]  #: nominal prompt and output [token]
    concurrency: float  #: requests in flight
    day: str  #: of its run, YYYY-MM-DD, '' where that is not stated


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a published serving benchmark set an engine's scheduler, where that is not the engine's default."""

    engine: str  #: its name in the catalogue
    scripts: str  #: that set it so
    architectures: tuple[str, ...] = ()  #: of the GPUs it was set for, () for all
    gpus: tuple[str, ...] = ()  #: names of the GPUs it was set for, () for all
    models: tuple[str, ...] = ("",)  #: what the model types begin with that it was set for
    formats: tuple[float, float] = (0.0, 16.0)  #: widths of weights that it was set for: beyond, and up to [bit]
    since: str = ""  #: the day from which it was set, YYYY-MM-DD, '' for the first
    until: str = NEVER  #: the day from which it no longer was
    ranks: int = 1  #: attention-data-parallel ranks from which it was set
    crowd: float = 1.0  #: requests in flight from which `many` and `hold` hold
    few: float = 1.0  #: decode steps from one look for new requests to the next, for fewer requests
    many: float = 1.0  #: the same, for so many or more
    lengths: tuple[float, ...] = ()  #: nominal prompt and output that it was set for [token], () for all
    tensor: int = 1_000  #: tensor-parallel ranks below which it was set
    hold: float = 0.0  #: decode steps for which a prompt is held for others to be read with it
    budget: float = 0.0  #: prompt tokens that one step takes, at least, 0 for the engine's default [token]
    prompts: float = 0.0  #: the same in nominal prompts
    decoding: bool = False  #: whether one of its tokens is added for every request in flight, and `margin`
    margin: float = 0.0  #: tokens added with those of `decoding`, rounding included
    waves: float = 0.0  #: requests that each slot sends, 0 for the script's usual ones

    def fits(self, who: Setting) -> bool:
        """Return whether the scheduler of such a server was set so."""
        small, large = self.formats
        told = (
            who.engine == self.engine,
            who.model_type.startswith(self.models),
            small < who.bits <= large,
            not self.architectures or who.architecture in self.architectures,
            not self.gpus or who.gpu in self.gpus,
            self.since <= (who.day or UNDATED) < self.until,
            who.ranks >= self.ranks and who.tensor < self.tensor,
            self.lengths in ((), who.lengths),
            not self.hold or who.concurrency >= self.crowd,
        )
        return all(told)

    def tokens(self, prompt: float, concurrency: float) -> float:
        """Return the prompt tokens that one step takes, 0 for the engine's default."""
        return max(self.budget, self.prompts * prompt + self.decoding * (concurrency + self.margin))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Published serving benchmarks: which rows are of them, and how their scripts set an engine's scheduler."""

    name: str  #: its file's
    collection: str  #: what the `source` of a row calls it
    unnamed: bool  #: whether rows that name no source and count no requests are of it
    begun: str  #: the day of its first run, YYYY-MM-DD
    warmed: str  #: the day from which it warms servers up
    recipes: tuple[Recipe, ...]  #: the first that a server fits holds
    source: Source  #: of all of this


def recipe_of(who: Setting, recipes: Iterable[Recipe]) -> Recipe | None:
    """Return the first recipe that such a server fits, None where its scheduler was left as it was."""
    return next((recipe for recipe in recipes if recipe.fits(who)), None)
