"""`kvplan predict`: the times of every kernel call or server load in a file, with intervals."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from kvplan.cli.common import deliver, examples, json_option, path
from kvplan.cli.kernel_rows import (
    blocks,
    holds_servers,
    kind_option,
    predictor,
    profile_option,
    refuse_settings,
    set_option,
)
from kvplan.errors import SpecError
from kvplan.measuring.rows import MEASURED
from kvplan.perf.kernel_profile import Prediction
from kvplan.specs import catalog
from kvplan.specs.catalog_tables import STDOUT, write_csv
from kvplan.specs.serving_profile import ELSEWHERE, NOWHERE, SEEN, SERVER
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

    def document() -> dict[str, object]:
        return {
            "schema": 1,
            "command": "predict",
            "kind": found.name,
            "rows": tally["rows"],
            "noted": tally["noted"],
            "tiers": dict(sorted(tiers.items())),
            "output": output,
        }

    def report() -> list[object]:
        stand = ", ".join(f"{count:,} {tier}" for tier, count in sorted(tiers.items()))
        return [f"{tally['rows']:,} {found.name} rows in {output} ({stand}); {tally['noted']:,} with a note."]

    hand_over(output, as_json, document, report)


def hand_over(
    output: str, as_json: bool, document: Callable[[], dict[str, object]], report: Callable[[], list[Any]]
) -> None:
    """Say what was predicted; on stderr where the rows went to stdout."""
    if output == STDOUT:
        click.echo("\n".join(report()), err=True)
    else:
        deliver(as_json, document, report)


#: what end-to-end predictions rest on, as a report says it
ON = {
    SEEN: "measured like this",
    SERVER: "of a model new to the server",
    ELSEWHERE: "of an engine new to the GPU",
    NOWHERE: "of a GPU without measurements",
}
SERVED = tuple(f"{name}{end}" for name in ("ttft_ms", "tpot_ms") for end in ("", "_low", "_high"))


def predict_servers(
    word: str, output: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool
) -> None:
    """Predict end-to-end rows; one that cannot be predicted says why in its note."""
    from kvplan.cli.server_rows import profile_of, tables
    from kvplan.measuring.serving_predict import Timed, predict

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
    counts = {basis: bases[basis] for basis in (*ON, "none") if basis in bases}

    def document() -> dict[str, object]:
        return {
            "schema": 1,
            "command": "predict",
            "kind": "e2e",
            "profile": profile.name,
            "rows": tally["rows"],
            "refused": bases["none"],
            "noted": tally["noted"],
            "basis": counts,
            "output": output,
        }

    def report() -> list[object]:
        stand = ", ".join(f"{count:,} {ON.get(basis, 'not predicted')}" for basis, count in counts.items())
        return [f"{tally['rows']:,} end-to-end rows in {output} ({stand}); {tally['noted']:,} with a note."]

    hand_over(output, as_json, document, report)


def server_cells(p: "Timed") -> dict[str, str]:
    """Return a prediction as the columns it adds, times in milliseconds."""
    times = (p.ttft, *p.ttft_range, p.tpot, *p.tpot_range)
    made = dict(zip(SERVED, (f"{time * 1e3:.6g}" for time in times), strict=True))
    return {**made, "note": "; ".join(p.notes)}
