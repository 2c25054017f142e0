"""How a published serving benchmark set its engines' schedulers, by model, GPU and day."""

from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.specs.source import Source

#: a day after all that are stated
NEVER = "9"


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


def recipe_of(who: Setting, recipes: Iterable[Recipe]) -> Recipe | None:
    """Return the first recipe that such a server fits, None where its scheduler was left as it was."""
    for recipe in recipes:
        here = (not recipe.architectures or who.architecture in recipe.architectures) and (
            not recipe.gpus or who.gpu in recipe.gpus
        )
        then = recipe.since <= (who.day or "8") < recipe.until
        shape = who.ranks >= recipe.ranks and who.tensor < recipe.tensor and recipe.lengths in ((), who.lengths)
        asked = (
            who.engine == recipe.engine
            and who.model_type.startswith(recipe.models)
            and recipe.formats[0] < who.bits <= recipe.formats[1]
        )
        if asked and here and then and shape and (not recipe.hold or who.concurrency >= recipe.crowd):
            return recipe
    return None
