"""`kvplan show`: every value with its source."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import click

from kvplan.cli.common import deliver, examples, json_option, path
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.kv import techniques
from kvplan.kv.layout import kv_layout
from kvplan.specs import catalog, catalog_workloads
from kvplan.specs.catalog_files import Document
from kvplan.specs.catalog_samples import measured_profile, read_samples
from kvplan.specs.hardware import ENGINE_FIELDS, GPU_FIELDS
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import ALL
from kvplan.units import HOUR, MILLION, show_bytes, show_rate, show_time

Field = tuple[str, object, str]


def model(name: str) -> list[Field]:
    m = catalog.model(name)
    source = str(m.source)
    layout = kv_layout(m, 16.0)
    derived = "derived from the config"
    found: list[Field] = [
        ("title", m.title, source),
        ("architecture", m.model_type, source),
        ("parameters", m.parameters, derived),
        ("active_parameters", round(m.active_parameters), derived),
        ("layers", len(m.layers), source),
        ("max_context", m.max_context, source),
        ("dtype", m.dtype, source),
        (
            "quantization",
            quantised(m),
            source,
        ),
        ("kv_bytes_per_token_16_bit", layout.growth(m.max_context or 4096), derived),
        ("kv_bytes_at_32k_16_bit", layout.stored(32768), derived),
    ]
    return found + [
        (f"config.{key}", finite(value), source) for key, value in m.config.items() if len(str(value)) < 200
    ]


def quantised(m: ModelSpec) -> str:
    how = m.quantization
    return "none" if how is None else how.method if how.bits is None else f"{how.method}, {how.bits:g} bits an element"


def gpu(name: str) -> list[Field]:
    g = catalog.gpu(name)
    return [
        (field, value, str(g.sources.get(field, "default")))
        for field in GPU_FIELDS
        if (value := getattr(g, field)) is not None
    ]


def technique(name: str) -> list[Field]:
    found: list[Field] = []
    for kind, argument in techniques.parts(name):
        source = str(kind.source)
        label = f"{kind.name}:{argument}" if argument else kind.name
        found += [
            ("technique", label, source),
            ("spelling", kind.spelling, "kvplan"),
            ("acts on", kind.factor, source),
            ("what", kind.summary, source),
            ("needs", kind.needs, source),
            ("granularity", kind.granularity, source),
            ("quality", kind.quality, source),
        ]
    return found or [("technique", techniques.BASELINE, "kvplan")]


def engine(name: str) -> list[Field]:
    e = catalog.engine(name)
    return [(field, getattr(e, field), str(e.sources.get(field, "the engine's file"))) for field in ENGINE_FIELDS]


def price(name: str) -> list[Field]:
    wanted = catalog.resolve("gpus", name, "GPU") if name not in catalog.names("prices") else name
    return [
        (
            f"{p.gpu} {p.provider} {p.term} from {p.start}" + (f" to {p.end}" if p.end else ""),
            f"{p.price * HOUR:.4g} USD/h",
            f"{p.source} {p.note}",
        )
        for p in catalog.prices()
        if wanted in (p.gpu, p.provider)
    ]


def workload(name: str) -> list[Field]:
    w = catalog_workloads.workload(name)
    where = {key: str(source) for key, source in w.sources.items()}
    derived = "derived from the figures above"
    found: list[Field] = [(f, getattr(w, f), str(w.source)) for f in ("title", "task", "offline")]
    for side, parts, lengths in (("input", w.parts, w.input), ("output", w.answer, w.output)):
        for part in parts:
            found += [
                (f"{side} {part.name}: {factor.of}", factor.value, str(factor.source))
                for factor in part.factors
                if len(part.factors) > 1
            ]
            found.append((f"{side} {part.name}", str(part), derived if len(part.factors) > 1 else where[side]))
            if part.requests > 1:
                shared = f"{'all' if part.requests == ALL else f'{part.requests:g}'} requests"
                found.append((f"{side} {part.name} shared by", shared, where[side]))
        quantiles = [(f"{side}_p{q:g}", round(lengths.quantile(q / 100))) for q in (5, 50, 95, 99)]
        found.append((f"{side}_mean", round(lengths.mean), derived if parts else where[side]))
        found += [(field, value, where[side]) for field, value in quantiles]
    a, s = w.arrivals, w.slo
    found.append(("prefix_share", round(w.prefix_share, 4), derived if w.reused is None else where["input"]))
    if w.visual_tokens:
        decoder = w.cross_attended().input.mean
        found.append(("visual_tokens", round(w.visual_tokens), derived))
        found.append(("input_mean_if_cross_attended", round(decoder), derived))
    found += [
        ("queries_per_day", a.queries_per_day, where["arrivals"]),
        ("hours", a.hours, where["arrivals"]),
        ("peak_factor", round(a.peak_factor, 4), derived),
        ("burstiness", a.burstiness, where["arrivals"]),
        ("busiest_minute", a.busiest_minute, where["arrivals"]),
    ]
    limits = (("ttft", s.ttft), ("tpot", s.tpot), ("e2e", s.e2e), ("percentile", round(100 * s.percentile, 6)))
    found += [(field, value, where["slo"]) for field, value in limits if value is not None]
    return found + [("note", note, str(w.source)) for note in w.notes]


#: kinds of kernel a profile holds (as kvplan/perf/kernel_profile.py, which is loaded only when one is shown)
KERNELS = ("decode_attention", "mla_decode_attention", "prefill_attention", "gemm", "all_reduce")
KINDS = {"model": model, "gpu": gpu, "technique": technique, "workload": workload, "engine": engine, "price": price}


#: a number beyond which digits are not counted out
WIDE = 1e15


def finite(value: object) -> object:
    """Return a value of a config with the numbers that JSON lacks (NaN, Infinity) as words."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return value if not isinstance(value, float) or isfinite(value) else str(value)


def worded(field: str, value: object) -> str:
    unit = GPU_FIELDS.get(field, "")
    if isinstance(value, float) and unit == "B":
        return f"{show_bytes(value)} ({value / 1e9:.1f} GB)" if value >= 1e9 else show_bytes(value)
    if isinstance(value, float) and unit == "W":
        return f"{value:g} W"
    if isinstance(value, float) and unit in ("B/s", "FLOP/s"):
        return show_rate(value, unit)
    if field == "large_memory":
        return show_bytes(float(str(value)))
    if field == "runtime" and isinstance(value, dict):
        return ", ".join(f"tp{n}: {show_bytes(amount)}" for n, amount in value.items())
    if field in ("small", "large") and isinstance(value, tuple):
        return f"{value[0]:,} sequences, {value[1]:,} tokens a step"
    if field in ("ttft", "tpot", "e2e") and isinstance(value, float):
        return show_time(value)
    if field == "hours" and isinstance(value, tuple):
        return " ".join(f"{hour:g}" for hour in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{value:,.0f}" if abs(value) < WIDE else shown(value)
    return str(value)


@click.command("show")
@click.argument("kind")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--kernels", type=click.Choice(list(KERNELS)), help="Of a profile, only this kind of kernel.")
@click.option("--rows", type=path, help="Of a profile, draw a file's measured times against its predictions.")
@json_option
@examples(
    "kvplan show gpu h200",
    "kvplan show technique mhc:4x+h2o:20%",
    "kvplan show profile h100-sxm h200 --kernels gemm",
    "kvplan show profile published",
)
def command(kind: str, names: tuple[str, ...], kernels: str | None, rows: str | None, as_json: bool) -> None:
    """Show one model, gpu, workload, technique, engine, price or profile: every value with its source.

    Two names of profiles are compared.
    """
    kind = kind.removesuffix("s")
    if kind == "profile":
        show_profiles(names, kernels, rows, as_json)
        return
    if kind not in KINDS:
        raise UnknownName("kind", kind, (*KINDS, "profile"))
    if len(names) > 1 or kernels or rows:
        raise SpecError(f"show {kind} takes one name, and neither --kernels nor --rows")
    found = KINDS[kind](names[0])

    def report() -> list[object]:
        from kvplan.report import tables

        title = f"{kind} {names[0]}"
        return list(tables.fields(title, [(field, worded(field, value), source) for field, value, source in found]))

    def document() -> dict[str, object]:
        values = [{"field": f, "value": v, "source": s} for f, v, s in found]
        return {"schema": 1, "command": "show", "kind": kind, "name": names[0], "fields": values}

    deliver(as_json, document, report)


#: what a document that is not as it should be can raise
ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)


def show_measured(names: tuple[str, ...], found: Sequence[tuple[Document, str]], as_json: bool) -> None:
    """Show what `kvplan profile` measured; two profiles side by side."""
    from kvplan.measuring.profiling import COLUMNS
    from kvplan.report import measured

    profiles = [profile for profile, _ in found]

    def report() -> list[object]:
        try:
            if len(profiles) > 1:
                return list(measured.comparison(profiles))
            return list(measured.report(profiles[0], read_samples(found[0][1], COLUMNS)))
        except ODD as error:
            raise SpecError(f"{' '.join(names)}: not as `kvplan profile` wrote it ({type(error).__name__})") from None

    def document() -> dict[str, Any]:
        try:
            made = finite(measured.document(profiles))
        except ODD as error:
            raise SpecError(f"{' '.join(names)}: not as `kvplan profile` wrote it ({type(error).__name__})") from None
        assert isinstance(made, dict)
        return made

    deliver(as_json, document, report)


def show_servers(name: str, as_json: bool) -> None:
    """Show a profile of servers: terms with their meaning, their values by GPU and engine, intervals, models."""
    found = catalog.serving_profile(name)

    def report() -> list[object]:
        from kvplan.report import servers

        return list(servers.report(found))

    def document() -> dict[str, object]:
        from kvplan.report import servers

        return servers.document(found)

    deliver(as_json, document, report)


def show_profiles(names: tuple[str, ...], kernels: str | None, rows: str | None, as_json: bool) -> None:
    """Show the coefficients of one profile or compare two; draw a file's rows against the first."""
    servers = [name for name in names if catalog.is_serving(name)]
    if servers:
        if len(names) > 1 or kernels or rows:
            raise SpecError(f"show profile {servers[0]}, of servers, takes neither --kernels, --rows nor a second name")
        show_servers(servers[0], as_json)
        return
    from kvplan.cli.kernel_rows import load
    from kvplan.perf.kernel_profile import Predictor, read_profile
    from kvplan.specs.catalog_tables import kernel_document

    if len(names) > 2:
        raise SpecError(f"show profile compares two profiles at most, got {len(names)}")
    measured = [found for name in names if (found := measured_profile(name))]
    if len(measured) == len(names) and not kernels and not rows:
        show_measured(names, measured, as_json)
        return
    if none := next((found["name"] for found, _ in measured if not found.get("kernels")), None):
        raise SpecError(
            f"profile {none} has no kernels: show it without options, or beside another of `kvplan profile`"
        )
    profiles = []
    for name in names:
        raw, source, where = kernel_document(name)
        profiles.append(read_profile(raw, source, where))

    def report() -> list[object]:
        from kvplan.report import profiles as shown

        parts: list[object] = list(shown.report(profiles, kernels))
        if rows:
            oracle = Predictor(profiles[:1], catalog.gpu)
            kind, _, _, parsed = load(rows, kernels, measured=True)
            pairs = [
                (row.time, oracle.predict(row.shape).time)
                for row in parsed
                if row.time and row.shape.gpu in profiles[0].kernels
            ]
            if not pairs:
                raise SpecError(f"{rows}: no row of a GPU that profile {names[0]} holds")
            times = [[MILLION * t for t in column] for column in zip(*pairs, strict=True)]
            parts += shown.fitted_chart(f"{kind.name}: {rows.rsplit('/', 1)[-1]} against {names[0]}", *times)
        return parts

    def document() -> dict[str, object]:
        from kvplan.report import profiles as shown

        return shown.document(profiles, kernels)

    deliver(as_json, document, report)
