"""`kvplan list`: what is on the shelves."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import click

from kvplan import catalog
from kvplan.cli.options import deliver, examples, json_option
from kvplan.errors import UnknownName
from kvplan.kv import techniques
from kvplan.report.formats import Report


def architectures() -> list[str]:
    """Return the model types whose configs can be read."""
    from kvplan.architectures import FAMILIES, TOWERS

    return sorted({*FAMILIES, *TOWERS})


def workloads() -> Sequence[Any]:
    from kvplan import catalog

    return catalog.all_workloads()


def profiles() -> list[tuple[str, str]]:
    shelves = (("calibrations", "kernels"), ("serving", "servers"))
    return [(name, of) for shelf, of in shelves for name in catalog.names(shelf)]


#: what there is of each kind; report/listing.py says what is shown of it
KINDS: dict[str, Callable[[], Sequence[Any]]] = {
    "models": lambda: [catalog.model(name) for name in catalog.names("models")],
    "gpus": lambda: [catalog.gpu(name) for name in catalog.names("gpus")],
    "workloads": workloads,
    "prices": catalog.prices,
    "techniques": lambda: list(techniques.TECHNIQUES.values()),
    "architectures": architectures,
    "engines": lambda: catalog.names("engines"),
    "profiles": profiles,
}


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
    things, today = KINDS[kind](), date.today().isoformat()

    from kvplan.report import listing

    report = Report(lambda: listing.page(kind, things, today), lambda: listing.document(kind, things, today))
    deliver(report, as_json)
