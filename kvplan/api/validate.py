"""Predictions against the measured times of a file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvplan.api import values
from kvplan.api.kernel_profiles import predictor
from kvplan.api.kernel_rows import ROWS, holds_servers, load, refuse_settings
from kvplan.measuring.residuals import Residuals, by_kernel
from kvplan.specs.result import Result

if TYPE_CHECKING:
    from kvplan.measuring.serving.check import Beside
    from kvplan.measuring.serving.predict import PredictedRow

#: so many end-to-end rows are returned one by one
FEW = 20


@dataclass(frozen=True, kw_only=True)
class KernelErrors(Result, of="validate"):
    """Errors on rows of one kind of kernel, by GPU, engine, kernel and dtype, all rows last."""

    kind: str  #: kind of kernel
    groups: Sequence[Residuals]  #: errors by GPU, engine, kernel and dtype, all rows last


@dataclass(frozen=True, kw_only=True)
class ServerErrors(Result, of="validate"):
    """Errors on end-to-end rows under a profile, by metric, then by GPU, engine and model; why rows were left out.

    `few` are the rows one by one beside their predictions, () where there are more than a few.
    """

    profile: str  #: name of the profile of servers
    metrics: "Mapping[str, Sequence[Beside]]"  #: TPOT, TTFT -> errors by GPU, engine and model, all rows last
    left: Sequence[str]  #: why rows were left out, a line each
    few: "Sequence[PredictedRow]" = ()  #: rows beside their predictions, () where there are more than FEW


def validate(
    rows: str,
    *,
    kind: str | None = None,
    settings: str | Iterable[str] | Mapping[str, object] = (),
    profiles: str | Iterable[str] = (),
) -> KernelErrors | ServerErrors:
    """Return the errors of predictions against a file's measured times: predicted over measured, minus one.

    Beside those of end-to-end rows stands the median error of a plain roofline. `kind`, `settings` and `profiles` are
    as in `predict`. Raises KvplanError for a file, names and values that cannot be understood.

        >>> kvplan.validate("gemm.csv").groups[-1].rows
        30
    """
    given = values.settings(settings)
    named = values.several(profiles, "profiles")
    rows = values.word(rows, "rows")
    kind = values.given(values.one_of, kind, "kind", ROWS)
    if holds_servers(rows, kind):
        return validate_servers(rows, kind, given, named)
    refuse_settings(given)
    row_kind, _, _, parsed = load(rows, kind, measured=True)
    oracle = predictor(named)
    return KernelErrors(kind=row_kind.name, groups=by_kernel([(row, oracle.predict(row.shape)) for row in parsed]))


def validate_servers(word: str, kind: str | None, given: Mapping[str, str], profiles: Sequence[str]) -> ServerErrors:
    """Compare end-to-end rows with their predictions and with a plain roofline."""
    from kvplan import catalog
    from kvplan.api.server_rows import profile_of, read_table, usable
    from kvplan.measuring.serving.check import by_server
    from kvplan.measuring.serving.predict import PredictedRow, predict

    profile = profile_of(profiles)
    engine = catalog.fitted_engine()
    rows, left = usable([read_table(word, kind, given, measured=True)])
    few = [p for p in predict(rows, profile, engine) if isinstance(p, PredictedRow)] if len(rows) <= FEW else []
    return ServerErrors(profile=profile.name, metrics=by_server(rows, profile, engine), left=left, few=few)
