"""What `kvplan profile` wrote, as text: coefficients with meaning and interval, samples against fit, a roofline."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from kvplan.measuring.linear import number
from kvplan.measuring.samples import Sampled, predicted, reduce
from kvplan.report.profiles import chart
from kvplan.report.tables import grid, notes
from kvplan.units import MILLION, show_rate

Json = dict[str, Any]
MEANINGS = {
    "start": "time of a call that moves and computes nothing",
    "bandwidth": "bytes read and written a second",
    "rate": "operations a second",
    "packing": "weights a second that a product of several rows rearranges first",
}
#: what groups are drawn as, by the first word of their names
MARKERS = {"copy": "c", "bandwidth": "b", "gemm": "g", "gemv": "v", "decode": "d", "prefill": "p", "all_reduce": "a"}
GIGA = 1e9
#: an interval wider than this, as a factor, is open at its far end
OPEN = 500.0


def heading(profile: Json) -> list[RenderableType]:
    """Return what was measured, when, on what, and how calm it was."""
    device, found = profile.get("device", {}), profile["samples"]
    facts = ", ".join(f"{key} {value}" for key, value in device.items() if key not in ("kind", "name"))
    versions = ", ".join(f"{key} {value}" for key, value in profile.get("versions", {}).items())
    drift = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in profile["drift"].items())
    source, busy = profile["source"], ", contended" if found["contended"] else ""
    lines = [
        f"{source['ref']} on {source['date']}; {profile['tier']}; {facts}"
        if facts
        else f"{source['ref']}, {source['date']}",
        versions,
        f"{found['shapes']} shapes, {found['taken']:,} samples (the {profile['estimate']} of each shape's), "
        f"{found['disturbed']:.0%} disturbed{busy}; drift within the run: {drift or 'not seen'}",
    ]
    return [Text(profile["title"], style="bold"), *(Text(line) for line in lines if line), Text()]


def coefficient_table(profile: Json) -> list[RenderableType]:
    """Return a line a coefficient with its interval, the errors of its group on shapes left out, what words mean."""
    headings = ("operators", "error", "80 % interval", "coefficient", "value", "80 % of it")
    table = grid(*zip(headings, ("left", "right", "left", "left", "right", "left"), strict=True))
    for name, group in profile["groups"].items():
        low, high = group["interval"]
        first = (name, f"{group['held_out']['mean']:.1%}", f"{low:.2f} to {high:.2f}")
        for key, text in group["coefficients"].items():
            table.add_row(*first, key, brief(text), between(key, group["spread"][key]))
            first = ("", "", "")
        if unknown := group["not_identified"]:
            table.add_row(*first, ", ".join(unknown), "-", "not identified")
    meanings = [f"{name}: {meaning}" for name, meaning in MEANINGS.items()]
    meanings += ["error: mean on shapes left out of the fit; 80 % interval: of measured over fitted"]
    return [table, Text(), *notes(meanings, "Meaning")]


def brief(text: str) -> str:
    """Return a coefficient as a profile spells it, in three digits."""
    value, unit = text.split(" ", 1)
    return f"{float(value):.3g} {unit.removeprefix('elements')}".replace(" /s", "/s")


def between(name: str, ends: Sequence[str]) -> str:
    """Return an interval; an end a thousand times away is none."""
    low, high = (number(name, end) for end in ends)
    if high < OPEN * low:
        (first, unit), (last, other) = (
            brief(end).split(" ") if " " in brief(end) else (brief(end), "") for end in ends
        )
        return f"{first}{'' if unit == other else f' {unit}'} to {last} {other}".rstrip()
    return f"at most {brief(ends[1])}" if name == "start" else f"at least {brief(ends[0])}"


def comparison(profiles: Sequence[Json]) -> list[RenderableType]:
    """Return the coefficients of two profiles side by side, of the groups both have."""
    first, second = profiles
    table = grid(
        ("operators", "left"), ("coefficient", "left"), *((p["name"], "right") for p in profiles), ("", "right")
    )
    for name in (n for n in first["groups"] if n in second["groups"]):
        mine, theirs = (p["groups"][name]["coefficients"] for p in profiles)
        for row, key in enumerate(dict.fromkeys((*mine, *theirs))):
            values = [brief(found[key]) if key in found else "-" for found in (mine, theirs)]
            ratio = number(key, theirs[key]) / number(key, mine[key]) if key in mine and key in theirs else None
            table.add_row(name if row == 0 else "", key, *values, "" if ratio is None else f"x {ratio:.2f}")
    return [part for p in profiles for part in heading(p)] + [table, Text()]


def report(profile: Json, samples: Sequence[Sampled]) -> list[RenderableType]:
    """Return one profile; charts need its samples."""
    parts = [*heading(profile), *coefficient_table(profile)]
    if not samples:
        return [*parts, *notes([f"{profile['rows']} is not there: no charts of samples"], "Notes")]
    rows = [
        (row, group) for row in reduce(samples, profile["estimate"]) if (group := profile["groups"].get(row["group"]))
    ]
    if not rows:
        return parts
    return [*parts, *fitted_chart(rows), Text(), *roofline(profile, rows)]


Rows = Sequence[tuple[Mapping[str, Any], Json]]


def by_marker(rows: Rows) -> Iterator[tuple[str, str, list[tuple[Mapping[str, Any], Json]]]]:
    """Yield (label, marker, rows) of each sort of operator."""
    for word, marker in MARKERS.items():
        mine = [(row, group) for row, group in rows if row["group"].split()[0] == word]
        if mine:
            yield f"{marker} {word}", marker, mine


def fitted_chart(rows: Rows) -> list[RenderableType]:
    """Return fitted over measured times of every shape."""
    series, times = [], []
    for label, marker, mine in by_marker(rows):
        measured = [row["time"] * MILLION for row, _ in mine]
        fitted = [predicted(row, group["coefficients"]) * MILLION for row, group in mine]
        series.append((label, measured, fitted, marker))
        times += [*measured, *fitted]
    ends = [min(times), max(times)]
    return [
        chart("Shapes: fitted against measured", "measured [us]", "fitted [us]", [("equal", ends, ends, ""), *series])
    ]


def roofline(profile: Json, rows: Rows) -> list[RenderableType]:
    """Return what shapes reach by operations per byte, below the rates their products and the copy were fitted with."""
    groups = profile["groups"]
    moved: Json = next(
        (groups[n]["coefficients"] for n in ("bandwidth read", "bandwidth copy", "copy") if n in groups), {}
    )
    points = [(row, group) for row, group in rows if float(row["flops"])]
    if "bandwidth" not in moved or not points:
        return []
    bandwidth = number("bandwidth", moved["bandwidth"])
    place = {id(row): float(row["flops"]) / float(row["bytes"]) for row, _ in points}
    least, most = min(place.values()), max(place.values())
    across = [least * (most / least) ** (step / 40) for step in range(41)]
    series, said = [], [f"memory: {show_rate(bandwidth, 'B/s')}"]
    for name, group in groups.items():
        if name.startswith("gemm") and "rate" in group["coefficients"]:
            rate = number("rate", group["coefficients"]["rate"])
            series.append((name, across, [min(rate, bandwidth * x) / GIGA for x in across], ""))
            said.append(f"{name}: {show_rate(rate, 'FLOP/s')} from {rate / bandwidth:.3g} FLOP/B on")
    for label, marker, mine in by_marker(points):
        reached = [float(row["flops"]) / row["time"] / GIGA for row, _ in mine]
        series.append((label, [place[id(row)] for row, _ in mine], reached, marker))
    title = "Roofline: lines as fitted, letters as measured"
    return [chart(title, "FLOP per byte", "GFLOP/s", series), Text("; ".join(said)), Text()]


def document(profiles: Sequence[Json]) -> Json:
    """Return the same as a JSON document: coefficients in base units."""
    shown = []
    for p in profiles:
        groups = [
            {
                "group": name,
                **group,
                "coefficients": {
                    key: {"value": number(key, text), "meaning": MEANINGS[key]}
                    for key, text in group["coefficients"].items()
                },
                "spread": {key: [number(key, end) for end in ends] for key, ends in group["spread"].items()},
            }
            for name, group in p["groups"].items()
        ]
        shown.append({**{k: v for k, v in p.items() if k not in ("groups", "kernels")}, "groups": groups})
    return {"schema": 1, "command": "show", "kind": "profile", "profiles": shown}
