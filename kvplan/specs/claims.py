"""What somebody claims: a figure, the quantity it is of, and the cases to check it on."""

from dataclasses import dataclass

from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source
from kvplan.specs.workload import Factor, Workload

#: field of a case -> what it holds
CASE_FIELDS = {
    "model": "a model",
    "kv_heads": "key/value heads per layer, in place of the model's own",
    "context": "tokens of a sequence, prompt and answer",
    "output": "tokens generated, part of the context; 512 where it is not said",
    "workload": "lengths of a workload's mean request, in place of context and output",
    "technique": "a technique; the uncompressed cache where it is not said",
    "gpu": "a GPU",
    "weights": "format of the weights; the checkpoint's own where it is not said",
    "batch": "sequences run at once; as many as fit where it is not said",
    "tp": "tensor-parallel GPUs of a replica",
    "against": "the technique compared with; the uncompressed cache where it is not said",
    "against_gpu": "the GPU compared with",
    "against_workload": "the workload compared with",
    "price": "USD per GPU-hour, in place of the median of dated on-demand prices",
    "load": "share of the time the GPUs are busy; always where it is not said",
    "measure": "ttft, tpot or e2e",
    "of": "which part is counted",
    "task": "a task family, 'short' for scores of short prompts",
    "size": "a number of parameters",
    "provider": "an API's provider",
    "api": "a provider's name of a model",
    "line": "a line of an owner's bill",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a claim; CASE_FIELDS says what each field holds. `words` are its fields as people write them.

    `price` is in USD/s, `load` a share of 1.
    """

    words: dict[str, str]
    model: ModelSpec | None = None
    kv_heads: int | None = None
    context: int | None = None
    output: int | None = None
    workload: Workload | None = None
    technique: str = "baseline"
    gpu: Gpu | None = None
    weights: str | None = None
    batch: int | None = None
    tp: int | None = None
    against: str = "baseline"
    against_gpu: Gpu | None = None
    against_workload: Workload | None = None
    price: float | None = None
    load: float = 1.0
    measure: str = ""
    of: str = ""
    task: str = ""
    size: float | None = None
    provider: str = ""
    api: str = ""
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One figure that somebody claims.

    `check` names the quantity, `claimed` its figure or range as written, `cases` what it is checked on. `how` combines
    the factors of an arithmetic check, one tuple a case. `needs` says what would have to be known for a claim nobody
    can check. `where` is its place in the file.
    """

    id: str
    about: str
    claim: str
    check: str
    claimed: str
    tolerance: float | None
    cases: tuple[Case, ...]
    how: str
    factors: tuple[tuple[Factor, ...], ...]
    needs: str
    note: str
    source: Source
    where: str

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

    name: str
    title: str
    source: Source
    claims: tuple[Claim, ...]
