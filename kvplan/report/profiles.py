"""Kernel profiles as text: coefficients with their meaning and errors, a roofline, measured against fitted times."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from kvplan.errors import visible
from kvplan.perf.kernel_profile import Fitted, Kernel, KernelProfile
from kvplan.report.tables import PLAIN_WIDTH, brief, console, grid, notes
from kvplan.units import TERA, show_rate, spell

Json = dict[str, Any]
#: where a kernel stands in a profile: GPU, engine, kind, 'kernel dtype', part
Place = tuple[str, str, str, str, str]
#: lines of a chart
HEIGHT = 20


def entries(profile: KernelProfile) -> Iterator[tuple[Place, Kernel, Fitted]]:
    """Yield every fitted part of every kernel."""
    for gpu, engines in profile.kernels.items():
        for engine, kinds in engines.items():
            for kind, kernels in kinds.items():
                for key, kernel in kernels.items():
                    for part, fitted in kernel.parts.items():
                        yield (gpu, engine, kind, key, part), kernel, fitted


def coefficients(fitted: Fitted) -> dict[str, tuple[str, str]]:
    """Return (value with unit, meaning) of each coefficient that was identified."""
    found = {}
    for f in fields(fitted.coefficients):
        value = getattr(fitted.coefficients, f.name)
        if f.name not in fitted.not_identified and value not in (float("inf"), 0.0):
            unit = f.metadata.get("unit")
            found[f.name] = (
                spell(value, unit) if unit and unit != "1" else f"{value:.4g}" if unit else str(value),
                f.metadata["meaning"],
            )
    return found


def accuracy(fitted: Fitted) -> str:
    """Return a fit's errors on rows left out, its interval and range, in one line."""
    r = fitted.residuals
    spans = ", ".join(f"{low:.2f} to {high:.2f} ({name})" for name, (low, high) in fitted.interval.items())
    ranges = ", ".join(f"{name} {low:,} to {high:,}" for name, (low, high) in fitted.range.items())
    missing = f"; not identified: {', '.join(fitted.not_identified)}" if fitted.not_identified else ""
    errors = f"{r['rows']:.0f} rows, median error {r['median']:.1%}, P90 {r['p90']:.1%}"
    return f"{errors}; 80% of measured / fitted: {spans}; fitted for {ranges}{missing}"


def report(profiles: Sequence[KernelProfile], kind: str | None) -> list[RenderableType]:
    """Return one profile's coefficients, or two side by side where they share a kernel."""
    parts: list[RenderableType] = [Text(f"{p.title} ({p.tier})", style="bold") for p in profiles]
    found = [{place[1:]: (kernel, fitted) for place, kernel, fitted in entries(p)} for p in profiles]
    for place in [p for p in found[0] if kind in (None, p[1]) and all(p in other for other in found)]:
        engine, what, key, part = place
        versions = ", ".join(dict.fromkeys(f[place][0].version for f in found))
        parts += [Text(), Text(f"{engine} {what}: {key}, {part} ({versions})", style="bold")]
        values = [coefficients(f[place][1]) for f in found]
        names = list(dict.fromkeys(name for shown in values for name in shown))
        table = grid(("coefficient", "left"), ("meaning", "wrap"), *((p.name, "fold") for p in profiles))
        for name in names:
            meaning = next(v[name][1] for v in values if name in v)
            table.add_row(name, meaning, *(v[name][0] if name in v else "-" for v in values))
        parts += [
            table,
            *(Text(f"{p.name}: {accuracy(f[place][1])}", style="dim") for p, f in zip(profiles, found, strict=True)),
        ]
    parts += [Text(), *roofline(profiles), Text()]
    return [*parts, *notes((f"{p.name}: {brief(p.source)}" for p in profiles), "Sources")]


def document(profiles: Sequence[KernelProfile], kind: str | None) -> Json:
    """Return the same as a JSON document."""
    shown = []
    for p in profiles:
        kernels = [
            {
                **dict(zip(("gpu", "engine", "kind", "kernel", "part"), place, strict=True)),
                "version": kernel.version,
                "coefficients": {n: {"value": v, "meaning": m} for n, (v, m) in coefficients(fitted).items()},
                "interval_80": {n: list(span) for n, span in fitted.interval.items()},
                "residuals": dict(fitted.residuals),
                "range": {n: list(span) for n, span in fitted.range.items()},
                "not_identified": list(fitted.not_identified),
            }
            for place, kernel, fitted in entries(p)
            if kind in (None, place[2])
        ]
        source = {"kind": p.source.kind, "ref": p.source.ref, "date": p.source.date}
        shown.append({"name": p.name, "title": p.title, "tier": p.tier, "source": source, "kernels": kernels})
    return {"schema": 1, "command": "show", "kind": "profile", "profiles": shown}


# -- charts ---------------------------------------------------------------------------------------


def chart(title: str, across: str, up: str, series: Sequence[tuple[str, list[float], list[float], str]]) -> Text:
    """Return a chart with logarithmic axes; a series is (label, x, y, marker; '': points are joined)."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(console().width, PLAIN_WIDTH) - 2, HEIGHT)
    plotext.xscale("log")
    plotext.yscale("log")
    for name, x, y, marker in series:
        label = visible(name)  # what is drawn is read back as ANSI text
        if marker:
            plotext.scatter(x, y, label=label, marker=marker)
        else:
            plotext.plot(x, y, label=label)
    plotext.title(visible(title))
    plotext.xlabel(across)
    plotext.ylabel(up)
    return Text.from_ansi(str(plotext.build()))


def roofline(profiles: Sequence[KernelProfile]) -> list[RenderableType]:
    """Return the rates that matrix products reach by FLOP per byte, and where memory stops binding."""
    lines, said = [], []
    for p in profiles:
        found = next((f for place, _, f in entries(p) if place[2] == "gemm" and "bfloat16" in place[3]), None)
        if found is None:
            continue
        rate, bandwidth = (float(getattr(found.coefficients, name)) for name in ("rate", "bandwidth"))
        intensity = [2.0**i for i in range(-1, 13)]
        lines.append((p.name, intensity, [min(rate, bandwidth * x) / TERA for x in intensity], ""))
        ridge = f"{rate / bandwidth:.0f} FLOP/B"
        said.append(f"{p.name}: {show_rate(rate, 'FLOP/s')} from {ridge} on, {show_rate(bandwidth, 'B/s')} below")
    if not lines:
        return []
    title = "Roofline of bf16 matrix products (start-up and waves left out)"
    return [chart(title, "FLOP per byte", "TFLOP/s", lines), *map(Text, said)]


def fitted_chart(title: str, measured: Sequence[float], predicted: Sequence[float]) -> list[RenderableType]:
    """Return measured against predicted times, with the line on which they are equal."""
    ends = [min(*measured, *predicted), max(*measured, *predicted)]
    series = [("rows", list(measured), list(predicted), "dot"), ("equal", ends, ends, "")]
    return [chart(title, "measured [us]", "predicted [us]", series)]
