"""`kvplan predict`: the times of every kernel call or server load in a file, with intervals."""

from typing import TYPE_CHECKING

import click

from kvplan.cli.common import deliver, examples, json_option, path
from kvplan.cli.kernel_rows import (
    holds_servers,
    kind_option,
    load,
    predictor,
    profile_option,
    refuse_settings,
    set_option,
)
from kvplan.measuring.rows import MEASURED
from kvplan.perf.kernel_profile import Prediction
from kvplan.specs import catalog
from kvplan.specs.catalog_tables import write_csv
from kvplan.specs.serving_profile import ELSEWHERE, NOWHERE, SEEN, SERVER
from kvplan.units import MILLION

if TYPE_CHECKING:
    from kvplan.measuring.serving_predict import Timed

PREDICTED = (MEASURED, f"{MEASURED}_low", f"{MEASURED}_high", "note")


def cells(found: Prediction) -> dict[str, str]:
    """Return a prediction as the columns it adds, times in microseconds."""
    times = (found.time, found.low, found.high)
    return dict(zip(PREDICTED, (*(f"{time * MILLION:.6g}" for time in times), found.note), strict=True))


@click.command("predict")
@click.argument("rows", type=path)
@click.option("--output", "-o", required=True, type=path, help="Where the predicted rows go.")
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
    if holds_servers(rows, kind):
        predict_servers(rows, output, kind, given, profiles, as_json)
        return
    refuse_settings(given)
    found, columns, raw, parsed = load(rows, kind, measured=False)
    oracle = predictor(profiles)
    made = [oracle.predict(row.shape) for row in parsed]
    kept = [name for name in columns if name not in PREDICTED]
    write_csv(output, [*kept, *PREDICTED], [{**entry, **cells(p)} for entry, p in zip(raw, made, strict=True)])
    noted = sum(bool(p.note) for p in made)
    tiers = {tier: sum(p.tier == tier for p in made) for tier in sorted({p.tier for p in made})}

    def document() -> dict[str, object]:
        return {
            "schema": 1,
            "command": "predict",
            "kind": found.name,
            "rows": len(made),
            "noted": noted,
            "tiers": tiers,
            "output": output,
        }

    def report() -> list[object]:
        stand = ", ".join(f"{count:,} {tier}" for tier, count in tiers.items())
        return [f"{len(made):,} {found.name} rows in {output} ({stand}); {noted:,} with a note."]

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
    from kvplan.cli.server_rows import profile_of, read_table
    from kvplan.measuring.serving_predict import Timed, predict

    profile = profile_of(profiles)
    table = read_table(word, kind, given, measured=False)
    made = predict(table.rows, profile, catalog.engine())
    kept = [name for name in table.columns if name not in (*SERVED, "note")]
    filled = [
        {**entry, **(server_cells(p) if isinstance(p, Timed) else {"note": p.reason})}
        for entry, p in zip([{name: e[name] for name in kept} for e in table.raw], made, strict=True)
    ]
    write_csv(output, [*kept, *SERVED, "note"], filled)
    bases = [p.basis if isinstance(p, Timed) else "none" for p in made]
    counts = {basis: bases.count(basis) for basis in dict.fromkeys((*ON, "none")) if basis in bases}
    noted = sum(bool(row["note"]) for row in filled)

    def document() -> dict[str, object]:
        return {
            "schema": 1,
            "command": "predict",
            "kind": "e2e",
            "profile": profile.name,
            "rows": len(made),
            "refused": counts.get("none", 0),
            "noted": noted,
            "basis": counts,
            "output": output,
        }

    def report() -> list[object]:
        stand = ", ".join(f"{count:,} {ON.get(basis, 'not predicted')}" for basis, count in counts.items())
        return [f"{len(made):,} end-to-end rows in {output} ({stand}); {noted:,} with a note."]

    deliver(as_json, document, report)


def server_cells(p: "Timed") -> dict[str, str]:
    """Return a prediction as the columns it adds, times in milliseconds."""
    times = (p.ttft, *p.ttft_range, p.tpot, *p.tpot_range)
    made = dict(zip(SERVED, (f"{time * 1e3:.6g}" for time in times), strict=True))
    return {**made, "note": "; ".join(p.notes)}
