"""`kvplan watch` in a table and JSON: load, measured and predicted times, and what to do where they differ."""

from collections.abc import Sequence

from kvplan.api.watch import Watched, moment
from kvplan.report.blocks import Column, Json, Page, Text, records, schema, table
from kvplan.units import show_count, show_number, show_percent, show_time

TTFT, TPOT = "ttft", "tpot"


def predicted(w: Watched, name: str) -> float | None:
    """Return a predicted time, None where nothing is predicted. [s]"""
    return None if w.predicted is None else float(getattr(w.predicted, name))


def ends(w: Watched, name: str) -> list[float] | None:
    """Return the ends of a predicted time's 80 % interval. [s]"""
    return None if w.predicted is None else list(getattr(w.predicted, f"{name}_range"))


def interval(w: Watched, name: str) -> str:
    """Return a predicted time with its 80 % interval."""
    time = predicted(w, name)
    span = ends(w, name)
    return "-" if time is None or span is None else f"{show_time(time)} ({show_time(span[0])} to {show_time(span[1])})"


WINDOW = (
    Column[Watched](key="seconds", value=lambda w: w.observed.seconds),
    Column[Watched](key="engine", value=lambda w: w.observed.engine),
    Column[Watched](key="model", value=lambda w: w.observed.model or None),
    Column[Watched](key="restarted", value=lambda w: w.observed.restarted),
    Column[Watched](key="requests", value=lambda w: w.observed.requests),
    Column[Watched](
        key="requests_per_second", heading="req/s", value=lambda w: w.observed.rate, show=show_number
    ),
    Column[Watched](
        key="in_flight", heading="in flight", value=lambda w: w.observed.in_flight, show=show_number
    ),
    Column[Watched](key="waiting", heading="queue", value=lambda w: w.observed.waiting, show=lambda x: f"{x:.0f}"),
    Column[Watched](key="input_tokens", heading="input", value=lambda w: w.observed.prompt, show=lambda x: f"{x:,.0f}"),
    Column[Watched](
        key="output_tokens", heading="output", value=lambda w: w.observed.output, show=lambda x: f"{x:,.0f}"
    ),
    Column[Watched](key="kv_usage", heading="cache used", value=lambda w: w.observed.usage, show=show_percent),
    Column[Watched](key="prefix_hit", heading="prefix hits", value=lambda w: w.observed.prefix_hit, show=show_percent),
    Column[Watched](
        key="preemptions", heading="preempted", value=lambda w: w.observed.preemptions, show=lambda x: f"{x:.0f}"
    ),
)  # fmt: skip
PLACE = (
    Column[Watched](key="server", heading="server", value=lambda w: w.server or None),
    Column[Watched](key="ended", heading="until (UTC)", value=lambda w: None if w.ended is None else moment(w.ended)),
)  # fmt: skip
SPENT = (
    Column[Watched](key="power.gpus", heading="GPUs", value=lambda w: w.spent and w.spent.gpus),
    Column[Watched](
        key="power.watts", heading="power", value=lambda w: w.spent and w.spent.power, show=lambda x: f"{x:,.0f} W"
    ),
    Column[Watched](
        key="power.joules_per_output_token", heading="energy a token", value=lambda w: w.spent and w.spent.energy,
        show=lambda x: f"{x:.3g} J",
    ),
)  # fmt: skip
TIMES = (
    Column[Watched](key="ttft.mean", heading="TTFT", value=lambda w: w.observed.ttft.mean, show=show_time),
    Column[Watched](key="ttft.p50", value=lambda w: w.observed.ttft.p50),
    Column[Watched](key="ttft.p95", heading="P95", value=lambda w: w.observed.ttft.p95, show=show_time),
    Column[Watched](
        key="ttft.predicted", heading="predicted", value=lambda w: predicted(w, TTFT), cell=lambda w: interval(w, TTFT)
    ),
    Column[Watched](key="ttft.predicted_range", value=lambda w: ends(w, TTFT)),
    Column[Watched](key="tpot.mean", heading="TPOT", value=lambda w: w.observed.tpot, show=show_time),
    Column[Watched](
        key="tpot.predicted", heading="predicted", value=lambda w: predicted(w, TPOT), cell=lambda w: interval(w, TPOT)
    ),
    Column[Watched](key="tpot.predicted_range", value=lambda w: ends(w, TPOT)),
    Column[Watched](key="reason", value=lambda w: w.reason or None),
)  # fmt: skip


def page(windows: Sequence[Watched]) -> Page:
    """Return the report of the windows that were watched."""
    if not windows:
        return Page.of(Text("Nothing was watched to its end.", "warning"))
    last = windows[-1]
    place = PLACE if last.ended is not None else ()
    return Page.of(
        Text(answer(last), "answer"),
        Text(anew(windows), "warning") if any(w.observed.restarted for w in windows) else None,
        table("Load", (*place, *WINDOW), windows),
        table("Times: measured, and predicted for that load with the 80 % interval", (*place, *TIMES), windows),
        table("Power of this machine's GPUs", SPENT, windows) if last.spent else None,
        Text(advice(last), "quiet"),
    )


def anew(windows: Sequence[Watched]) -> str:
    """Return what to know of windows in which a server was started anew."""
    anew_ones = [w for w in windows if w.observed.restarted]
    places = [f"{w.server} until {moment(w.ended)}".strip() if w.ended is not None else "" for w in anew_ones]
    named = f" ({', '.join(p for p in places if p)})" if any(places) else ""
    return (
        f"The server was started anew within {show_count(len(places), 'window')} of {len(windows)}{named}: counts and "
        "times are of what came after, and what was before it within the window is lost. The load is a mean over the "
        "time since its process was started, or over the whole window where its page does not say when that was."
    )


def answer(w: Watched) -> str:
    """Return what was measured in the last window, in a sentence."""
    o = w.observed
    text = (
        f"{o.model or 'The server'} ({o.engine}) ended {show_number(o.rate)} requests/s with "
        f"{show_number(o.in_flight)} in flight: mean TTFT {show_time(o.ttft.mean)}, mean TPOT {show_time(o.tpot)}."
    )
    if w.predicted is None:
        return f"{text} Nothing is predicted: {w.reason}."
    return f"{text} {verdict('TPOT', o.tpot, predicted(w, TPOT) or 0.0, ends(w, TPOT) or [])}."


def verdict(name: str, measured: float, time: float, span: Sequence[float]) -> str:
    """Return how far a measured time is from its prediction, and whether that is within its interval."""
    off = measured / time - 1 if time else 0.0
    inside = span[0] <= measured <= span[1]
    side = "slower" if off > 0 else "faster"
    return f"{name} is {show_percent(abs(off))} {side} than predicted, {'within' if inside else 'outside'} the interval"


def advice(w: Watched) -> str:
    """Return how these windows move predictions."""
    held = (
        "TTFT is not used where more than 5 % of the input came from the prefix cache. " if not w.row["ttft_ms"] else ""
    )
    return (
        f"{held}Predictions rest on the profile {w.profile!r}. To move them to this server, save the windows with "
        "output=rows.csv and give them to kvplan calibrate."
    )  # fmt: skip


def document(windows: Sequence[Watched]) -> Json:
    """Return the document of `kvplan watch`."""
    return schema("watch", windows=records((*PLACE, *WINDOW, *TIMES, *SPENT), windows))
