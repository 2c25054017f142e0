"""What published evaluations say of compressed caches: rows of scores, base models at long context, small models."""

from dataclasses import dataclass

from kvplan.errors import UnknownName
from kvplan.specs.source import Source

#: how a figure was verified: A in the authors' own repository, B quoted in independent copies, C not (never used)
GRADES = ("A", "B", "C")
#: how a model shares keys and values between query heads
ATTENTION = ("mha", "gqa", "mqa", "latent", "none")
#: a score over several task families
AVERAGE = "average"
#: a score of short prompts, MMLU for one, which says nothing of long ones
SHORT = "short"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task family. `averaged`: one of those the published averages are over; `exact`: any token may be asked for."""

    name: str
    title: str
    averaged: bool = False
    exact: bool = False


TASKS = {
    task.name: task
    for task in (
        Task(name="qa-single", title="questions to one document", averaged=True),
        Task(name="qa-multi", title="questions that need several places (multi-hop)", averaged=True, exact=True),
        Task(name="summarisation", title="summaries", averaged=True),
        Task(name="few-shot", title="few-shot learning", averaged=True),
        Task(name="retrieval", title="passage retrieval, needle in a haystack", averaged=True, exact=True),
        Task(name="code", title="code completion and review", averaged=True),
        Task(name="chat", title="conversation"),
        Task(name="agents", title="agents that call tools"),
        Task(name="video", title="questions to images and video"),
    )
}
_OTHER_WORDS = {"needle": "retrieval", "summarization": "summarisation", "multi-hop": "qa-multi", "qa": "qa-single"}


def task_named(word: str, where: str = "") -> str:
    """Return a task family's name; UnknownName says which there are."""
    name = _OTHER_WORDS.get(word.strip().lower(), word.strip().lower())
    if name not in TASKS:
        raise UnknownName("task family", word, TASKS, f"known: {', '.join(TASKS)}", where)
    return name


@dataclass(frozen=True, kw_only=True)
class Score:
    """One published score of a compressed cache.

    `technique` is a family (h2o, streaming, int4, int2, mhc, gqa) or, in a user's file, a whole spelling (h2o:20%,
    mhc:4x+fp8). `share` is what it leaves of its factor of the KV sum: tokens kept, elements, heads, bits of 16; None
    where the source does not tell it apart, and then the row is quoted and never interpolated. `task` may also be
    average or short. `model` None means whatever model is asked about. `context` bounds the prompts. [token]
    """

    technique: str
    task: str
    retained: float
    share: float | None = None
    spread: float = 0.0
    model: str | None = None
    parameters: float | None = None
    attention: str | None = None
    context: int | None = None
    baseline: float | None = None
    compressed: float | None = None
    condition: str = ""
    grade: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class BaseScore:
    """A model's long-context score before any compression: (context, score of 100) pairs, and its effective length."""

    model: str
    claimed: str
    effective: str
    scores: tuple[tuple[int, float], ...]
    grade: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class SizeScore:
    """One accuracy in a series over model sizes, at one compression. `accuracy` is absolute, of 1."""

    what: str
    parameters: float
    accuracy: float
    grade: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class QualityTable:
    """Rows of one or more files. `own` marks a file measured on the user's own model: it wins over published rows."""

    name: str
    scores: tuple[Score, ...] = ()
    bases: tuple[BaseScore, ...] = ()
    sizes: tuple[SizeScore, ...] = ()
    own: bool = False
