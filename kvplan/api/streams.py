"""Where the requests of a simulation come from: a trace, or a workload's own arrivals."""

from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.api import values
from kvplan.api.demands import workload_at
from kvplan.catalog.rows.tables import stem
from kvplan.catalog.rows.traces import pieces as trace_pieces
from kvplan.catalog.rows.traces import unread_prefixes
from kvplan.errors import SpecError, WrongUse, shown
from kvplan.perf.simulate.arrivals import Gaps, RateCourse, drawn, sharing, steady
from kvplan.perf.simulate.run import Piece
from kvplan.perf.simulate.streams import Extent, extent, hastened, multiplied
from kvplan.planning.simulating.results import FOREVER, Source
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Workload
from kvplan.units import HOUR, MINUTE, show_count, show_time

#: requests that are kept in memory between simulations; more are read or drawn anew
KEPT = 400_000
#: a trace times more, or faster, than anyone has
LEAST, MOST = 1e-3, 1e4
#: requests that are drawn at most: more take hours
MOST_DRAWN = 1e8
#: time before the one that is looked at, and the longest one that is drawn [s]
WARM, LONGEST = 10 * MINUTE, 31 * 24 * HOUR


@dataclass(frozen=True, kw_only=True)
class RequestStream:
    """A stream of requests that can be had again and again."""

    title: str  #: in words
    source: Source  #: gives it anew
    extent: Extent  #: what is in it
    workload: Workload | None  #: whose requests they are, None for a trace
    warm: float  #: requests before this warm up caches and queues [s]
    until: float  #: end of those that are counted [s]
    notes: tuple[str, ...]  #: what to know of it


def requests_of(
    trace: str | None, workload: str | None, model: ModelSpec, *, queries_per_day: float | str | None,
    rate: float | str | None, duration: float | str | None, scale: float | str, speed: float | str, seed: int,
) -> RequestStream:  # fmt: skip
    """Return the stream that was asked for."""
    if (trace is None) == (workload is None):
        raise WrongUse("trace, workload: give one of them: a file of requests, or a workload whose requests are drawn")
    more, faster = (times(value, name) for value, name in ((scale, "scale"), (speed, "speed")))
    if trace is not None:
        if queries_per_day is not None or rate is not None or duration is not None:
            raise WrongUse("queries_per_day, rate, duration: a trace has its own; write scale=10 or speed=2")
        return of_trace(values.word(trace, "trace"), more, faster, seed)
    if faster != 1.0 or more != 1.0:
        raise WrongUse("scale, speed: are of a trace; a workload's volume is set with rate= or queries_per_day=")
    asked = workload_at(values.word(workload, "workload"), model, values.per_day(queries_per_day, rate))
    return of_workload(asked, values.given(values.seconds, duration, "duration"), seed)


def times(value: float | str, name: str) -> float:
    """Return a factor, as in '10x' or 10."""
    text = values.plain(value, name)
    return values.number(text.removesuffix("x"), name, LEAST, MOST)


def of_trace(word: str, more: float, faster: float, seed: int) -> RequestStream:
    """Return a trace's requests; it is read once from beginning to end before anything is simulated."""

    def anew() -> Iterable[Piece]:
        pieces: Iterable[Piece] = trace_pieces(word)
        pieces = hastened(pieces, faster) if faster != 1.0 else pieces
        return multiplied(pieces, more, seed) if more != 1.0 else pieces

    known = extent(anew())
    if not known.requests:
        raise SpecError(f"{word}: none of its requests got an answer")
    be = "is" if known.failed == 1 else "are"
    left = f"{show_count(known.failed, 'request')} of the trace got no answer and {be} left out"
    changed = f", {more:g} times as many requests" * (more != 1) + f", {faster:g} times as fast" * (faster != 1)
    return RequestStream(
        title=f"{stem(word)}{changed}", source=kept(anew, known), extent=known, workload=None, warm=0.0,
        until=FOREVER, notes=(*([left] if known.failed else ()), *unread(word)),
    )  # fmt: skip


def unread(word: str) -> Iterable[str]:
    """Yield that columns which sound like shared prefixes were not read, and what is."""
    if columns := unread_prefixes(word):
        what, is_ = ("column", "is") if len(columns) == 1 else ("columns", "are")
        yield (
            f"the trace's {what} {shown(', '.join(columns))} {is_} not read: requests that share a prefix have the "
            "same text in a column prefix of a trace with arrival, input and output, and its length in prefix_tokens"
        )


def of_workload(w: Workload, duration: float | None, seed: int) -> RequestStream:
    """Return a workload's requests: its busiest hour, or a day from midnight on; an offline one's mean rate."""
    a = w.arrivals
    seconds = HOUR if duration is None else duration
    if seconds > LONGEST:
        raise SpecError(f"duration: at most {LONGEST / HOUR:g}h, got {show_time(seconds)}")
    if seconds <= HOUR or w.offline:
        return at_peak(w, seconds, seed)
    warm = warm_up(w)
    check_volume(a.mean_rate * (seconds + warm))
    course = steady([a.rate(h) for h in range(round(seconds / HOUR))], HOUR, warm)
    return at_rates(w, course, warm, f"{day_of(w, seconds)} from midnight on", seed)


def at_peak(w: Workload, seconds: float, seed: int) -> RequestStream:
    """Return a workload's requests at the rate of its busiest hour, or an offline one's mean rate, for so long."""
    rate = peak_or_mean_rate(w)
    warm = MINUTE * max(round(min(warm_up(w), 2 * seconds) / MINUTE), 1)
    check_volume(rate * (seconds + warm))
    return at_rates(w, steady([rate], seconds, warm), warm, title(w, seconds), seed)


def peak_or_mean_rate(w: Workload) -> float:
    """Return the rate of a workload's busiest hour, an offline one's mean rate. [1/s]"""
    return w.arrivals.mean_rate if w.offline else w.arrivals.peak_rate


def warm_up(w: Workload) -> float:
    """Return the time before the requests that are counted: sessions begun earlier go on in them. [s]"""
    shared = sharing(w)
    return max(WARM, MINUTE * round(2 * shared.each * shared.between / MINUTE) if shared else 0.0)


def at_rates(w: Workload, course: RateCourse, warm: float, title: str, seed: int) -> RequestStream:
    """Return a workload's requests at rates that are given, the first `warm` seconds of them not counted."""

    def anew() -> Iterable[Piece]:
        return drawn(w, course, gaps=gaps_of(w), seed=seed)

    known = extent(anew())
    if not known.requests:
        raise SpecError(
            f"duration: no request of {w.name} comes in {show_time(course.duration - warm)}; simulate a longer time"
        )
    return RequestStream(
        title=title, source=kept(anew, known), extent=known, workload=w, warm=warm,
        until=course.duration, notes=tuple(notes(w)),
    )  # fmt: skip


def title(w: Workload, seconds: float) -> str:
    """Return requests at a workload's peak in words: which rate is the day's mean, and how long the peak lasts."""
    a = w.arrivals
    if w.offline:
        return f"{w.title}, {show_time(seconds)} at its mean rate of {a.mean_rate:.3g}/s"
    which = "in its busiest hour" if seconds <= HOUR else "at the rate of its busiest hour"
    return f"{day_of(w, seconds)} {which} ({a.peak_rate / a.mean_rate:.3g} times that)"


def day_of(w: Workload, seconds: float) -> str:
    """Return a workload, its mean rate and the time that is drawn in words."""
    return f"{w.title} at {w.arrivals.mean_rate:.3g}/s on the day's average, {show_time(seconds)}"


def check_volume(requests: float) -> None:
    """Refuse more requests than anyone waits for."""
    if requests > MOST_DRAWN:
        raise SpecError(
            f"rate, queries_per_day, duration: would draw {requests:,.0f} requests, warm-up included, and "
            f"{MOST_DRAWN:,.0f} are the most; write a lower rate or a shorter duration"
        )


def gaps_of(w: Workload) -> Gaps:
    """Return the variation of the arrivals, as plans have it (`Demand.waits_at`).

    Where single gaps vary more than the busiest minute allows, requests come at that minute's rate or not at all.
    """
    a = w.arrivals
    if (1 + a.burstiness**2) / 2 > a.busiest_minute > 1:
        return Gaps(variation=a.burstiness, peak=a.busiest_minute)
    return Gaps(variation=a.burstiness)


def notes(w: Workload) -> Iterable[str]:
    """Yield what a drawn stream leaves out."""
    if w.visual:
        yield "the time that images are encoded in is not simulated"


def kept(anew: Source, known: Extent) -> Source:
    """Return a source that keeps a short stream in memory."""
    if known.requests > KEPT:
        return anew
    pieces = list(anew())
    return lambda: pieces
