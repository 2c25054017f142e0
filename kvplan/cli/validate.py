"""`kvplan validate`: predictions against the measured times of a file."""

import click

from kvplan.cli.kernel_rows import (
    holds_servers,
    kind_option,
    load,
    predictor,
    profile_option,
    refuse_settings,
    set_option,
)
from kvplan.cli.options import deliver, examples, json_option, path
from kvplan.measuring.residuals import by_kernel
from kvplan.report.formats import Report


@click.command("validate")
@click.argument("rows", type=path)
@kind_option
@set_option
@profile_option
@json_option
@examples("kvplan validate gemm.csv", "kvplan validate serving.csv", "kvplan validate result.json --set gpu=h100")
def command(rows: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool) -> None:
    """Compare predictions with the measured times of a file, by GPU, engine, and kernel and dtype or model.

    Errors are predicted over measured, minus one; "in 80 %" counts rows inside their 80 % interval. Beside end-to-end
    rows stands the median error of a plain roofline: bytes and FLOPs over the datasheet's rates, nothing fitted.
    """
    if holds_servers(rows, kind):
        validate_servers(rows, kind, given, profiles, as_json)
        return
    refuse_settings(given)
    found, _, _, parsed = load(rows, kind, measured=True)
    oracle = predictor(profiles)
    groups = by_kernel([(row, oracle.predict(row.shape)) for row in parsed])

    from kvplan.report import validate as words

    deliver(Report(lambda: words.page(found.name, groups), lambda: words.document(found.name, groups)), as_json)


#: so many rows are shown one by one
FEW = 20


def validate_servers(
    word: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool
) -> None:
    """Compare end-to-end rows with their predictions and with a plain roofline."""
    from kvplan import catalog
    from kvplan.cli.server_rows import profile_of, read_table, usable
    from kvplan.measuring.serving_check import by_server
    from kvplan.measuring.serving_predict import Timed, predict
    from kvplan.report import validate as words

    profile = profile_of(profiles)
    rows, left = usable([read_table(word, kind, given, measured=True)])
    metrics = by_server(rows, profile, catalog.engine())
    few = [p for p in predict(rows, profile, catalog.engine()) if isinstance(p, Timed)] if len(rows) <= FEW else []
    report = Report(
        lambda: words.server_page(metrics, left, few), lambda: words.server_document(profile.name, metrics, left, few)
    )
    deliver(report, as_json)
