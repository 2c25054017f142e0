"""What a technique says of itself, and the table of all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kvplan.docstrings import summary
from kvplan.errors import Incompatible
from kvplan.kv.layout import Group, KVLayout
from kvplan.specs.source import Source

#: stands for whatever argument a technique is given
ANY = "*"
Apply = Callable[[KVLayout, str], KVLayout]


#: engines as reports print them
TITLES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM", "lmdeploy": "LMDeploy", "llamacpp": "llama.cpp"}


@dataclass(frozen=True, kw_only=True)
class Support:
    """An engine that serves a technique: from and up to which release, and how it is switched on."""

    engine: str  #: as options spell it
    since: str  #: first release that serves it
    date: str  #: of that release, or of the change
    until: str = ""  #: first release that no longer serves it, '' where it still does
    option: str = ""  #: what switches it on
    only: str | None = None  #: the argument it serves alone, None for any
    ref: str = ""  #: who says so; '': release and date are remembered, an assumption

    def __str__(self) -> str:
        title = TITLES.get(self.engine, self.engine)
        gone = f", gone from {self.until}" if self.until else ""
        return f"{title} from {self.since} ({'' if self.ref else '~'}{self.date}){gone}"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What unpacking a format takes a decode kernel beside reading its bytes, fitted to published times of servers.

    With many sequences all processors unpack at once (`work`). With few, each sequence is cut into a fixed number of
    parts, so that most processors wait while the others read token by token (`lag`).
    """

    work: float = 0.0  #: of an element, of one of a GPU's processors [s]
    by_query: bool = False  #: whether a kernel unpacks an element again for each query head that reads it
    lag: float = 0.0  #: of a token of one sequence in one layer, however many heads there are [s]
    fixed: float = 0.0  #: of a layer's step, for kernels that rotate and store [s]
    prefill: float = 1.0  #: attention of prompts over that of a 16-bit cache
    low: float  #: 80 % interval of measured over predicted cache time: its lower end
    high: float  #: and its upper end
    measured: str = ""  #: where, '' where it is taken from a format like it


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A family of techniques: how it is written, the factor it acts on, and its fine print."""

    name: str  #: what its spellings begin with
    spelling: str  #: pattern of its spellings, 'h2o:P%|N'
    title: str  #: as reports print it
    factor: str  #: of the five, the one it acts on; two that act on the same one exclude each other
    example: str  #: a spelling
    granularity: str  #: smallest thing it drops or rounds, and what that means for pages
    needs: str  #: of the model, the engine or a kernel
    quality: str  #: what is published of its accuracy
    risk: str  #: the same in a few words
    engines: tuple[Support, ...]  #: those that serve it
    speed: Mapping[str, Speed] = field(default_factory=dict)  #: argument -> what reading such a format takes
    native: str = ""  #: number format that the GPU must have, '' where any will do
    compared: tuple[str, ...]  #: spellings that `estimate` shows when none is named
    searched: tuple[str, ...]  #: spellings that `recommend` tries when none is named
    source: Source  #: its paper
    heals: float = 0.0  #: tokens a model is trained on before it serves so, 0 where none are needed [token]
    implied: str = ""  #: what an argument may leave out, as it is spelled in one
    #: whether what it keeps depends on the tokens it has seen, the question among them if it is there ('aware'), on
    #: nothing that was asked ('agnostic'), or is chosen anew for each token generated ('each step'); '' drops no token
    query: str = ""
    left: Callable[[str], float] | None = None  #: share that an argument names, where a layout does not tell it
    summary: str  #: what it does, in one line
    apply: Apply  #: (layout, what follows the name) -> layout


TECHNIQUES: dict[str, Technique] = {}


def technique(
    name: str,
    *,
    spelling: str,
    title: str,
    factor: str,
    example: str,
    granularity: str,
    needs: str,
    quality: str,
    risk: str,
    source: Source,
    engines: tuple[Support, ...] = (),
    speed: Mapping[str, Speed] | None = None,
    native: str = "",
    compared: tuple[str, ...] = (),
    searched: tuple[str, ...] = (),
    query: str = "",
    implied: str = "",
    heals: float = 0.0,
    left: Callable[[str], float] | None = None,
) -> Callable[[Apply], Apply]:
    """Register a technique; the arguments are the fields of Technique."""

    def register(apply: Apply) -> Apply:
        TECHNIQUES[name] = Technique(
            name=name,
            spelling=spelling,
            title=title,
            factor=factor,
            example=example,
            granularity=granularity,
            needs=needs,
            quality=quality,
            risk=risk,
            engines=engines,
            speed=speed or {},
            native=native,
            compared=compared,
            searched=searched or compared,
            source=source,
            query=query,
            implied=implied,
            heals=heals,
            left=left,
            summary=summary(apply),
            apply=apply,
        )
        return apply

    return register


def served(
    engine: str, since: str, date: str, option: str = "", *, until: str = "", only: str | None = None, ref: str = ""
) -> Support:
    """Return an engine that serves a technique."""
    return Support(engine=engine, since=since, date=date, until=until, option=option, only=only, ref=ref)


def paper(title: str, date: str) -> Source:
    """Return a paper as a source; `date` is that of its first version."""
    return Source(kind="paper", ref=title, date=date)


def require_groups(layout: KVLayout, suits: Callable[[Group], bool], refusal: str) -> None:
    """Refuse when no group of the layout is one the technique can act on."""
    if not any(g.count and suits(g) for g in layout.groups):
        raise Incompatible(refusal)


def has_heads(g: Group) -> bool:
    """Whether the layers store keys and values per head, which a latent and a state do not."""
    return g.kind in ("full", "sliding", "chunked") and g.vectors > 0
