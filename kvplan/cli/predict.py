"""`kvplan predict`: the times of every kernel call or server load in a file, with intervals."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import click

from kvplan import catalog
from kvplan.catalog.tables import STDOUT, write_csv
from kvplan.cli.kernel_rows import (
    blocks,
    holds_servers,
    kind_option,
    predictor,
    profile_option,
    refuse_settings,
    set_option,
)
from kvplan.cli.options import deliver, examples, json_option, path
from kvplan.errors import SpecError
from kvplan.measuring.rows import MEASURED
from kvplan.perf.kernel_profile import Prediction
from kvplan.report.formats import Report
from kvplan.units import MILLION

if TYPE_CHECKING:
    from kvplan.measuring.serving_predict import Timed

#: rows in memory at once
BLOCK = 1000
PREDICTED = (MEASURED, f"{MEASURED}_low", f"{MEASURED}_high", "note")


def cells(found: Prediction) -> dict[str, str]:
    """Return a prediction as the columns it adds, times in microseconds."""
    times = (found.time, found.low, found.high)
    return dict(zip(PREDICTED, (*(f"{time * MILLION:.6g}" for time in times), found.note), strict=True))


@click.command("predict")
@click.argument("rows", type=path)
@click.option("--output", "-o", required=True, type=path, help="Where the predicted rows go; - is stdout.")
@kind_option
@set_option
@profile_option
@json_option
@examples(
    "kvplan predict gemm.csv -o predicted.csv",
    "kvplan predict serving.csv -o predicted.csv",
    "kvplan predict result.json --set gpu=h100 --set tp=4 -o predicted.csv",
)
def command(
    rows: str, output: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool
) -> None:
    """Predict the times of every kernel call, or of every load of a server, in a file.

    Rows keep their order and columns; latency_us or ttft_ms and tpot_ms, each with *_low and *_high (80 % interval),
    and note are added. Measured times in the input are ignored. A result file of a benchmark (JSON) holds loads.
    """
    if output == STDOUT and as_json:
        raise SpecError("--json: the predicted rows go to stdout (-o -); write them to a file")
    if holds_servers(rows, kind):
        predict_servers(rows, output, kind, given, profiles, as_json)
        return
    refuse_settings(given)
    oracle, tiers, tally = predictor(profiles), Counter[str](), Counter[str]()
    each = blocks(rows, kind, False, BLOCK)
    first = next(each)
    found, kept = first[0], [name for name in first[1] if name not in PREDICTED]

    def predicted() -> Iterator[dict[str, object]]:
        for _, _, raw, parsed in chain([first], each):
            for entry, row in zip(raw, parsed, strict=True):
                made = oracle.predict(row.shape)
                tiers[made.tier] += 1
                tally.update(rows=1, noted=int(bool(made.note)))
                yield {**entry, **cells(made)}

    write_csv(output, [*kept, *PREDICTED], predicted())

    from kvplan.report import predict as words

    stands = dict(sorted(tiers.items()))
    said = words.Predicted(kind=found.name, rows=tally["rows"], noted=tally["noted"], stands=stands, output=output)
    hand_over(output, Report(lambda: words.page(said), lambda: words.document(said)), as_json)


def hand_over(output: str, report: Report, as_json: bool) -> None:
    """Say what was predicted; on stderr where the rows went to stdout."""
    deliver(report, as_json, aside=output == STDOUT)


SERVED = tuple(f"{name}{end}" for name in ("ttft_ms", "tpot_ms") for end in ("", "_low", "_high"))


def predict_servers(
    word: str, output: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool
) -> None:
    """Predict end-to-end rows; one that cannot be predicted says why in its note."""
    from kvplan.cli.server_rows import profile_of, tables
    from kvplan.measuring.serving_predict import Timed, predict
    from kvplan.report import predict as words

    profile, engine = profile_of(profiles), catalog.engine()
    bases, tally = Counter[str](), Counter[str]()
    each = tables(word, kind, given, False, BLOCK)
    first = next(each)
    kept = [name for name in first.columns if name not in (*SERVED, "note")]

    def predicted() -> Iterator[dict[str, object]]:
        for table in chain([first], each):
            for entry, p in zip(table.raw, predict(table.rows, profile, engine), strict=True):
                made = server_cells(p) if isinstance(p, Timed) else {"note": p.reason}
                bases[p.basis if isinstance(p, Timed) else "none"] += 1
                tally.update(rows=1, noted=int(bool(made["note"])))
                yield {**{name: entry[name] for name in kept}, **made}

    write_csv(output, [*kept, *SERVED, "note"], predicted())
    counts = {basis: bases[basis] for basis in words.ON if basis in bases}
    said = words.Predicted(kind="e2e", rows=tally["rows"], noted=tally["noted"], stands=counts, output=output)
    hand_over(
        output, Report(lambda: words.server_page(said), lambda: words.server_document(said, profile.name)), as_json
    )


def server_cells(p: "Timed") -> dict[str, str]:
    """Return a prediction as the columns it adds, times in milliseconds."""
    times = (p.ttft, *p.ttft_range, p.tpot, *p.tpot_range)
    made = dict(zip(SERVED, (f"{time * 1e3:.6g}" for time in times), strict=True))
    return {**made, "note": "; ".join(p.notes)}
