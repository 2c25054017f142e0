"""`kvplan list`: what is on the shelves."""

from collections.abc import Callable
from datetime import date

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.errors import UnknownName
from kvplan.kv import techniques
from kvplan.specs import catalog
from kvplan.units import HOUR, show_bytes, show_rate, show_tokens

Table = tuple[tuple[str, ...], list[dict[str, object]]]


def models() -> list[dict[str, object]]:
    found = [catalog.model(name) for name in catalog.names("models")]
    return [
        {
            "name": m.name,
            "title": m.title,
            "architecture": m.model_type,
            "parameters": m.parameters,
            "max_context": m.max_context,
            "source": m.source.kind,
        }
        for m in found
    ]


def gpus() -> list[dict[str, object]]:
    found = [catalog.gpu(name) for name in catalog.names("gpus")]
    return [
        {
            "name": g.name,
            "title": g.title,
            "visible_memory": g.visible_memory,
            "bandwidth": g.bandwidth,
            "bf16": g.rate(16),
        }
        for g in found
    ]


def prices() -> list[dict[str, object]]:
    today = date.today().isoformat()
    return [
        {
            "gpu": p.gpu,
            "provider": p.provider,
            "term": p.term,
            "usd_per_hour": round(p.price * HOUR, 4),
            "from": p.start,
            "to": p.end,
            "current": p.current(today),
        }
        for p in catalog.prices()
    ]


def shown_techniques() -> list[dict[str, object]]:
    return [
        {
            "name": k.name,
            "spelling": k.spelling,
            "acts_on": k.factor,
            "summary": k.summary,
            "quality": k.quality,
            "source": k.source.ref,
        }
        for k in techniques.KINDS.values()
    ]


def architectures() -> list[dict[str, object]]:
    from kvplan.specs.families import FAMILIES, TOWERS

    return [{"model_type": name} for name in sorted({*FAMILIES, *TOWERS})]


def workloads() -> list[dict[str, object]]:
    from kvplan.specs import catalog_workloads

    return [
        {
            "name": w.name,
            "title": w.title,
            "task": w.task,
            "input_tokens": round(w.input.mean),
            "output_tokens": round(w.output.mean),
            "offline": w.offline,
        }
        for w in catalog_workloads.workloads()
    ]


def files(kind: str) -> list[dict[str, object]]:
    return [{"name": name} for name in catalog.names(kind)]


def profiles() -> list[dict[str, object]]:
    shelves = (("calibrations", "kernels"), ("serving", "servers"))
    return [{"name": name, "of": what} for shelf, what in shelves for name in catalog.names(shelf)]


KINDS: dict[str, Callable[[], list[dict[str, object]]]] = {
    "models": models,
    "gpus": gpus,
    "workloads": workloads,
    "prices": prices,
    "techniques": shown_techniques,
    "architectures": architectures,
    "engines": lambda: files("engines"),
    "profiles": profiles,
}


def worded(field: str, value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field == "usd_per_hour":
        return f"${float(str(value)):.2f}"
    if field in ("input_tokens", "output_tokens"):
        return f"{value:,}"
    if field == "parameters":
        return f"{float(str(value)) / 1e9:,.2f} B"
    if field == "visible_memory":
        return show_bytes(float(str(value)))
    if field in ("bandwidth", "bf16"):
        return show_rate(float(str(value)), "B/s" if field == "bandwidth" else "FLOP/s")
    return show_tokens(value) if field == "max_context" and isinstance(value, int) else str(value)


@click.command("list")
@click.argument("kind", metavar="KIND")
@json_option
@examples(
    "kvplan list models",
    "kvplan list gpus --json",
)
def command(kind: str, as_json: bool) -> None:
    """List models, gpus, workloads, prices, techniques, engines, profiles or architectures."""
    kind = kind if kind in KINDS else f"{kind}s"
    if kind not in KINDS:
        raise UnknownName("list", kind.removesuffix("s"), KINDS)
    rows = KINDS[kind]()

    def report() -> list[object]:
        from kvplan.report import tables

        headings = list(rows[0]) if rows else []
        return list(
            tables.listing(
                f"{len(rows)} {kind}",
                [h.replace("_", " ") for h in headings],
                [[worded(h, r[h]) for h in headings] for r in rows],
            )
        )

    deliver(as_json, lambda: {"schema": 1, "command": "list", "kind": kind, kind: rows}, report)
