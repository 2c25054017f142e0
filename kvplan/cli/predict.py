"""`kvplan predict`: the time of every kernel call in a file, with an interval."""

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.cli.kernel_rows import kind_option, load, predictor, profile_option
from kvplan.measuring.rows import MEASURED
from kvplan.perf.kernel_profile import Prediction
from kvplan.specs.catalog_tables import write_csv
from kvplan.units import MILLION

PREDICTED = (MEASURED, f"{MEASURED}_low", f"{MEASURED}_high", "note")


def cells(found: Prediction) -> dict[str, str]:
    """Return a prediction as the columns it adds, times in microseconds."""
    times = (found.time, found.low, found.high)
    return dict(zip(PREDICTED, (*(f"{time * MILLION:.6g}" for time in times), found.note), strict=True))


@click.command("predict")
@click.argument("rows", type=click.Path())
@click.option("--output", "-o", required=True, type=click.Path(), help="Where the predicted rows go.")
@kind_option
@profile_option
@json_option
@examples("kvplan predict gemm.csv -o predicted.csv")
def command(rows: str, output: str, kind: str | None, profiles: tuple[str, ...], as_json: bool) -> None:
    """Predict the time of every kernel call in a CSV file.

    Rows keep their order and columns; latency_us, latency_us_low, latency_us_high (80 % interval) and note are
    added. A measured latency_us in the input is ignored.
    """
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
