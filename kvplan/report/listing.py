"""`kvplan list` in a table and JSON: what the catalogue holds, a list of columns a kind."""

from collections.abc import Sequence
from typing import Any

from kvplan.kv import techniques
from kvplan.planning.design import count
from kvplan.report.blocks import Column, Json, Page, Text, records, schema, table
from kvplan.specs.hardware import Engine, Gpu, Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.sweep import Study
from kvplan.specs.workload import Workload
from kvplan.units import HOUR, show_bytes, show_rate, show_tokens


def yes(value: bool) -> str:
    """Return a truth value as 'yes' or 'no'."""
    return "yes" if value else "no"


def commas(value: float) -> str:
    """Return a number with thousands separators."""
    return f"{value:,}"


MODEL = (
    Column[ModelSpec](key="name", heading="name", value=lambda m: m.name, align="left"),
    Column[ModelSpec](key="title", heading="title", value=lambda m: m.title, align="left", wraps=True),
    Column[ModelSpec](key="architecture", heading="architecture", value=lambda m: m.model_type, align="left"),
    Column[ModelSpec](
        key="parameters", heading="parameters", value=lambda m: m.parameters, show=lambda n: f"{n / 1e9:,.2f} B"
    ),
    Column[ModelSpec](key="max_context", heading="max context", value=lambda m: m.max_context, show=show_tokens),
    Column[ModelSpec](key="source", heading="source", value=lambda m: m.source.kind, align="left"),
)
GPU = (
    Column[Gpu](key="name", heading="name", value=lambda g: g.name, align="left"),
    Column[Gpu](key="title", heading="title", value=lambda g: g.title, align="left", wraps=True),
    Column[Gpu](key="visible_memory", heading="visible memory", value=lambda g: g.visible_memory, show=show_bytes),
    Column[Gpu](key="bandwidth", heading="bandwidth", value=lambda g: g.bandwidth, show=lambda x: show_rate(x, "B/s")),
    Column[Gpu](key="bf16", heading="bf16", value=lambda g: g.rate(16), show=lambda x: show_rate(x, "FLOP/s")),
)
TECHNIQUE = (
    Column[techniques.Technique](key="name", heading="name", value=lambda k: k.name, align="left"),
    Column[techniques.Technique](
        key="spelling", heading="spelling", value=lambda k: k.spelling, align="left", wraps=True
    ),
    Column[techniques.Technique](key="acts_on", heading="acts on", value=lambda k: k.factor, align="left"),
    Column[techniques.Technique](key="summary", heading="summary", value=lambda k: k.summary, align="left", wraps=True),
    Column[techniques.Technique](key="quality", heading="quality", value=lambda k: k.quality, align="left", wraps=True),
    Column[techniques.Technique](
        key="source", heading="source", value=lambda k: k.source.ref, align="left", wraps=True
    ),
)
WORKLOAD = (
    Column[Workload](key="name", heading="name", value=lambda w: w.name, align="left"),
    Column[Workload](key="title", heading="title", value=lambda w: w.title, align="left", wraps=True),
    Column[Workload](key="task", heading="task", value=lambda w: w.task, align="left"),
    Column[Workload](key="input_tokens", heading="input tokens", value=lambda w: round(w.input.mean), show=commas),
    Column[Workload](key="output_tokens", heading="output tokens", value=lambda w: round(w.output.mean), show=commas),
    Column[Workload](key="offline", heading="offline", value=lambda w: w.offline, show=yes, align="left"),
)
PROFILE = (
    Column[tuple[str, str]](key="name", heading="name", value=lambda p: p[0], align="left"),
    Column[tuple[str, str]](key="of", heading="of", value=lambda p: p[1], align="left"),
)
ENGINE = (
    Column[tuple[Engine, tuple[str, ...]]](key="name", heading="name", value=lambda e: e[0].name, align="left"),
    Column[tuple[Engine, tuple[str, ...]]](key="title", heading="title", value=lambda e: e[0].title, align="left"),
    Column[tuple[Engine, tuple[str, ...]]](
        key="releases", heading="releases", value=lambda e: list(e[1]), show=", ".join,
        align="left", wraps=True,
    ),
)  # fmt: skip
STUDY = (
    Column[Study](key="name", heading="name", value=lambda s: s.name, align="left"),
    Column[Study](key="title", heading="title", value=lambda s: s.title, align="left", wraps=True),
    Column[Study](key="ask", heading="ask", value=lambda s: s.ask, align="left"),
    Column[Study](key="points", heading="points", value=count, show=commas),
)


def prices(today: str) -> tuple[Column[Price], ...]:
    """Return the columns of rental prices; those that hold `today` are current."""
    return (
        Column[Price](key="gpu", heading="GPU", value=lambda p: p.gpu, align="left"),
        Column[Price](key="provider", heading="provider", value=lambda p: p.provider, align="left"),
        Column[Price](key="term", heading="term", value=lambda p: p.term, align="left"),
        Column[Price](
            key="usd_per_hour", heading="$ / hour", value=lambda p: round(p.price * HOUR, 4),
            show=lambda x: f"${x:.2f}",
        ),
        Column[Price](key="from", heading="from", value=lambda p: p.start, align="left"),
        Column[Price](key="to", heading="to", value=lambda p: p.end, align="left"),
        Column[Price](key="current", heading="current", value=lambda p: p.current(today), show=yes, align="left"),
    )  # fmt: skip


def named(key: str) -> tuple[Column[str], ...]:
    """Return the one column of things of which a list says only the name."""
    return (Column[str](key=key, heading=key.replace("_", " "), value=lambda name: name, align="left"),)


def columns(kind: str, today: str) -> tuple[Column[Any], ...]:
    """Return the columns of a kind."""
    known: dict[str, tuple[Column[Any], ...]] = {
        "models": MODEL,
        "gpus": GPU,
        "workloads": WORKLOAD,
        "prices": prices(today),
        "techniques": TECHNIQUE,
        "architectures": named("model_type"),
        "engines": ENGINE,
        "profiles": PROFILE,
        "studies": STUDY,
    }
    return known[kind]


def page(kind: str, things: Sequence[Any], today: str) -> Page:
    """Return the report of `kvplan list`."""
    return Page.of(Text(f"{len(things)} {kind}", "answer"), table("", columns(kind, today), things))


def document(kind: str, things: Sequence[Any], today: str) -> Json:
    """Return the document of `kvplan list`."""
    return schema("list", kind=kind, **{kind: records(columns(kind, today), things)})
