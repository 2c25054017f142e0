"""`kvplan show`: every value of a thing with its source, or profiles, each in its own report."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvplan.api.show import Item, Kernels, MeasuredProfile, Servers, Shown
from kvplan.errors import SpecError
from kvplan.report import fields, items
from kvplan.report.blocks import Json, Page
from kvplan.report.fields import Field

#: the fields of each kind of thing
FIELDS: dict[str, Callable[[Any], list[Field]]] = {
    "model": items.model,
    "gpu": items.gpu,
    "technique": items.technique,
    "workload": items.workload,
    "engine": items.engine,
    "price": items.price,
}
#: what a document that is not as it should be can raise
ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)


def page(found: Shown) -> Page:
    """Return the report of what is shown."""
    if isinstance(found, Item):
        return fields.page(found.kind, found.name, FIELDS[found.kind](found.thing))
    if isinstance(found, Servers):
        from kvplan.report import servers

        return servers.page(found.profile)
    if isinstance(found, Kernels):
        from kvplan.report import profiles

        return profiles.page(found.profiles, found.kind, found.checked)
    from kvplan.report import measured

    with as_written(found):
        written = [dict(p) for p in found.profiles]
        return measured.comparison(written) if len(written) > 1 else measured.page(written[0], found.samples)


def document(found: Shown) -> Json:
    """Return the document of what is shown."""
    if isinstance(found, Item):
        return fields.document(found.kind, found.name, FIELDS[found.kind](found.thing))
    if isinstance(found, Servers):
        from kvplan.report import servers

        return servers.document(found.profile)
    if isinstance(found, Kernels):
        from kvplan.report import profiles

        return profiles.document(found.profiles, found.kind)
    from kvplan.report import measured

    with as_written(found):
        return measured.document([dict(p) for p in found.profiles])


@contextmanager
def as_written(found: MeasuredProfile) -> Iterator[None]:
    """Refuse documents that are not as `kvplan profile` writes them."""
    try:
        yield
    except ODD as error:
        said = f"not as `kvplan profile` wrote it ({type(error).__name__})"
        raise SpecError(f"{' '.join(found.names)}: {said}") from None
