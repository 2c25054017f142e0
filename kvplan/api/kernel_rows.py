"""Reading rows of kernels, in whole files or a block after another."""

from collections.abc import Iterator, Mapping

from kvplan import catalog
from kvplan.catalog.rows.results import holds_results
from kvplan.catalog.rows.tables import LINE, base, csv_blocks, csv_columns
from kvplan.errors import SpecError
from kvplan.measuring.kernels.rows import KernelRow, is_serving, kind_of, read_rows
from kvplan.perf.kernel_profile import KINDS, Kind

#: what rows are: end-to-end, or of a kind of kernel
ROWS = ("e2e", *KINDS)
#: rows of kernels: their kind, columns, each as it stands, and each as it was understood
Block = tuple[Kind, list[str], list[dict[str, object]], list[KernelRow]]


def refuse_settings(given: Mapping[str, str]) -> None:
    """Refuse settings for rows of kernels."""
    if given:
        raise SpecError(f"settings={next(iter(given))}: only end-to-end rows and result files take it")


def holds_servers(word: str, stated: str | None) -> bool:
    """Return whether a file holds end-to-end rows: a benchmark's result, or a table with their columns.

    `stated` is the kind of its rows where the user states it.
    """
    return stated == "e2e" or holds_results(word) or is_serving(csv_columns(word), stated)


def load(word: str, stated: str | None, measured: bool) -> Block:
    """Return the kind, columns, raw rows and parsed rows of a CSV file, with times where they are `measured`."""
    return next(blocks(word, stated, measured, None))


def blocks(word: str, stated: str | None, measured: bool, size: int | None) -> Iterator[Block]:
    """Yield what `load` returns for `size` rows of a CSV file after another (None: all).

    Columns that make no rows of a kind are refused before any row is read.
    """
    name = base(word)

    def check(columns: list[str]) -> None:
        kind_of(columns, stated, name, measured)

    for columns, raw in csv_blocks(word, size, check):
        kind = kind_of(columns, stated, name, measured)
        rows = read_rows(kind, raw, name, lambda gpu: catalog.gpu(gpu).name, LINE, measured)
        yield kind, columns, raw, rows
