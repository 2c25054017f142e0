"""The fields `kvplan show` prints of each kind of thing."""

from collections.abc import Iterable, Iterator
from dataclasses import fields

from kvplan.catalog.servers.engine_rules import UNITS
from kvplan.kv import spelling
from kvplan.kv.model_cache import kv_layout
from kvplan.report.fields import Field, finite
from kvplan.specs.hardware import ENGINE_FIELDS, GPU_FIELDS, Engine, Gpu, Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import ALL, Lengths, Part, Workload
from kvplan.units import HOUR

#: what engine fields are measured in: as their reader has it, and of tables by what
ENGINE_UNITS = {name: unit for name, unit in UNITS.items() if unit == "B"} | {
    "steps": "steps",
    "reserve": "B by part",
    "vision": "1 by part",
    "runtime": "B by tp",
    "plain_runtime": "B by tp",
}
#: values of a config longer than this are left out [characters]
LONGEST = 200
#: percentiles of lengths that are shown
PERCENTILES = (5, 50, 95, 99)


def model(m: ModelSpec) -> list[Field]:
    """Return the fields of a model, its config's last."""
    source = str(m.source)
    derived = "derived from the config"
    layout = kv_layout(m, 16.0)
    how = m.quantization
    form = "none" if how is None else how.method if how.bits is None else f"{how.method}, {how.bits:g} bits an element"
    return [
        Field("title", m.title, source),
        Field("architecture", m.model_type, source),
        Field("parameters", m.parameters, derived),
        Field("active_parameters", round(m.active_parameters), derived),
        Field("layers", len(m.layers), source),
        Field("max_context", m.max_context, source),
        Field("dtype", m.dtype, source),
        Field("quantization", form, source),
        Field("kv_bytes_per_token_16_bit", layout.growth(m.max_context or 4096), derived),
        Field("kv_bytes_at_32k_16_bit", layout.stored(32768), derived),
        *(
            Field(f"config.{key}", finite(value), source)
            for key, value in m.config.items()
            if len(str(value)) < LONGEST
        ),
    ]


def gpu(g: Gpu) -> list[Field]:
    """Return the fields of a GPU that are known."""
    return [
        Field(name, value, str(g.sources.get(name, DEFAULT)), unit)
        for name, unit in GPU_FIELDS.items()
        if (value := getattr(g, name)) is not None
    ]


def technique(name: str) -> list[Field]:
    """Return the fields of every part of a composition."""
    fields: list[Field] = []
    for kind, argument in spelling.parts(name):
        source = str(kind.source)
        label = f"{kind.name}:{argument}" if argument else kind.name
        fields += [
            Field("technique", label, source),
            Field("spelling", kind.spelling, "kvplan"),
            Field("acts on", kind.factor, source),
            Field("what", kind.summary, source),
            Field("needs", kind.needs, source),
            Field("granularity", kind.granularity, source),
            Field("quality", kind.quality, source),
        ]
    return fields or [Field("technique", spelling.BASELINE, "kvplan")]


def engine(e: Engine) -> list[Field]:
    """Return the fields of an engine."""
    return [
        Field(name, getattr(e, name), str(e.sources.get(name, "the engine's file")), ENGINE_UNITS.get(name, ""))
        for name in ENGINE_FIELDS
    ] + list(launched(e))


def launched(e: Engine) -> Iterator[Field]:
    """Yield the options that start an engine's server."""
    if e.launch is None:
        return
    for f in fields(e.launch):
        value = getattr(e.launch, f.name)
        if isinstance(value, dict):
            yield from (
                Field(f"launch.{f.name} {name}", option, str(e.launch.source)) for name, option in value.items()
            )
        elif value and f.name != "source":
            yield Field(f"launch.{f.name}", value, str(e.launch.source))


def price(prices: Iterable[Price]) -> list[Field]:
    """Return a field for each price."""
    return [
        Field(
            f"{p.gpu} {p.provider} {p.term} from {p.start}{f' to {p.end}' if p.end else ''}",
            f"{p.price * HOUR:.4g} USD/h",
            f"{p.source} {p.note}",
        )
        for p in prices
    ]


#: the source of what a file does not state
DEFAULT = "default"
#: the source of what a workload's figures imply
DERIVED = "derived from the figures above"


def workload(w: Workload) -> list[Field]:
    """Return the fields of a workload: lengths and their parts, reuse, arrivals, limits."""
    own = str(w.source)
    return [
        *(Field(name, getattr(w, name), stated(w, name, own)) for name in ("title", "task", "offline")),
        *lengths(w, "input", w.parts, w.input, DERIVED if w.parts else str(w.sources["input"])),
        *lengths(w, "output", w.answer, w.output, DERIVED if w.answer else str(w.sources["output"])),
        *reuse(w),
        *arrivals(w),
        *items(w),
        *(Field("note", note, own) for note in w.notes),
    ]


def stated(w: Workload, name: str, source: str) -> str:
    """Return the source of a figure, or that it is kvplan's default."""
    return DEFAULT if name in w.defaults else source


def items(w: Workload) -> Iterator[Field]:
    """Yield what users count, and the requests it takes."""
    if w.item:
        yield Field("item", w.item, str(w.source))
        yield Field("requests_per_item", w.requests_per_item, str(w.sources.get("item", w.source)))


def lengths(w: Workload, side: str, parts: Iterable[Part], whole: Lengths, of_mean: str) -> Iterator[Field]:
    """Yield the parts of a prompt or an answer with their factors, and how long the whole is. [tokens]"""
    own = str(w.sources[side])
    for part in parts:
        several = len(part.factors) > 1
        if several:
            yield from (Field(f"{side} {part.name}: {f.of}", f.value, str(f.source)) for f in part.factors)
        yield Field(f"{side} {part.name}", str(part), DERIVED if several else own)
        if part.requests > 1:
            shared = "all" if part.requests == ALL else f"{part.requests:g}"
            yield Field(f"{side} {part.name} shared by", f"{shared} requests", own)
    yield Field(f"{side}_mean", round(whole.mean), of_mean)
    yield from (Field(f"{side}_p{q:g}", round(whole.quantile(q / 100)), own) for q in PERCENTILES)


def reuse(w: Workload) -> Iterator[Field]:
    """Yield the share of prompts that other requests share, and the tokens of images."""
    yield Field("prefix_share", round(w.prefix_share, 4), DERIVED if w.reused is None else str(w.sources["input"]))
    if w.visual_tokens:
        yield Field("visual_tokens", round(w.visual_tokens), DERIVED)
        yield Field("input_mean_if_cross_attended", round(w.cross_attended().input.mean), DERIVED)


def arrivals(w: Workload) -> Iterator[Field]:
    """Yield how requests arrive and how long they may take."""
    a = w.arrivals
    s = w.slo
    own = str(w.sources["arrivals"])
    yield Field("queries_per_day", a.queries_per_day, own)
    yield Field("hours", a.hours, stated(w, "hours", own), "hours")
    yield Field("peak_factor", round(a.peak_factor, 4), DERIVED)
    yield Field("burstiness", a.burstiness, stated(w, "burstiness", own))
    yield Field("busiest_minute", a.busiest_minute, stated(w, "busiest_minute", own))
    limits = (("ttft", s.ttft, "s"), ("tpot", s.tpot, "s"), ("e2e", s.e2e, "s"))
    for name, value, unit in (*limits, ("percentile", round(100 * s.percentile, 6), "")):
        if value is not None:
            yield Field(name, value, stated(w, name, str(w.sources["slo"])), unit)
