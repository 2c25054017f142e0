"""A profile as `kvplan profile` wrote it, in words, charts, tables and JSON: coefficients, samples against fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.measuring.linear import number
from kvplan.measuring.samples import Sampled, predicted, reduce
from kvplan.report.blocks import Block, Chart, Column, Heading, Json, Page, Series, Text, grid, notes, schema, table
from kvplan.report.fields import finite
from kvplan.units import MILLION, show_count, show_percent, show_rate

MEANINGS = {
    "start": "time of a call that moves and computes nothing",
    "bandwidth": "bytes read and written a second",
    "rate": "operations a second",
    "packing": "weights a second that a product of several rows rearranges first",
}
#: sorts of operators a chart tells apart: the first words of groups' names
SORTS = ("copy", "bandwidth", "gemm", "gemv", "decode", "prefill", "all_reduce")
GIGA = 1e9
#: an interval wider than this, as a factor, is open at its far end
OPEN = 500.0
#: points of a drawn line
POINTS = 41


# -- words ----------------------------------------------------------------------------------------


def heading(profile: Json) -> Iterator[Block]:
    """Yield what was measured, when, on what, and how calm it was."""
    device = profile.get("device", {})
    samples = profile["samples"]
    facts = ", ".join(f"{key} {value}" for key, value in device.items() if key not in ("kind", "name"))
    source = profile["source"]
    busy = ", device shared with other work" if samples["contended"] else ""
    drift = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in profile["drift"].items())
    origin = f"{source['ref']} on {source['date']}; {profile['tier']}; {facts}"
    yield Text(profile["title"], "answer")
    yield Text(origin if facts else f"{source['ref']}, {source['date']}")
    yield Text(", ".join(f"{key} {value}" for key, value in profile.get("versions", {}).items()))
    counts = f"{show_count(samples['shapes'], 'shape')}, {show_count(samples['taken'], 'sample')}"
    disturbed = f"{show_percent(samples['disturbed'])} disturbed{busy}"
    yield Text(
        f"{counts} (the {profile['estimate']} of each shape's), {disturbed}; drift within the run: {drift or 'none'}"
    )


def brief(text: str) -> str:
    """Return a coefficient as a profile spells it, in three digits."""
    value, unit = text.split(" ", 1)
    return f"{float(value):.3g} {unit.removeprefix('elements')}".replace(" /s", "/s")


def between(name: str, ends: Sequence[str]) -> str:
    """Return an interval; an end a thousand times away is none."""
    low, high = (number(name, end) for end in ends)
    if high >= OPEN * low:
        return f"at most {brief(ends[1])}" if name == "start" else f"at least {brief(ends[0])}"
    (first, _, unit), (last, _, other) = (brief(end).partition(" ") for end in ends)
    return f"{first}{'' if unit == other else f' {unit}'} to {last} {other}".rstrip()


@dataclass(frozen=True, kw_only=True)
class CoefficientLine:
    """A coefficient of a group of operators, or those it could not identify; the first line bears the group's name."""

    name: str  #: of the group
    group: Json  #: the group as the profile's file holds it
    first: bool  #: whether it bears the group's name
    key: str  #: the coefficient, or the names of those not identified
    text: str | None  #: its value, None for those not identified


def once(write: Any) -> Any:
    """Return a cell that stands only on a group's first line."""
    return lambda line: write(line) if line.first else ""


COEFFICIENT = (
    Column[CoefficientLine](heading="operators", value=lambda x: x.name, cell=once(lambda x: x.name), align="left"),
    Column[CoefficientLine](heading="coefficient", value=lambda x: x.key, align="left"),
    Column[CoefficientLine](heading="value", value=lambda x: x.text, show=brief),
    Column[CoefficientLine](
        heading="80 % of it", value=lambda x: x.text, align="left", wraps=True,
        cell=lambda x: between(x.key, x.group["spread"][x.key]) if x.text else "not identified",
    ),
    Column[CoefficientLine](
        heading="error", value=lambda x: x.group["held_out"]["mean"],
        cell=once(lambda x: show_percent(x.group["held_out"]["mean"], 1)),
    ),
    Column[CoefficientLine](
        heading="80 % interval", value=lambda x: x.group["interval"],
        cell=once(lambda x: "{:.2f} to {:.2f}".format(*x.group["interval"])), align="left",
    ),
)  # fmt: skip


def coefficient_lines(profile: Json) -> Iterator[CoefficientLine]:
    """Yield a line a coefficient, and one for those a group could not identify."""
    for name, group in profile["groups"].items():
        coefficients: list[tuple[str, str | None]] = [*group["coefficients"].items()]
        if unknown := group["not_identified"]:
            coefficients.append((", ".join(unknown), None))
        for n, (key, text) in enumerate(coefficients):
            yield CoefficientLine(name=name, group=group, first=n == 0, key=key, text=text)


def comparison(profiles: Sequence[Json]) -> Page:
    """Return the coefficients of two profiles side by side, of the groups both have."""
    right = [Heading(text, "right") for text in (*(p["name"] for p in profiles), "")]
    rows = side_by_side(*profiles)
    return Page.of(*map(heading, profiles), grid("", ("operators", "coefficient", *right), rows, keys=2))


def side_by_side(first: Json, second: Json) -> Iterator[list[str]]:
    """Yield a row a coefficient: its value in each profile, and the second over the first."""
    for name in (n for n in first["groups"] if n in second["groups"]):
        mine, theirs = (p["groups"][name]["coefficients"] for p in (first, second))
        for n, key in enumerate(dict.fromkeys((*mine, *theirs))):
            values = [brief(each[key]) if key in each else "-" for each in (mine, theirs)]
            both = key in mine and key in theirs
            ratio = f"x {number(key, theirs[key]) / number(key, mine[key]):.2f}" if both else ""
            yield [name if n == 0 else "", key, *values, ratio]


def page(profile: Json, samples: Sequence[Sampled]) -> Page:
    """Return one profile; charts need its samples."""
    meanings = [f"{name}: {meaning}" for name, meaning in MEANINGS.items()]
    meanings.append("error: mean on held-out shapes; 80 % interval: of measured over fitted times")
    reduced = reduce(samples, profile["estimate"])
    rows = [(row, group) for row in reduced if (group := profile["groups"].get(row["group"]))]
    return Page.of(
        heading(profile),
        table("", COEFFICIENT, coefficient_lines(profile), keys=2),
        notes("Meaning", meanings),
        fitted_chart(rows) if rows else None,
        roofline(profile, rows),
        None
        if samples
        else notes("Notes", [f"There are no charts of samples, because {profile['rows']} does not exist."]),
    )


# -- charts ---------------------------------------------------------------------------------------

Rows = Sequence[tuple[Mapping[str, Any], Json]]


def by_sort(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """Yield the rows of each sort of operator that there is."""
    for sort in SORTS:
        if mine := [(row, group) for row, group in rows if row["group"].split()[0] == sort]:
            yield sort, mine


def fitted_chart(rows: Rows) -> Chart:
    """Return fitted over measured times of every shape."""
    points = []
    for sort, mine in by_sort(rows):
        measured = tuple(row["time"] * MILLION for row, _ in mine)
        fitted = tuple(predicted(row, group["coefficients"]) * MILLION for row, group in mine)
        points.append(Series(sort, measured, fitted, joined=False))
    times = [t for s in points for t in (*s.x, *s.y)]
    ends = (min(times), max(times))
    equal = Series("equal", ends, ends)
    return Chart("Shapes: fitted against measured", "measured [us]", "fitted [us]", (equal, *points))


def roofline(profile: Json, rows: Rows) -> Iterator[Block]:
    """Yield what shapes reach by operations per byte, below the rates their products and the copy were fitted with."""
    groups = profile["groups"]
    moved: Json = next(
        (groups[n]["coefficients"] for n in ("bandwidth read", "bandwidth copy", "copy") if n in groups), {}
    )
    worked = [(row, group) for row, group in rows if float(row["flops"])]
    if "bandwidth" not in moved or not worked:
        return
    bandwidth = number("bandwidth", moved["bandwidth"])
    least, most = (end(intensity(row) for row, _ in worked) for end in (min, max))
    across = tuple(least * (most / least) ** (step / (POINTS - 1)) for step in range(POINTS))
    rates = {
        name: number("rate", group["coefficients"]["rate"])
        for name, group in groups.items()
        if name.startswith("gemm") and "rate" in group["coefficients"]
    }
    lines = [Series(n, across, tuple(min(rate, bandwidth * x) / GIGA for x in across)) for n, rate in rates.items()]
    yield Chart(
        "Roofline: lines as fitted, letters as measured", "FLOP per byte", "GFLOP/s", (*lines, *reached(worked))
    )
    ridges = (
        f"{name}: {show_rate(rate, 'FLOP/s')} from {rate / bandwidth:.3g} FLOP/B on" for name, rate in rates.items()
    )
    yield Text("; ".join((f"memory: {show_rate(bandwidth, 'B/s')}", *ridges)))


def intensity(row: Mapping[str, Any]) -> float:
    """Return the operations of a shape per byte it moves. [FLOP/B]"""
    return float(row["flops"]) / float(row["bytes"])


def reached(rows: Rows) -> Iterator[Series]:
    """Yield what shapes reached, a series a sort of operator. [GFLOP/s]"""
    for sort, mine in by_sort(rows):
        speeds = tuple(float(row["flops"]) / row["time"] / GIGA for row, _ in mine)
        yield Series(sort, tuple(intensity(row) for row, _ in mine), speeds, joined=False)


# -- JSON -----------------------------------------------------------------------------------------


def document(profiles: Sequence[Json]) -> Json:
    """Return the document of `kvplan show profile` for what `kvplan profile` measured: base units."""
    shown = [
        {
            **{k: v for k, v in p.items() if k not in ("groups", "kernels")},
            "groups": [group_document(name, group) for name, group in p["groups"].items()],
        }
        for p in profiles
    ]
    return schema("show", kind="profile", profiles=finite(shown))


def group_document(name: str, group: Json) -> Json:
    """Return a group of operators: coefficients with their meaning, intervals as numbers."""
    values = {
        key: {"value": number(key, text), "meaning": MEANINGS[key]} for key, text in group["coefficients"].items()
    }
    spread = {key: [number(key, end) for end in ends] for key, ends in group["spread"].items()}
    return {"group": name, **group, "coefficients": values, "spread": spread}
