"""Profiles of kernels in words, charts, tables and JSON: coefficients with meaning and errors, a roofline, a check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from kvplan.api.show import Checked
from kvplan.perf.kernel_profile import Fitted, Kernel, KernelProfile
from kvplan.report.blocks import Block, Chart, Column, Heading, Json, Page, Series, Text, grid, notes, records, schema
from kvplan.report.sources import brief, source
from kvplan.units import MILLION, TERA, show_count, show_percent, show_rate, spell


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A fitted part of a kernel, and where it stands in a profile."""

    gpu: str  #: the GPU's name
    engine: str  #: the engine's name
    kind: str  #: kind of kernel
    key: str  #: kernel and dtypes
    part: str  #: part of the kernel, fitted by itself
    kernel: Kernel  #: the kernel, with its version
    fitted: Fitted  #: coefficients, errors and intervals

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Return what two profiles may share."""
        return self.engine, self.kind, self.key, self.part


def entries(profile: KernelProfile, kind: str | None = None) -> Iterator[Entry]:
    """Yield every fitted part of every kernel, of one kind when it is named."""
    for gpu, engines in profile.kernels.items():
        for engine, kinds in engines.items():
            for what, kernels in kinds.items():
                for key, kernel in kernels.items() if kind in (None, what) else ():
                    for part, fitted in kernel.parts.items():
                        yield Entry(gpu=gpu, engine=engine, kind=what, key=key, part=part, kernel=kernel, fitted=fitted)


def coefficients(fitted: Fitted) -> dict[str, tuple[str, str]]:
    """Return (value with unit, meaning) of each coefficient that was identified."""
    written = {}
    for f in fields(fitted.coefficients):
        value = getattr(fitted.coefficients, f.name)
        if f.name not in fitted.not_identified and value not in (float("inf"), 0.0):
            unit = f.metadata.get("unit")
            text = spell(value, unit) if unit and unit != "1" else f"{value:.4g}" if unit else str(value)
            written[f.name] = (text, f.metadata["meaning"])
    return written


ENTRY = (
    Column[Entry](key="gpu", value=lambda e: e.gpu),
    Column[Entry](key="engine", value=lambda e: e.engine),
    Column[Entry](key="kind", value=lambda e: e.kind),
    Column[Entry](key="kernel", value=lambda e: e.key),
    Column[Entry](key="part", value=lambda e: e.part),
    Column[Entry](key="version", value=lambda e: e.kernel.version),
    Column[Entry](
        key="coefficients",
        value=lambda e: {n: {"value": v, "meaning": m} for n, (v, m) in coefficients(e.fitted).items()},
    ),
    Column[Entry](key="interval_80", value=lambda e: {n: list(span) for n, span in e.fitted.interval.items()}),
    Column[Entry](key="residuals", value=lambda e: dict(e.fitted.residuals)),
    Column[Entry](key="range", value=lambda e: {n: list(span) for n, span in e.fitted.range.items()}),
    Column[Entry](key="not_identified", value=lambda e: list(e.fitted.not_identified)),
)


def accuracy(fitted: Fitted) -> str:
    """Return a fit's errors on held-out rows, its interval and range, in one line."""
    r = fitted.residuals
    spans = ", ".join(f"{low:.2f} to {high:.2f} ({name})" for name, (low, high) in fitted.interval.items())
    ranges = ", ".join(f"{name} {low:,} to {high:,}" for name, (low, high) in fitted.range.items())
    missing = f"; not identified: {', '.join(fitted.not_identified)}" if fitted.not_identified else ""
    errors = f"median error {show_percent(r['median'], 1)}, P90 {show_percent(r['p90'], 1)}"
    rows = show_count(round(r["rows"]), "row")
    return f"{rows}, {errors}; 80 % interval of measured / fitted: {spans}; fitted for {ranges}{missing}"


def page(profiles: Sequence[KernelProfile], kind: str | None, checked: Checked | None = None) -> Page:
    """Return one profile's coefficients, or two side by side where they share a kernel; then what was checked."""
    placed = [{e.place: e for e in entries(p, kind)} for p in profiles]
    shared = [place for place in placed[0] if all(place in other for other in placed)]
    return Page.of(
        (Text(f"{p.title} ({p.tier})", "answer") for p in profiles),
        *(kernel_blocks(profiles, [each[place] for each in placed]) for place in shared),
        roofline(profiles),
        notes("Sources", (f"{p.name}: {brief(p.source)}" for p in profiles)),
        check_chart(checked) if checked else None,
    )


def kernel_blocks(profiles: Sequence[KernelProfile], same: Sequence[Entry]) -> Iterator[Block]:
    """Yield the coefficients of one kernel in each profile, and what each fit is worth."""
    first = same[0]
    values = [coefficients(e.fitted) for e in same]
    versions = ", ".join(dict.fromkeys(e.kernel.version for e in same))
    meanings = {name: meaning for shown in reversed(values) for name, (_, meaning) in shown.items()}
    wide = [Heading(text, wraps=True) for text in ("meaning", *(p.name for p in profiles))]
    yield grid(
        f"{first.engine} {first.kind}: {first.key}, {first.part} ({versions})",
        (Heading("coefficient"), *wide),
        (
            [name, meanings[name], *(v[name][0] if name in v else "-" for v in values)]
            for name in dict.fromkeys(name for shown in values for name in shown)
        ),
    )
    yield from (Text(f"{p.name}: {accuracy(e.fitted)}", "quiet") for p, e in zip(profiles, same, strict=True))


# -- charts ---------------------------------------------------------------------------------------


def roofline(profiles: Sequence[KernelProfile]) -> Iterator[Block]:
    """Yield the rates that matrix products reach by FLOP per byte, and where memory stops binding."""
    lines, remarks = [], []
    intensity = tuple(2.0**i for i in range(-1, 13))
    for p in profiles:
        fitted = next((e.fitted for e in entries(p, "gemm") if "bfloat16" in e.key), None)
        if fitted is None:
            continue
        rate, bandwidth = (float(getattr(fitted.coefficients, name)) for name in ("rate", "bandwidth"))
        lines.append(Series(p.name, intensity, tuple(min(rate, bandwidth * x) / TERA for x in intensity)))
        ridge = f"{rate / bandwidth:.0f} FLOP/B"
        remarks.append(f"{p.name}: {show_rate(rate, 'FLOP/s')} from {ridge} on, {show_rate(bandwidth, 'B/s')} below")
    if lines:
        title = "Roofline of bf16 matrix products (start-up and waves left out)"
        yield Chart(title, "FLOP per byte", "TFLOP/s", tuple(lines))
        yield from map(Text, remarks)


def check_chart(checked: Checked) -> Chart:
    """Return predicted over measured times, with the line on which they are equal."""
    measured, predicted = (tuple(MILLION * t for t in column) for column in zip(*checked.times, strict=True))
    ends = (min(*measured, *predicted), max(*measured, *predicted))
    series = (Series("rows", measured, predicted, joined=False), Series("equal", ends, ends))
    return Chart(checked.title, "measured [us]", "predicted [us]", series)


# -- JSON -----------------------------------------------------------------------------------------


def document(profiles: Sequence[KernelProfile], kind: str | None) -> Json:
    """Return the document of `kvplan show profile` for profiles of kernels."""
    shown = [
        {
            "name": p.name,
            "title": p.title,
            "tier": p.tier,
            "source": source(p.source),
            "kernels": records(ENTRY, entries(p, kind)),
        }
        for p in profiles
    ]
    return schema("show", kind="profile", profiles=shown)
