"""`kvplan show`: every value with its source."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from kvplan import catalog
from kvplan.catalog.files import Document
from kvplan.catalog.samples import measured_profile, read_samples
from kvplan.cli.options import deliver, examples, json_option, path
from kvplan.errors import SpecError, UnknownName
from kvplan.report import fields, items
from kvplan.report.blocks import Json, Page
from kvplan.report.fields import Field
from kvplan.report.formats import Report
from kvplan.specs.hardware import Price

#: kinds of kernel a profile holds (as kvplan/perf/kernel_profile.py, which is loaded only when one is shown)
KERNELS = ("decode_attention", "mla_decode_attention", "prefill_attention", "gemm", "all_reduce")


def prices_of(name: str) -> list[Price]:
    """Return the prices of a GPU or of a provider."""
    wanted = catalog.resolve("gpus", name, "GPU") if name not in catalog.names("prices") else name
    return [p for p in catalog.prices() if wanted in (p.gpu, p.provider)]


#: the fields of each kind of thing by its name
KINDS: dict[str, Callable[[str], list[Field]]] = {
    "model": lambda name: items.model(catalog.model(name)),
    "gpu": lambda name: items.gpu(catalog.gpu(name)),
    "technique": items.technique,
    "workload": lambda name: items.workload(catalog.workload(name)),
    "engine": lambda name: items.engine(catalog.engine(name)),
    "price": lambda name: items.price(prices_of(name)),
}


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
    said = (kind, names[0], found)
    deliver(Report(lambda: fields.page(*said), lambda: fields.document(*said)), as_json)


#: what a document that is not as it should be can raise
ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)


def show_measured(names: tuple[str, ...], found: Sequence[tuple[Document, str]], as_json: bool) -> None:
    """Show what `kvplan profile` measured; two profiles side by side."""
    from kvplan.measuring.device.course import COLUMNS
    from kvplan.report import measured

    profiles = [profile for profile, _ in found]

    def page() -> Page:
        with as_written(names):
            if len(profiles) > 1:
                return measured.comparison(profiles)
            return measured.page(profiles[0], read_samples(found[0][1], COLUMNS))

    def document() -> Json:
        with as_written(names):
            return measured.document(profiles)

    deliver(Report(page, document), as_json)


@contextmanager
def as_written(names: tuple[str, ...]) -> Iterator[None]:
    """Refuse documents that are not as `kvplan profile` writes them."""
    try:
        yield
    except ODD as error:
        raise SpecError(f"{' '.join(names)}: not as `kvplan profile` wrote it ({type(error).__name__})") from None


def show_servers(name: str, as_json: bool) -> None:
    """Show a profile of servers: terms with their meaning, their values by GPU and engine, intervals, models."""
    from kvplan.report import servers

    found = catalog.serving_profile(name)
    deliver(Report(lambda: servers.page(found), lambda: servers.document(found)), as_json)


def show_profiles(names: tuple[str, ...], kernels: str | None, rows: str | None, as_json: bool) -> None:
    """Show the coefficients of one profile or compare two; draw a file's rows against the first."""
    servers = [name for name in names if catalog.is_serving(name)]
    if servers:
        if len(names) > 1 or kernels or rows:
            raise SpecError(f"show profile {servers[0]}, of servers, takes neither --kernels, --rows nor a second name")
        show_servers(servers[0], as_json)
        return
    from kvplan.catalog.tables import kernel_document
    from kvplan.cli.kernel_rows import load
    from kvplan.perf.kernel_profile import Predictor, read_profile

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
    from kvplan.report import profiles

    shown = [read_profile(*kernel_document(name)) for name in names]

    def page() -> Page:
        checked = None
        if rows:
            kind, _, _, parsed = load(rows, kernels, measured=True)
            oracle = Predictor(shown[:1], catalog.gpu)
            times = [
                (row.time, oracle.predict(row.shape).time)
                for row in parsed
                if row.time and row.shape.gpu in shown[0].kernels
            ]
            if not times:
                raise SpecError(f"{rows}: no row of a GPU that profile {names[0]} holds")
            checked = profiles.Checked(f"{kind.name}: {rows.rsplit('/', 1)[-1]} against {names[0]}", times)
        return profiles.page(shown, kernels, checked)

    deliver(Report(page, lambda: profiles.document(shown, kernels)), as_json)
