"""A profile of servers in words, tables and JSON: terms with meaning, values by server, intervals, rows measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.report.blocks import Block, Column, Heading, Json, Page, Text, grid, notes, record, records, schema, table
from kvplan.report.sources import brief, source
from kvplan.specs.calibration import ALL, FACTOR, TERMS, Range, Term
from kvplan.specs.identity import Identity
from kvplan.specs.serving_profile import ServingProfile
from kvplan.units import show_count, show_time

#: servers side by side in one table
ABREAST = 4
#: terms that differ between GPUs, engines or both
OWN = tuple(term for term in TERMS if term.kind != FACTOR)


@dataclass(frozen=True)
class Valued:
    """A term and its value before anything is known of GPU and engine."""

    term: Term  #: the term
    value: float  #: in its unit, or as a share


@dataclass(frozen=True)
class MeasuredServer:
    """What was measured on a GPU under an engine."""

    gpu: str  #: the GPU's name
    engine: str  #: the engine's name
    rows: int  #: rows fitted
    models: tuple[str, ...]  #: names of the models measured, sorted
    values: dict[str, float]  #: term -> value for the pair


@dataclass(frozen=True)
class Interval:
    """Where 80 % of measured over predicted times lie."""

    who: str  #: what a prediction rests on, or a GPU and an engine
    tpot: Range  #: of TPOT
    ttft: Range  #: of TTFT


def write(term: Term, reached: float) -> str:
    """Return a term's value as tables show it."""
    return show_time(reached) if term.unit == "s" else f"{reached:.3g}"


def ends(r: Range) -> list[float]:
    """Return a range as a list for JSON."""
    return [r.low, r.high]


def between(ends: Sequence[float]) -> str:
    """Return a range as '0.75 to 1.27'."""
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


TERM = (
    Column[Valued](key="term", heading="term", value=lambda v: v.term.name, align="left"),
    Column[Valued](key="value", heading="value", value=lambda v: v.value, cell=lambda v: write(v.term, v.value)),
    Column[Valued](key="unit", value=lambda v: v.term.unit),
    Column[Valued](key="meaning", heading="meaning", value=lambda v: v.term.meaning, align="left", wraps=True),
    Column[Valued](key="share", value=lambda v: v.term.share),
)
SERVER = (
    Column[MeasuredServer](key="gpu", value=lambda s: s.gpu),
    Column[MeasuredServer](key="engine", value=lambda s: s.engine),
    Column[MeasuredServer](heading="measured", value=lambda s: f"{s.gpu} {s.engine}", align="left"),
    Column[MeasuredServer](key="rows", heading="rows", value=lambda s: s.rows, show=lambda n: f"{n:,}"),
    Column[MeasuredServer](
        key="models", heading="models", value=lambda s: list(s.models), show=", ".join, align="left", wraps=True
    ),
    Column[MeasuredServer](key="values", value=lambda s: s.values),
)
INTERVAL = (
    Column[Interval](heading="80 % of measured / predicted", value=lambda i: i.who, align="left"),
    Column[Interval](key="tpot", heading="TPOT", value=lambda i: ends(i.tpot), show=between, align="left"),
    Column[Interval](key="ttft", heading="TTFT", value=lambda i: ends(i.ttft), show=between, align="left"),
)


def terms(profile: ServingProfile) -> list[Valued]:
    """Return every term with its value for a server of which nothing is known."""
    values = profile.values(Identity(gpu="", engine=""), speculative=True)
    return [Valued(term, values[term.name]) for term in ALL]


def servers(profile: ServingProfile) -> list[MeasuredServer]:
    """Return the servers that were measured, with the values of their terms."""
    return [
        MeasuredServer(
            gpu,
            engine,
            profile.rows.get((gpu, engine), 0),
            tuple(models),
            profile.values(Identity(gpu=gpu, engine=engine)),
        )
        for (gpu, engine), models in profile.measured.items()
    ]


def intervals(profile: ServingProfile) -> list[Interval]:
    """Return the 80 % intervals of a profile."""
    return [Interval(who, *ranges) for who, ranges in profile.ranges.items()]


def page(profile: ServingProfile) -> Page:
    """Return a profile's terms, their values by server, its intervals, and what was measured."""
    count = sum(map(bool, profile.moves.get("releases", {}).values()))
    lines = [f"{', '.join(profile.speculative)}: with speculative decoding"] if profile.speculative else []
    own = "has factors of its own" if count == 1 else "have factors of their own"
    versions = f"{show_count(count, 'engine version')} {own}"
    lines.append(f"Kernel launches take the same time on all servers; {versions}.")
    return Page.of(
        Text(f"{profile.title or profile.name} (servers {profile.tier})", "answer"),
        table("", TERM, terms(profile)),
        side_by_side(servers(profile)),
        table("", INTERVAL, intervals(profile)),
        table("", SERVER, servers(profile)),
        notes("Notes", lines),
        notes("Source", [brief(profile.source)]),
    )


def side_by_side(servers: Sequence[MeasuredServer]) -> Iterator[Block]:
    """Yield tables of what servers' terms are worth, a few servers abreast."""
    for first in range(0, len(servers), ABREAST):
        some = servers[first : first + ABREAST]
        headings = (Heading("term"), *(Heading(f"{s.gpu} {s.engine}", "right") for s in some))
        yield grid("", headings, ([t.name, *(write(t, s.values[t.name]) for s in some)] for t in OWN))


def document(profile: ServingProfile) -> Json:
    """Return the document of `kvplan show profile` for a profile of servers."""
    made: dict[str, Any] = {
        "name": profile.name,
        "title": profile.title,
        "tier": profile.tier,
        "of": "servers",
        "source": source(profile.source),
        "terms": records(TERM, terms(profile)),
        "servers": records(SERVER, servers(profile)),
        "intervals_80": {i.who: record(INTERVAL, i) for i in intervals(profile)},
        "speculative": list(profile.speculative),
    }
    return schema("show", kind="profile", profiles=[made])
