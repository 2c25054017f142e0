"""What somebody claims: a figure, the quantity it is of, and the cases to check it on."""

from dataclasses import dataclass, field

from kvplan.specs.fields import about, described
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source
from kvplan.specs.workload import Factor, Workload


@dataclass(frozen=True, kw_only=True)
class ClaimCase:
    """One case of a claim."""

    words: dict[str, str]  #: its fields as people write them
    model: ModelSpec | None = field(default=None, metadata=about("a model"))
    kv_heads: int | None = field(default=None, metadata=about("key/value heads per layer, in place of the model's own"))
    context: int | None = field(default=None, metadata=about("tokens of a sequence, prompt and answer", "token"))
    output: int | None = field(
        default=None, metadata=about("tokens generated, part of the context; 512 where it is not said", "token")
    )
    workload: Workload | None = field(
        default=None, metadata=about("lengths of a workload's mean request, in place of context and output")
    )
    technique: str = field(
        default="baseline", metadata=about("a technique; the uncompressed cache where it is not said")
    )
    gpu: Gpu | None = field(default=None, metadata=about("a GPU"))
    weights: str | None = field(
        default=None, metadata=about("format of the weights; the checkpoint's own where it is not said")
    )
    batch: int | None = field(
        default=None, metadata=about("sequences run at once; as many as fit where it is not said")
    )
    tp: int | None = field(default=None, metadata=about("tensor-parallel GPUs of a replica"))
    against: str = field(
        default="baseline", metadata=about("the technique compared with; the uncompressed cache where it is not said")
    )
    against_gpu: Gpu | None = field(default=None, metadata=about("the GPU compared with"))
    against_workload: Workload | None = field(default=None, metadata=about("the workload compared with"))
    price: float | None = field(
        default=None,
        metadata=about("USD per GPU-hour, in place of the median of dated on-demand prices", "USD/s"),
    )
    load: float = field(
        default=1.0, metadata=about("share of the time the GPUs are busy; always where it is not said", "1")
    )
    per: str = field(
        default="request",
        metadata=about("what a cost is of: a request, or a part of the workload's prompt that several requests share"),
    )
    prefix_cache: str = field(
        default="no", metadata=about("no, or ideal: it always holds what a workload's requests have in common")
    )
    accepted: float | None = field(
        default=None, metadata=about("tokens that a step of speculative decoding yields", "token/step")
    )
    draft: float = field(
        default=0.0, metadata=about("time of drafting as a share of a step's; none where it is not said", "1")
    )
    measure: str = field(default="", metadata=about("ttft, tpot or e2e"))
    of: str = field(default="", metadata=about("which part is counted"))
    task: str = field(default="", metadata=about("a task family, 'short' for scores of short prompts"))
    benchmark: str = field(default="", metadata=about("a benchmark whose scores alone count, as in MMLU"))
    provider: str = field(default="", metadata=about("an API's provider"))
    api: str = field(default="", metadata=about("a provider's name of a model"))
    line: str = field(default="", metadata=about("a line of an owner's bill"))


#: field of a case -> what it holds
CASE_FIELDS = {name: meta["meaning"] for name, meta in described(ClaimCase).items()}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One figure that somebody claims."""

    id: str  #: its name in the file
    about: str  #: its subject, which groups claims
    claim: str  #: the sentence that claims it
    check: str  #: the quantity it is checked as
    claimed: str  #: its figure or range as written
    tolerance: float | None  #: how far off it may be, a share; None: the check's own
    cases: tuple[ClaimCase, ...]  #: what it is checked on
    how: str  #: product, sum or quotient of the factors of an arithmetic check
    factors: tuple[tuple[Factor, ...], ...]  #: of an arithmetic check, one tuple a case
    needs: str  #: what would have to be known, for a claim nobody can check
    note: str  #: a remark for the reader
    source: Source  #: who claims it
    headline: bool  #: whether it is one of those that matter most to a reader
    place: str  #: where it stands in the file, for messages

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of its cases."""
        return tuple(self.cases[0].words) if self.cases else ()

    @property
    def varied(self) -> tuple[str, ...]:
        """The fields in which its cases differ."""
        return tuple(f for f in self.fields if len({c.words[f] for c in self.cases}) > 1)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """A file of claims, in its own order."""

    name: str  #: of the file
    title: str  #: as reports print it
    source: Source  #: who makes the claims
    claims: tuple[Claim, ...]  #: in the file's order
