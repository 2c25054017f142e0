"""What predict, validate and calibrate share: options, reading rows of kernels, the profiles they stand on."""

from collections.abc import Iterator, Mapping

import click

from kvplan import catalog
from kvplan.catalog.tables import LINE, csv_blocks, csv_columns, kernel_document, kernel_documents
from kvplan.errors import SpecError, shown
from kvplan.measuring.rows import Row, is_serving, kind_of, read_rows
from kvplan.perf.kernel_profile import KINDS, KernelProfile, Kind, Predictor, read_profile

#: rows of kernels: their kind, columns, each as it stands, and each as it was understood
Block = tuple[Kind, list[str], list[dict[str, object]], list[Row]]

kind_option = click.option(
    "--kind", type=click.Choice(["e2e", *KINDS]), help="What the rows are. Default: by their columns."
)
profile_option = click.option(
    "--profile", "profiles", multiple=True, metavar="FILE", help="A profile of your own; wins over the shipped ones."
)


def settings(_context: click.Context, _option: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    """Read what a user says of end-to-end rows: gpu=h100."""
    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.strip():
            raise click.BadParameter(f"expected COLUMN=VALUE, as in --set gpu=h100, got {shown(word)}")
        found[name.strip()] = value.strip()
    return found


set_option = click.option(
    "--set",
    "given",
    multiple=True,
    callback=settings,
    metavar="COLUMN=VALUE",
    help="Say what end-to-end rows or a result file do not: gpu=h100, tp=4, engine=vllm; repeat for more.",
)


def refuse_settings(given: Mapping[str, str]) -> None:
    """Refuse --set for rows of kernels."""
    if given:
        raise SpecError(f"--set {next(iter(given))}: only end-to-end rows and result files take it")


def holds_servers(word: str, asked: str | None) -> bool:
    """Return whether a file holds end-to-end rows: a benchmark's result, or a table with their columns."""
    return word.lower().endswith(".json") or asked == "e2e" or is_serving(csv_columns(word), asked)


def load(word: str, asked: str | None, measured: bool) -> Block:
    """Return the kind, columns, raw rows and parsed rows of a CSV file."""
    return next(blocks(word, asked, measured, None))


def blocks(word: str, asked: str | None, measured: bool, size: int | None) -> Iterator[Block]:
    """Yield what `load` returns for `size` rows of a CSV file after another (None: all)."""
    where = word.rsplit("/", 1)[-1]
    for columns, raw in csv_blocks(word, size):
        kind = kind_of(columns, asked, where)
        rows = read_rows(kind, raw, where, lambda name: catalog.gpu(name).name, LINE, measured)
        yield kind, columns, raw, rows


def known(words: tuple[str, ...]) -> list[KernelProfile]:
    """Return the shipped profiles, then those asked for."""
    if servers := [word for word in words if catalog.is_serving(word)]:
        raise SpecError(f"--profile {servers[0]}: is a profile of servers; rows of kernels need one of kernels")
    found = [*kernel_documents(), *(kernel_document(word) for word in words)]
    return [read_profile(raw, source, where) for raw, source, where in found]


def predictor(words: tuple[str, ...]) -> Predictor:
    return Predictor(known(words), catalog.gpu)
