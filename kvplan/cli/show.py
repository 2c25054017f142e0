"""`kvplan show`: every value with its source."""

from collections.abc import Mapping

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.errors import UnknownName
from kvplan.kv import techniques
from kvplan.kv.layout import kv_layout
from kvplan.specs import catalog
from kvplan.specs.hardware import ENGINE_FIELDS, GPU_FIELDS
from kvplan.specs.model import ModelSpec
from kvplan.units import HOUR, show_bytes, show_rate

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
        (f"config.{key}", value, source)
        for key, value in m.config.items()
        if not isinstance(value, (Mapping, list)) or len(str(value)) < 200
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


KINDS = {"model": model, "gpu": gpu, "technique": technique, "engine": engine, "price": price}


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
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)
    return f"{value:,.0f}" if whole else str(value)


@click.command("show", short_help="Show one item, every value with its source.")
@click.argument("kind")
@click.argument("name")
@json_option
@examples(
    "kvplan show gpu h200",
    "kvplan show technique mhc:4x+h2o:20%",
)
def command(kind: str, name: str, as_json: bool) -> None:
    """Show one model, gpu, technique, engine or price: every value with its source."""
    reader = KINDS.get(kind.removesuffix("s"))
    if reader is None:
        raise UnknownName("kind", kind, KINDS)
    found = reader(name)

    def report() -> list[object]:
        from kvplan.report import tables

        return list(
            tables.fields(f"{kind} {name}", [(field, worded(field, value), source) for field, value, source in found])
        )

    deliver(
        as_json,
        lambda: {
            "schema": 1,
            "command": "show",
            "kind": kind,
            "name": name,
            "fields": [{"field": f, "value": v, "source": s} for f, v, s in found],
        },
        report,
    )
