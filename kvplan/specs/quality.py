"""What published evaluations say of compressed caches: rows of scores, base models at long context, small models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

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
#: whether the question was there when the cache was compressed: without it (several questions to one document, prefix
#: caches, agents) an evicting technique does not know what will be asked for
QUERIES = ("seen", "unseen")
#: the benchmark that speaks for a task family first: RULER asks for what stands anywhere in the prompt
LEADS = {"retrieval": "RULER", "qa-single": "RULER", "qa-multi": "RULER"}
#: what speaks first for the other families
LEADING = "LongBench"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task family."""

    name: str  #: as files and options spell it
    title: str  #: as reports print it
    averaged: bool = False  #: whether the published averages are over it
    exact: bool = False  #: whether any token of the prompt may be asked for


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
        Task(name="reasoning", title="long reasoning"),
        Task(name="video", title="questions to images and video"),
    )
}
#: other names of task families
OTHER_WORDS = {"needle": "retrieval", "summarization": "summarisation", "multi-hop": "qa-multi", "qa": "qa-single"}


def task_named(word: str, location: str = "") -> str:
    """Return a task family's name; UnknownName says which there are."""
    name = OTHER_WORDS.get(word.strip().lower(), word.strip().lower())
    if name not in TASKS:
        raise UnknownName("task family", word, TASKS, f"known: {', '.join(TASKS)}", location)
    return name


@dataclass(frozen=True, kw_only=True)
class Score:
    """One published score of a compressed cache."""

    technique: str  #: a family (h2o, int4, mhc, ...) or, in a user's file, a whole spelling (h2o:20%, mhc:4x+fp8)
    task: str  #: a task family, AVERAGE or SHORT
    retained: float  #: score over the uncompressed model's, of 1
    #: what the technique leaves of its factor of the KV sum (tokens, elements, heads, bits of 16), of 1; None where the
    #: source does not tell it apart, and then the row is quoted and never interpolated
    share: float | None = None
    spread: float = 0.0  #: half of the range of `retained`, of 1
    model: str | None = None  #: measured on; None: whatever model is asked about
    parameters: float | None = None  #: of that model
    attention: str | None = None  #: one of ATTENTION
    context: int | None = None  #: longest prompt measured [token]
    baseline: float | None = None  #: score without compression, in the source's own scale
    compressed: float | None = None  #: score with it, in the source's own scale
    condition: str = ""  #: recipe or setting it holds under
    benchmark: str = ""  #: RULER, LongBench, MRCR ..., '' where none is named
    query: str = ""  #: one of QUERIES, '' where it does not matter or is not told
    grade: str  #: one of GRADES
    source: Source  #: where it was published


@dataclass(frozen=True, kw_only=True)
class BaseScore:
    """A model's long-context score before any compression."""

    model: str  #: its name in the catalogue
    claimed: str  #: context that its makers claim
    effective: str  #: context up to which the benchmark calls it good
    scores: tuple[tuple[int, float], ...]  #: (context [token], score of 100) pairs
    grade: str  #: one of GRADES
    source: Source  #: where it was published


@dataclass(frozen=True, kw_only=True)
class SizeScore:
    """One accuracy in a series over model sizes, at one compression."""

    what: str  #: the series: task and compression
    parameters: float  #: of the model
    accuracy: float  #: absolute, of 1
    grade: str  #: one of GRADES
    source: Source  #: where it was published


@dataclass(frozen=True, kw_only=True)
class QualityTable:
    """Rows of one or more files."""

    name: str  #: of the file
    scores: tuple[Score, ...] = ()  #: of compressed caches
    bases: tuple[BaseScore, ...] = ()  #: of models before compression
    sizes: tuple[SizeScore, ...] = ()  #: series over model sizes
    own: bool = False  #: measured on the user's own model, and so wins over published rows

    @cached_property
    def usable(self) -> tuple[Score, ...]:
        """Rows that may be calculated with: none of grade C."""
        return tuple(s for s in self.scores if s.grade != "C")

    @cached_property
    def answering(self) -> Mapping[str, tuple[Score, ...]]:
        """Usable rows by technique: its own spelling; one without a share names a whole spelling, and its family."""
        by_task: dict[str, list[Score]] = {}
        for row in self.usable:
            family = row.technique.partition(":")[0] if row.share is None else row.technique
            for name in dict.fromkeys((row.technique, family)):
                by_task.setdefault(name, []).append(row)
        return {name: tuple(rows) for name, rows in by_task.items()}
