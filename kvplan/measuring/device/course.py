"""The course of a profile: warm up, and take samples in random rounds until they settle or time is up.

Knows no device: a Timer times one probe, a clock tells the time, a log keeps every sample. Tests bring their own.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kvplan.errors import KvplanError
from kvplan.measuring.device.probes import SIZES, Probe
from kvplan.units import MILLION

#: columns of a file of samples: what was run, what it moves, and how it went
COLUMNS = (
    *("group", "kind", "gpu", "engine", "kernel", "dtype", "kv_dtype", *SIZES, "bytes", "flops"),
    *("round", "latency_us", "wall_us", "repeats", "state", "load"),
    *("sm_clock_hz", "memory_clock_hz", "power_w", "temperature_c", "reasons"),
)
#: columns by which a sample's probe is known again
KEY = ("group", "kernel", "dtype", "kv_dtype", *SIZES)
#: rounds wanted of a shape, rounds after which it must have stopped improving, and a bound
ROUNDS, SETTLED, MOST_ROUNDS = 10, 4, 24
#: an improvement smaller than this share is none
BETTER = 0.01
#: shapes of each group that are measured even if not in enough rounds
COARSE = 9
#: a first sample longer than this has compiled something and says nothing about the next [s]
COMPILED = 0.05
#: the share of the time left that may go into warming up
WARMING = 0.4
#: how much longer than in the warm-up a sample may take
SLACK = 1.3
SEED = 20261123

PREEMPTED, THROTTLED, SHARED, CAPPED = "preempted", "throttled", "shared", "power cap"
TOO_LARGE, FAILED = "out of memory", "failed"
#: states whose samples are kept on record and left out of the fit
REJECTED = (TOO_LARGE, FAILED, THROTTLED, SHARED)
#: states of shapes that gave no sample: left alone for the rest of a run, tried again last when it is resumed
SKIPPED = (TOO_LARGE, FAILED)
#: longest reason that is kept on record, and how much of it comes from the beginning
LONGEST, HEAD = 300, 120


class TooLarge(KvplanError):
    """A shape does not fit into the device's memory."""

    state = TOO_LARGE


class Failed(TooLarge):
    """An operator does not run on this shape or device."""

    state = FAILED


def reason(error: BaseException) -> str:
    """Return why something failed, in one line: what was raised first where one error led to another.

    Leaving a capture after an error raises another; CUDA adds three lines of advice to each of its own.
    """
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    text = str(error).split("\nCUDA kernel errors might")[0].split("\nSearch for `cuda")[0]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not isinstance(error, KvplanError | RuntimeError) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= LONGEST else f"{text[:HEAD]} ... {text[HEAD + 5 - LONGEST :]}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One timed sample. time: one call [s]; wall: the whole sample, preparation included [s]; repeats: calls in it."""

    time: float  #: of one call [s]
    wall: float  #: of the whole sample, preparation included [s]
    repeats: int  #: calls in it
    state: str = ""  #: what disturbed it, '' for nothing
    sensors: Mapping[str, str] = field(default_factory=dict)  #: column -> reading


class Timer(Protocol):
    """Times probes on one device."""

    gpu: str
    engine: str

    def sample(self, probe: Probe) -> Sample:
        """Time one probe for a few milliseconds; TooLarge when it does not fit."""


class Log(Protocol):
    """Keeps samples; whatever was appended survives the end of the program."""

    def append(self, sample: Mapping[str, str]) -> None:
        """Keep one sample, on disk before the call returns."""


Progress = Callable[[float, str], None]


@dataclass
class ProbeState:
    """What is known of one probe so far: the cost of a sample [s] and its times [s], and whether to go on."""

    probe: Probe  #: the probe
    cost: float = 0.0  #: what a sample of it takes, estimated [s]
    times: list[float] = field(default_factory=list)  #: of one call, a sample each [s]
    rejected: int = 0  #: samples that do not count
    dropped: bool = False  #: whether it is given up

    @property
    def done(self) -> bool:
        """Return whether the shape needs no more rounds: it has settled, was left alone, or had MOST_ROUNDS."""
        taken = len(self.times)
        if self.dropped or taken + self.rejected >= MOST_ROUNDS:
            return True
        return taken >= ROUNDS and min(self.times[:-SETTLED]) <= min(self.times[-SETTLED:]) * (1 + BETTER)


@dataclass
class Course:
    """One run of a profile on one device until `deadline` on `clock` [s]."""

    timer: Timer  #: times the probes
    log: Log  #: keeps the samples
    clock: Callable[[], float]  #: time by which the deadline is kept [s]
    deadline: float  #: when to stop, on the clock [s]
    progress: Progress = lambda share, text: None  #: is told the share done, and in words what is next
    anchors: Sequence[Probe] = ()  #: probes repeated in every round
    shapes: Sequence[ProbeState] = ()  #: the probes to measure
    taken: int = 0  #: samples so far
    round: int = 0  #: rounds so far
    usual: float = 0.0  #: usual cost of a sample [s]

    def time_for(self, cost: float) -> bool:
        """Return whether work of `cost` [s], with SLACK, still ends before the deadline."""
        return self.clock() + cost * SLACK < self.deadline

    def warm_up(self, shape: ProbeState) -> None:
        """Run a probe once unrecorded: caches, compilation, and what a sample costs."""
        try:
            shape.cost = self.timer.sample(shape.probe).wall
            if shape.cost > COMPILED and self.time_for(shape.cost):
                shape.cost = self.timer.sample(shape.probe).wall
            self.usual = shape.cost
        except TooLarge as error:
            self.drop(shape, error)

    def drop(self, shape: ProbeState, error: TooLarge) -> None:
        """Leave a shape alone for the rest of the run, and put on record why."""
        shape.dropped = True
        self.log.append(line(self.timer, shape.probe, 0, error))

    def take(self, shape: ProbeState) -> None:
        """Take one sample and put it on record."""
        try:
            sample = self.timer.sample(shape.probe)
        except TooLarge as error:
            self.drop(shape, error)
            return
        self.log.append(line(self.timer, shape.probe, self.round, sample))
        self.taken += 1
        shape.cost = max(0.7 * shape.cost, sample.wall)
        if sample.state in REJECTED:
            shape.rejected += 1
        else:
            shape.times.append(sample.time)


def line(timer: Timer, probe: Probe, number: int, sample: Sample | TooLarge) -> dict[str, str]:
    """Return a sample as a line of a file; an error says why a shape could not be run."""
    known = {
        "group": probe.group,
        "kind": probe.kind,
        "gpu": timer.gpu,
        "engine": probe.engine or timer.engine,
        "kernel": probe.kernel,
        "dtype": probe.dtype,
        "kv_dtype": probe.kv_dtype,
        **{name: str(size) for name, size in probe.sizes.items()},
        "bytes": f"{probe.moved:.12g}",
        "flops": f"{probe.flops:.12g}",
        "round": str(number),
    }
    if isinstance(sample, TooLarge):
        return {**known, "state": sample.state, "reasons": reason(sample)}
    return {
        **known,
        "latency_us": f"{sample.time * MILLION:.7g}",
        "wall_us": f"{sample.wall * MILLION:.7g}",
        "repeats": str(sample.repeats),
        "state": sample.state,
        **sample.sensors,
    }


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns of KEY by which a row's probe is known again."""
    return tuple(row[name] for name in KEY)


def begin(plan: Iterable[Probe], before: Iterable[Mapping[str, str]]) -> list[ProbeState]:
    """Return the plan's shapes with what earlier samples of them say; those that failed are tried again, last."""
    shapes = {probe.key: ProbeState(probe) for probe in plan}
    failed = set()
    for row in before:
        shape = shapes.get(key_of(row))
        if shape is None:
            continue
        if row["state"] in SKIPPED:
            failed.add(shape.probe.key)
        elif row["state"] in REJECTED:
            shape.rejected += 1
        else:
            shape.times.append(float(row["latency_us"]) / MILLION)
    return sorted(shapes.values(), key=lambda shape: shape.probe.key in failed)


def coarse(shapes: Sequence[ProbeState]) -> list[ProbeState]:
    """Return the first few shapes of each group, in the plan's order."""
    seen: dict[str, int] = {}
    chosen = []
    for shape in shapes:
        seen[shape.probe.group] = seen.get(shape.probe.group, 0) + 1
        if seen[shape.probe.group] <= COARSE:
            chosen.append(shape)
    return chosen


def measure(course: Course, shapes: Sequence[ProbeState], seed: int = SEED) -> bool:
    """Measure shapes in their order, as many at once as time allows; return whether all of them settled."""
    course.shapes = shapes
    dice = random.Random(seed)  # noqa: S311 (an order, not a secret)
    anchors = [ProbeState(probe) for probe in course.anchors]
    for anchor in anchors:
        course.warm_up(anchor)
    left = [shape for shape in shapes if not shape.done]
    first, minimum = {id(s) for s in coarse(shapes)}, True
    while left:
        batch = select(course, left, first if minimum else set())
        minimum = False
        if not batch or not rounds(course, batch, anchors, dice):
            return False
        chosen = {id(shape) for shape in batch}
        left = [shape for shape in left if id(shape) not in chosen]
    return True


def select(course: Course, left: Sequence[ProbeState], always: set[int]) -> list[ProbeState]:
    """Warm up shapes in order and return those whose rounds fit into the time left; `always`: regardless."""
    batch: list[ProbeState] = []
    promised = 0.0
    latest = course.clock() + WARMING * (course.deadline - course.clock())
    for shape in left:
        if not course.time_for(promised + shape.cost) and id(shape) not in always:
            break
        if course.clock() >= latest or not course.time_for(course.usual):
            break
        course.warm_up(shape)
        course.progress(share(course.shapes), f"warming up {shape.probe.group}")
        promised += shape.cost * max(ROUNDS + 2 - len(shape.times), 1)
        batch.append(shape)
    return batch


def rounds(course: Course, batch: Sequence[ProbeState], anchors: Sequence[ProbeState], dice: random.Random) -> bool:
    """Take rounds of samples in random order until every shape settled (True) or time is up (False)."""
    while active := [shape for shape in batch if not shape.done]:
        course.round += 1
        dice.shuffle(active)
        for shape in (*anchors, *active):
            if shape.dropped:
                continue
            if not course.time_for(shape.cost):
                return False
            course.take(shape)
            course.progress(share(course.shapes), shape.probe.group)
    return True


def share(shapes: Sequence[ProbeState]) -> float:
    """Return how much of the shapes is measured."""
    return sum(1.0 if s.done else min(len(s.times), ROUNDS) / (ROUNDS + 1) for s in shapes) / max(len(shapes), 1)
