"""`kvplan show`: every value of a thing with its source, or profiles, each in its own report."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvplan.api.show import Item, Kernels, MeasuredProfile, Servers, Shown
from kvplan.errors import SpecError
from kvplan.report import fields, items
from kvplan.report.blocks import Json, Page, Text
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
#: how a reader comes to a file of their own
OWN = "For one of your own, save the file that yaml=yes prints, change it, and give its path as the workload."
#: what a document that is not as it should be can raise
ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)


def page(shown: Shown) -> Page:
    """Return the report of what is shown."""
    if isinstance(shown, Item):
        whole = fields.page(shown.kind, shown.name, FIELDS[shown.kind](shown.thing))
        copied = shown.kind == "workload" and not shown.name.endswith((".yaml", ".yml"))
        return Page.of(whole.blocks, Text(OWN, "quiet")) if copied else whole
    if isinstance(shown, Servers):
        from kvplan.report import server_profile

        return server_profile.page(shown.profile)
    if isinstance(shown, Kernels):
        from kvplan.report import kernel_profiles

        return kernel_profiles.page(shown.profiles, shown.kind, shown.checked)
    from kvplan.report import measured_profile

    with as_written(shown):
        written = [dict(p) for p in shown.profiles]
        if len(written) > 1:
            return measured_profile.comparison(written)
        return measured_profile.page(written[0], shown.samples)


def document(shown: Shown) -> Json:
    """Return the document of what is shown."""
    if isinstance(shown, Item):
        return fields.document(shown.kind, shown.name, FIELDS[shown.kind](shown.thing))
    if isinstance(shown, Servers):
        from kvplan.report import server_profile

        return server_profile.document(shown.profile)
    if isinstance(shown, Kernels):
        from kvplan.report import kernel_profiles

        return kernel_profiles.document(shown.profiles, shown.kind)
    from kvplan.report import measured_profile

    with as_written(shown):
        return measured_profile.document([dict(p) for p in shown.profiles])


@contextmanager
def as_written(profile: MeasuredProfile) -> Iterator[None]:
    """Refuse documents that are not as `kvplan profile` writes them."""
    try:
        yield
    except ODD as error:
        reason = f"not as `kvplan profile` wrote it ({type(error).__name__})"
        raise SpecError(f"{' '.join(profile.names)}: {reason}") from None
