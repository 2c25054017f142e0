"""What predict, validate and calibrate share: reading rows of kernels, and the profiles they stand on."""

import click

from kvplan.measuring.rows import Row, kind_of, read_rows
from kvplan.perf.kernel_profile import KINDS, KernelProfile, Kind, Predictor, read_profile
from kvplan.specs import catalog
from kvplan.specs.catalog_tables import LINE, kernel_document, kernel_documents, read_csv

kind_option = click.option(
    "--kind", type=click.Choice(["e2e", *KINDS]), help="What the rows are. Default: by their columns."
)
profile_option = click.option(
    "--profile", "profiles", multiple=True, metavar="FILE", help="A profile of your own; wins over the shipped ones."
)


def load(word: str, asked: str | None, measured: bool) -> tuple[Kind, list[str], list[dict[str, object]], list[Row]]:
    """Return the kind, columns, raw rows and parsed rows of a CSV file."""
    columns, raw = read_csv(word)
    where = word.rsplit("/", 1)[-1]
    kind = kind_of(columns, asked, where)
    rows = read_rows(kind, raw, where, lambda name: catalog.gpu(name).name, LINE, measured)
    return kind, columns, raw, rows


def known(words: tuple[str, ...]) -> list[KernelProfile]:
    """Return the shipped profiles, then those asked for."""
    found = [*kernel_documents(), *(kernel_document(word) for word in words)]
    return [read_profile(raw, source, where) for raw, source, where in found]


def predictor(words: tuple[str, ...]) -> Predictor:
    return Predictor(known(words), catalog.gpu)
