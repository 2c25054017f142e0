"""What is on the shelves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan import catalog
from kvplan.api import values
from kvplan.errors import UnknownName
from kvplan.kv import techniques
from kvplan.specs.sweep import Study


@dataclass(frozen=True, kw_only=True)
class Listed:
    """All there is of a kind, and the day on which prices are current or not."""

    kind: str  #: models, gpus, techniques, ...
    things: Sequence[Any]  #: what the catalogue has of it
    day: str  #: on which prices are current, as in 2026-11-24


def architectures() -> list[str]:
    """Return the model types whose configs can be read."""
    from kvplan.architectures import FAMILIES, TOWERS

    return sorted({*FAMILIES, *TOWERS})


def profiles() -> list[tuple[str, str]]:
    """Return the shipped profiles, each with what it is of."""
    shelves = (("calibrations", "kernels"), ("serving", "servers"))
    return [(name, of) for shelf, of in shelves for name in catalog.names(shelf)]


def studies() -> list[Study]:
    """Return the shipped studies."""
    from kvplan.api.sweeping.questions import askable, unavailable

    return [catalog.study(name, askable(), unavailable()) for name in catalog.names("studies")]


#: what there is of each kind; report/listing.py says what is shown of it
KINDS: dict[str, Callable[[], Sequence[Any]]] = {
    "models": lambda: [catalog.model(name) for name in catalog.names("models")],
    "gpus": lambda: [catalog.gpu(name) for name in catalog.names("gpus")],
    "workloads": lambda: catalog.all_workloads(),
    "prices": lambda: catalog.prices(),
    "techniques": lambda: list(techniques.TECHNIQUES.values()),
    "architectures": architectures,
    "engines": lambda: [(catalog.engine(name), catalog.releases(name)) for name in catalog.names("engines")],
    "profiles": profiles,
    "studies": studies,
}


def listed(kind: str) -> Listed:
    """Return all there is of a kind, named in the singular or plural; raise UnknownName."""
    values.word(kind, "kind")
    kind = kind if kind in KINDS else f"{kind}s"
    if kind not in KINDS:
        raise UnknownName("list", kind.removesuffix("s"), KINDS)
    return Listed(kind=kind, things=KINDS[kind](), day=values.day(None))
