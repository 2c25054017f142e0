"""Minutes of measurements on this machine's device become a profile of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from kvplan.api import values
from kvplan.catalog.rows.samples import SampleLog, must_be_writable, profile_beside, read_samples, set_aside, swapped
from kvplan.catalog.rows.tables import base, stem, write_profile
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.specs.result import Result
from kvplan.specs.source import KINDS
from kvplan.units import DAY, parse, show_time

if TYPE_CHECKING:
    from kvplan.measuring.device.device import Device

COMMENT = "Measured by `kvplan profile`: coefficients, errors on shapes left out and 80 % intervals; docs/profiling.md."
#: the share of the budget that is kept for the fit, at most
MOST_RESERVED = 1 / 3
#: time for all of it, unless asked otherwise, and the shortest in which anything can be measured [s]
BUDGET, LEAST = 120.0, 2.0
#: devices that can be measured
DEVICES = ("cuda", "cpu")
#: more processes than reduce together
MOST_PROCESSES = 64
#: told the share that is done and what is going on
Progress = Callable[[float, str], None]


@contextmanager
def unseen(_clock: Callable[[], float], _deadline: float) -> Iterator[Progress]:
    """Show no progress."""
    yield lambda _share, _what: None


@dataclass(frozen=True)
class Watch:
    """How a run is watched: `bar(clock, deadline)` shows progress, `tell` is told remarks, `again` is how to go on."""

    #: shows progress on a clock until a deadline [s]
    bar: Callable[[Callable[[], float], float], AbstractContextManager[Progress]] = unseen
    tell: Callable[[str], None] = lambda _remark: None  #: is told remarks
    again: str = "resume=True"  #: how to go on, as the caller spells it


@dataclass(frozen=True, kw_only=True)
class Profiled(Result, of="profile"):
    """A measured profile as it was written to `output`, where its samples are, and the time it took."""

    document: dict[str, Any]  #: the profile as its file holds it
    output: str  #: the file of the profile
    rows: str  #: the file of its samples
    seconds: float  #: time it took [s]


class Stopped(KeyboardInterrupt):
    """The run was interrupted with `taken` samples in the file `rows`, '' where none was named yet."""

    def __init__(self, taken: int, rows: str):
        super().__init__(f"{taken:,} samples are in {rows}")
        self.taken, self.rows = taken, rows


def profile(
    device: str | None = None,
    *,
    budget: float | str = BUDGET,
    output: str | None = None,
    rows: str | None = None,
    processes: int | None = None,
    resume: bool = False,
    watch: Watch = Watch(),
) -> Profiled:
    """Measure this machine's device for `budget` seconds, write a profile of it and its samples, and return it.

    `device` is cuda or cpu, by default a GPU that torch sees; `processes` reduce together, by default one a visible
    GPU. Every finished sample is on disk at once, and `resume` goes on from them. Clocks and modes are left as they
    are. Raises KvplanError for values that cannot be understood, a missing device and too few samples, Stopped when it
    is interrupted.

        >>> kvplan.profile("cpu", budget="60s", output="mine.yaml").output  # doctest: +SKIP
        'mine.yaml'
    """
    begun = time.monotonic()
    length = seconds(budget)
    values.given(values.one_of, device, "device", DEVICES)
    values.given(values.word, output, "output")
    values.given(values.word, rows, "rows")
    values.given(values.count, processes, "processes", 1, MOST_PROCESSES)
    values.flag(resume, "resume")
    if not isinstance(watch, Watch):
        raise SpecError(f"watch: expected a Watch, got {shown(watch)}")
    from kvplan.measuring.device import machine as devices

    try:
        if output:
            check(output, rows or swapped(output, ".csv"))
        with watch.bar(time.monotonic, begun + length) as progress:
            progress(0.0, "loading torch")
            kind = devices.kind(device)
            output = output or f"profile-{kind}.yaml"
            rows = rows or swapped(output, ".csv")
            check(output, rows)
            progress(0.0, f"opening the {kind.upper()} device")
            machine = devices.find(device, processes)
        try:
            for remark in filter(None, (machine.remark, *prepare(rows, resume))):
                watch.tell(remark)
            opened = time.monotonic() - begun
            measure(machine, begun, length, rows, watch)
            must_hold_samples(rows, opened, length)
            with watch.bar(time.monotonic, begun + length) as progress:
                if machine.energy:
                    progress(1.0, "measuring energy")
                more = machine.more()
        finally:
            machine.close()
        with watch.bar(time.monotonic, begun + length) as progress:
            progress(1.0, "fitting")
            document = finish(machine, length, rows, output, more)
    except KeyboardInterrupt:
        raise Stopped(counted(rows), rows or "") from None
    return Profiled(document=document, output=output, rows=rows, seconds=time.monotonic() - begun)


def seconds(value: float | str) -> float:
    """Return a time such as 120s, 2min or 120, long enough to measure anything. [s]"""
    text = values.plain(value, "budget")
    seconds = parse(f"{text} s" if text.replace(".", "", 1).isdigit() else text, "s", "budget")
    if not LEAST <= seconds <= DAY:
        raise SpecError(f"budget: expected between {LEAST:g}s and a day, got {shown(text)}")
    return seconds


def check(output: str, rows: str) -> None:
    """Make sure, before anything is measured, that both files can be written and are not one."""
    if swapped(output, ".csv") == output or rows == output:
        raise SpecError(f"{output}: the profile is YAML and the samples are CSV; write output=mine.yaml")
    for word in (output, rows):
        must_be_writable(word)


def prepare(rows: str, resume: bool) -> list[str]:
    """Set samples of an earlier run aside unless they are gone on with; return what to tell the user."""
    if resume:
        return []
    from kvplan.measuring.device.course import COLUMNS

    aside = set_aside(rows, COLUMNS)
    return [f"samples of an earlier run are now in {aside}; resume=True goes on with them instead"] if aside else []


def counted(rows: str | None) -> int:
    """Return how many samples a file holds; 0 when there is none."""
    from kvplan.measuring.device.course import COLUMNS

    return sum(bool(row["latency_us"]) for row in read_samples(rows, COLUMNS)) if rows else 0


def measure(machine: "Device", begun: float, budget: float, rows: str, watch: Watch) -> None:
    """Take samples until they settle, the time is up or the device is lost."""
    import kvplan.measuring.linear  # noqa: F401 (loaded now, so that the fit at the end is quick)
    from kvplan.measuring.device import course as profiling
    from kvplan.measuring.device.probes import plan
    from kvplan.measuring.device.worker import Lost

    before = read_samples(rows, profiling.COLUMNS)
    stranger = next((row["gpu"] for row in before if row["gpu"] != machine.timer.gpu), None)
    if stranger:
        raise SpecError(f"{rows}: these samples are of {stranger}, this is {machine.timer.gpu}; use another file")
    deadline = begun + budget - min(machine.reserve, MOST_RESERVED * budget)
    shapes = profiling.begin(plan(machine.probes), before)
    log = SampleLog(rows, profiling.COLUMNS)
    if log.torn:
        watch.tell(f"the last line of {rows} was cut short; its sample is taken again")
    course = profiling.Course(machine.timer, log, time.monotonic, deadline, anchors=machine.anchors)
    try:
        with watch.bar(time.monotonic, deadline) as course.progress:
            profiling.measure(course, shapes, profiling.SEED + len(before))
    except Lost as error:
        watch.tell(f"{error}; the profile is of what was measured until then; go on with: {watch.again}")
    finally:
        log.close()


def must_hold_samples(rows: str, opened: float, budget: float) -> None:
    """Refuse to fit a file without a row: the device took all the time, or all but none, to open. [s]"""
    from kvplan.measuring.device.course import COLUMNS

    if not read_samples(rows, COLUMNS):
        raise KvplanError(
            f"no sample was taken: opening the device took {show_time(opened)}, too much of {show_time(budget)}; write "
            f"budget={4 * max(opened, budget):.0f}s"
        )


def finish(machine: "Device", budget: float, rows: str, output: str, more: dict[str, Any]) -> dict[str, Any]:
    """Fit the samples on disk and write the profile whole; more: what else was measured."""
    from kvplan.measuring.device import machine as devices

    if machine.facts.get("sensors") == "replay":
        raise KvplanError("a replayed trace measures nothing: no profile is written")
    fitted = refitted(rows)
    document = {
        "name": stem(output),
        "title": f"{machine.name}: {machine.label}",
        "source": {"kind": KINDS[0], "ref": f"kvplan profile of the {machine.kind}", "date": date.today().isoformat()},
        "tier": "measured here",
        "device": {"kind": machine.kind, "name": machine.name, **machine.facts},
        "versions": devices.versions(),
        "rows": base(rows),
        "budget": f"{budget:g} s",
        **more,
        **fitted,
    }
    write_profile(output, document, COMMENT)
    return document


def refitted(rows: str) -> dict[str, Any]:
    """Return what follows from the samples in a file."""
    from kvplan.measuring.device.course import COLUMNS
    from kvplan.measuring.samples import refit

    samples = read_samples(rows, COLUMNS)
    fitted = refit(samples)
    if not fitted["groups"]:
        why = f"; most failed: {fitted['failures'][0]['reason']}" if fitted["failures"] else ""
        raise KvplanError(
            f"{len(samples)} samples of too few shapes to fit anything{why}; they are in {rows}: go on with "
            "resume=True, or with a larger budget, as in budget=120s"
        )
    return fitted


def recalibrated(rows: str, output: str, heading: dict[str, Any]) -> dict[str, Any]:
    """Fit a profile's samples again and write it; what they do not hold (device, versions, energy) is `heading`'s.

    The profile beside the samples, where there is one, says the rest.
    """
    fitted = refitted(rows)
    beside = {key: value for key, value in profile_beside(rows).items() if key not in (*fitted, "kernels_note")}
    document = {**heading, **beside, "name": heading["name"], "rows": base(rows), **fitted}
    write_profile(output, document, COMMENT)
    return document
