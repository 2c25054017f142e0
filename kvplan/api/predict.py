"""The times of every kernel call or server load in a file, with intervals."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from kvplan import catalog
from kvplan.api import values
from kvplan.api.kernel_profiles import predictor
from kvplan.api.kernel_rows import ROWS, blocks, holds_servers, refuse_settings
from kvplan.catalog.files import distinct
from kvplan.catalog.rows.tables import write_csv
from kvplan.measuring.kernels.rows import MEASURED
from kvplan.perf.kernel_profile import Prediction
from kvplan.specs.result import Result
from kvplan.units import MILLION

if TYPE_CHECKING:
    from kvplan.measuring.serving.predict import PredictedRow

#: rows in memory at once
BLOCK = 1000
#: columns added to rows of kernels [us], and to end-to-end rows [ms]
PREDICTED = (MEASURED, f"{MEASURED}_low", f"{MEASURED}_high", "note")
SERVED = tuple(f"{name}{end}" for name in ("ttft_ms", "tpot_ms") for end in ("", "_low", "_high"))


@dataclass(frozen=True, kw_only=True)
class Predicted(Result, of="predict"):
    """Rows of a kind that were predicted into `output`, those with a note, and how many rest on what.

    `profile` is the profile of servers that end-to-end rows stand on, '' for rows of kernels.
    """

    kind: str  #: what the rows are, one of ROWS
    rows: int  #: rows predicted, those refused included
    noted: int  #: rows with a note
    stands: Mapping[str, int]  #: what predictions rest on -> rows; refused ones under "none"
    output: str  #: the file they were written to
    profile: str = ""  #: profile of servers they stand on, '' for rows of kernels


def predict(
    rows: str,
    output: str,
    *,
    kind: str | None = None,
    settings: str | Iterable[str] | Mapping[str, object] = (),
    profiles: str | Iterable[str] = (),
) -> Predicted:
    """Write a file's rows with their predicted times and 80 % intervals as CSV, and return how many rest on what.

    Rows keep their order and columns. Added are latency_us for kernels, ttft_ms and tpot_ms for end-to-end rows and
    results of benchmarks, each with *_low and *_high, and a note where a row is outside what the profile knows.
    `kind` is told by the columns where it is not given, `settings` says what end-to-end rows do not. Raises
    KvplanError for a file, names and values that cannot be understood; the output is then as it was.

        >>> kvplan.predict("gemm.csv", "predicted.csv").rows
        30
    """
    given = values.settings(settings)
    named = values.several(profiles, "profiles")
    rows, output = values.word(rows, "rows"), values.word(output, "output")
    kind = values.given(values.one_of, kind, "kind", ROWS)
    if holds_servers(rows, kind):
        return predict_servers(rows, output, kind, given, named)
    refuse_settings(given)
    return predict_kernels(rows, output, kind, named)


def predict_kernels(word: str, output: str, kind: str | None, profiles: Sequence[str]) -> Predicted:
    """Predict rows of kernels; what they rest on is the tier of their profile."""
    distinct([word], output)
    oracle = predictor(profiles)
    tiers = Counter[str]()
    tally = Counter[str]()
    each = blocks(word, kind, False, BLOCK)
    first = next(each)
    row_kind = first[0]
    kept = [name for name in first[1] if name not in PREDICTED]

    def predicted() -> Iterator[dict[str, object]]:
        for _, _, raw, parsed in chain([first], each):
            for entry, row in zip(raw, parsed, strict=True):
                made = oracle.predict(row.shape)
                tiers[made.tier] += 1
                tally.update(rows=1, noted=int(bool(made.note)))
                yield {**entry, **with_own_note(kernel_cells(made), entry)}

    write_csv(output, [*kept, *PREDICTED], predicted())
    stands = dict(sorted(tiers.items()))
    return Predicted(kind=row_kind.name, rows=tally["rows"], noted=tally["noted"], stands=stands, output=output)


def kernel_cells(prediction: Prediction) -> dict[str, str]:
    """Return a prediction as the columns it adds, times in microseconds."""
    times = (prediction.time, prediction.low, prediction.high)
    return dict(zip(PREDICTED, (*(f"{time * MILLION:.6g}" for time in times), prediction.note), strict=True))


def predict_servers(
    word: str, output: str, kind: str | None, given: Mapping[str, str], profiles: Sequence[str]
) -> Predicted:
    """Predict end-to-end rows; one that cannot be predicted says why in its note, and rests on 'none'."""
    from kvplan.api.server_rows import profile_of, tables
    from kvplan.measuring.serving.predict import PredictedRow, predict

    distinct([word], output)
    profile = profile_of(profiles)
    engine = catalog.fitted_engine()
    bases, tally = Counter[str](), Counter[str]()
    each = tables(word, kind, given, False, BLOCK)
    first = next(each)
    kept = [name for name in first.columns if name not in (*SERVED, "note")]

    def predicted() -> Iterator[dict[str, object]]:
        for table in chain([first], each):
            for entry, p in zip(table.raw, predict(table.rows, profile, engine), strict=True):
                made = server_cells(p) if isinstance(p, PredictedRow) else {"note": p.reason}
                bases[p.basis if isinstance(p, PredictedRow) else "none"] += 1
                tally.update(rows=1, noted=int(bool(made["note"])))
                yield {**{name: entry[name] for name in kept}, **with_own_note(made, entry)}

    write_csv(output, [*kept, *SERVED, "note"], predicted())
    return Predicted(
        kind="e2e", rows=tally["rows"], noted=tally["noted"], stands=bases, output=output, profile=profile.name
    )


def server_cells(p: "PredictedRow") -> dict[str, str]:
    """Return a prediction as the columns it adds, times in milliseconds."""
    times = (p.ttft, *p.ttft_range, p.tpot, *p.tpot_range)
    made = dict(zip(SERVED, (f"{time * 1e3:.6g}" for time in times), strict=True))
    return {**made, "note": "; ".join(p.notes)}


def with_own_note(made: Mapping[str, str], entry: Mapping[str, object]) -> dict[str, str]:
    """Return a prediction's columns with what the row's own note says before theirs, once however often it is read."""
    own = str(entry.get("note") or "").strip()
    own = own.removesuffix(made["note"]).removesuffix("; ")
    return {**made, "note": "; ".join(filter(None, (own, made["note"])))}
