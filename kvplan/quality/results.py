"""What is said of a technique's quality: the loss it is expected to cost, its range, and what both rest on."""

from dataclasses import dataclass

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model's own long-context score before any compression, None where nobody measured it."""

    score: float | None = None  #: at the context asked for, of 100
    short: float | None = None  #: at the shortest context measured, of 100
    effective: str = ""  #: context up to which the benchmark calls the model good
    words: str = ""  #: the same in a sentence
    source: Source | None = None  #: where it was published

    @property
    def drop(self) -> float | None:
        """Relative loss against the model's own short prompts."""
        return None if self.score is None or not self.short else 1 - self.score / self.short


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The relative loss of score that a technique is expected to cost; 0.01 is 1 %."""

    technique: str  #: in its one spelling
    task: str  #: task family
    drop: float | None  #: expected, None where it is not known, of 1
    low: float  #: the least it may be, or what can still be said of it, of 1
    high: float  #: the most it may be, or what can still be said of it, of 1
    known: bool  #: whether it was measured or lies between measurements
    basis: str  #: which scores it rests on, or why it is not known
    caveats: tuple[str, ...] = ()  #: what to beware of
    source: tuple[Source, ...] = ()  #: where the scores were published
    base: Base = Base()  #: what the model loses at this context without any compression

    def within(self, limit: float) -> bool:
        """Whether the expected loss is known and at most `limit`: unknown counts against a technique."""
        return self.drop is not None and self.drop <= limit


def lossless(name: str, task: str, basis: str) -> Quality:
    """Return that nothing is lost, and why."""
    return Quality(technique=name, task=task, drop=0.0, low=0.0, high=0.0, known=True, basis=basis)


def unknown(
    name: str,
    task: str,
    reason: str,
    *,
    low: float = 0.0,
    caveats: tuple[str, ...] = (),
    source: tuple[Source, ...] = (),
) -> Quality:
    """Return a loss nobody measured, and why."""
    return Quality(
        technique=name,
        task=task,
        drop=None,
        low=low,
        high=1.0,
        known=False,
        basis=reason,
        caveats=caveats,
        source=source,
    )
