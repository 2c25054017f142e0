"""Measured rows in, a profile of named coefficients out, or the errors on rows left out of the fit."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kvplan import catalog
from kvplan.api import values
from kvplan.api.kernel_profiles import known
from kvplan.api.kernel_rows import ROWS, holds_servers, load, refuse_settings
from kvplan.api.profile import Profiled, base, recalibrated
from kvplan.catalog.files import distinct
from kvplan.catalog.samples import holds_samples, must_be_writable
from kvplan.catalog.tables import stem, write_profile
from kvplan.errors import SpecError, WrongUse
from kvplan.measuring.device.course import COLUMNS
from kvplan.measuring.kernels.rows import MEASURED, KernelRow
from kvplan.measuring.residuals import Residuals
from kvplan.specs.result import Result
from kvplan.specs.source import KINDS, Source

if TYPE_CHECKING:
    from kvplan.api.server_rows import RowFile
    from kvplan.measuring.kernels.fit import Progress
    from kvplan.measuring.serving.check import Beside
    from kvplan.measuring.serving.profiles import ProfileHeading
    from kvplan.measuring.serving.rows import ServerRow

#: where rows were measured
TIERS = ("measured here", "measured elsewhere")
COMMENT = "Fitted by `kvplan calibrate`: coefficients, errors on rows left out, 80 % intervals; see docs/calibration.md"
SERVER_COMMENT = (
    "Fitted by `kvplan calibrate {rows}`{manner}: terms, factors, 80 % intervals of rows left out; see docs/serving.md"
)


@dataclass(frozen=True, kw_only=True)
class FittedKernels(Result, of="calibrate"):
    """A fit of kernels to rows and where its profile is; `parts`: each part of a kernel with its errors."""

    kernels: int  #: kernels fitted
    rows: int  #: rows they were fitted to
    output: str  #: the file of the profile
    parts: Sequence[Mapping[str, Any]]  #: each part of a kernel: GPU, engine, kind, kernel, part and its errors


@dataclass(frozen=True, kw_only=True)
class CheckedKernels(Result, of="calibrate"):
    """What was left out of fits of kernels, and the errors on it."""

    checks: Sequence[tuple[str, Sequence[Residuals]]]  #: (what was held out, errors on it by GPU, engine and dtype)


@dataclass(frozen=True, kw_only=True)
class FittedServers(Result, of="calibrate"):
    """A fit of servers: where its profile is (nowhere when it was only tested) and the errors on rows left out.

    `shipped` is the profile it stands on, '' for none; `speculative` the engine versions with speculative decoding.
    """

    rows: int  #: rows fitted to
    output: str | None  #: the file of the profile, None where the fit was only tested
    shipped: str  #: profile the fit started from, '' for none
    speculative: Sequence[str] | None  #: runs, releases and models with speculative decoding, None without a profile
    metrics: "Mapping[str, Sequence[Beside]]"  #: TPOT, TTFT -> errors on rows held out
    left: Sequence[str]  #: why rows were left out, a line each


#: what a calibration can return: samples of `kvplan profile` are fitted as it fits them
Calibrated = FittedKernels | CheckedKernels | FittedServers | Profiled


def calibrate(
    rows: str | Iterable[str] = (),
    output: str | None = None,
    *,
    metrics: str | None = None,
    prometheus: str | None = None,
    since: str | None = None,
    until: str | None = None,
    select: str | Iterable[str] = (),
    window: float | str = "30s",
    kind: str | None = None,
    gpu: str | None = None,
    name: str | None = None,
    title: str | None = None,
    ref: str | None = None,
    on: str | None = None,
    tier: str = TIERS[1],
    settings: str | Iterable[str] | Mapping[str, object] = (),
    from_scratch: bool = False,
    speculative: str | Iterable[str] = (),
    progress: "Progress | None" = None,
    told: "Callable[[str], None] | None" = None,
) -> Calibrated:
    """Fit kernels or servers to measured rows and write a profile to `output`; without one, test the fit.

    End-to-end rows move the shipped profile's servers unless the fit is `from_scratch`; `speculative` names the engine
    versions that ran speculative decoding. `gpu` picks the rows of one GPU, `ref` and `on` say where and on which day
    the rows were obtained. `metrics` is the address of a live server whose load and times within a `window` make one
    more row; a `prometheus` server's are the windows it kept from `since` to `until`, of servers under the labels that
    `select` names. `progress` is told (done, of how many, what is next), `told` hears of windows that are left out
    or hold a restart. Raises KvplanError for files, names and values that cannot be understood, and for too few rows.

        >>> kvplan.calibrate("gemm.csv", "mine.yaml").kernels
        2
    """
    words, given, versions = (
        values.several(rows, "rows"), values.settings(settings), values.several(speculative, "speculative"),
    )  # fmt: skip
    metrics, prometheus = (
        values.given(values.word, metrics, "metrics"), values.given(values.word, prometheus, "prometheus"),
    )  # fmt: skip
    since, until, select = (
        values.given(values.word, since, "since"), values.given(values.word, until, "until"),
        values.several(select, "select"),
    )  # fmt: skip
    if (since or until or select) and prometheus is None:
        raise WrongUse("since, until, select: are of a Prometheus server; give prometheus=http://localhost:9090")
    live, length = metrics or prometheus, values.seconds(window, "window")
    if not words and live is None:
        raise WrongUse("rows: name at least one file of measured rows, or the metrics of a server")
    kind, tier = values.given(values.one_of, kind, "kind", ROWS), values.one_of(tier, "tier", TIERS)
    output, gpu = values.given(values.word, output, "output"), values.given(values.word, gpu, "gpu")
    name, title, ref = (
        values.given(values.word, value, parameter)
        for value, parameter in ((name, "name"), (title, "title"), (ref, "ref"))
    )
    from_scratch, progress = (
        values.flag(from_scratch, "from_scratch"),
        values.given(values.called, progress, "progress"),
    )
    named = ", ".join([*map(base, words), *([live] if live else [])])
    source = Source(kind=KINDS[0], ref=ref or named, date=values.day(on))
    told = values.given(values.called, told, "told")
    distinct(words, output)
    servers = [word for word in words if holds_servers(word, kind)]
    if output is not None:
        must_be_writable(output)
    if servers or live:
        if other := next((word for word in words if word not in servers), ""):
            raise SpecError(
                f"{live or servers[0]} holds end-to-end rows and {other} does not; calibrate them one after another"
            )
        about = None if output is None else described(output, name, title or "", tier, source)
        from kvplan.api.watch import looked, watch

        ranges: dict[str, Any] = {"prometheus": prometheus, "since": since, "until": until, "select": select}
        ranges["told"], once = told, None if prometheus else 1
        seen = list(watch(metrics, window=length, settings=given, count=once, **ranges)) if live else []
        tables = [looked(seen, live)] if live else []
        return calibrate_servers(words, tables, output, kind, gpu, given, from_scratch, versions, about, progress)
    refuse_settings(given)
    if from_scratch or versions:
        raise WrongUse("from_scratch, speculative: are for end-to-end rows")
    if any(holds_samples(word, COLUMNS) for word in words):
        if output is None or len(words) > 1 or kind or gpu or title or ref or on:
            raise SpecError("samples of `kvplan profile` are fitted alone: one file, its output and at most a name")
        return from_samples(words[0], output, name, tier, source)
    parsed = gathered(words, kind, gpu)
    if output is None:
        from kvplan.measuring.kernels.holdout import checks

        return CheckedKernels(checks=list(checks(parsed, catalog.gpu, progress)))
    return fitted_kernels(parsed, output, name or stem(output), title, tier, source, progress)


def gathered(words: Sequence[str], kind: str | None, gpu: str | None) -> list[KernelRow]:
    """Return the rows of all files, those of one GPU when it is named."""
    rows = [row for word in words for row in load(word, kind, measured=True)[3]]
    if gpu is None:
        return rows
    wanted = catalog.gpu(gpu).name
    chosen = [row for row in rows if row.shape.gpu == wanted]
    if not chosen:
        raise SpecError(f"no row is of {wanted}; the files hold {', '.join(sorted({r.shape.gpu for r in rows}))}")
    return chosen


def fitted_kernels(
    rows: Sequence[KernelRow],
    output: str,
    name: str,
    title: str | None,
    tier: str,
    source: Source,
    progress: "Progress | None",
) -> FittedKernels:
    """Fit kernels to rows and write their profile."""
    from kvplan.measuring.kernels.fit import document, fit

    made = list(fit(rows, catalog.gpu, progress))
    if not made:
        raise SpecError(f"too few rows with {MEASURED} to fit any kernel; a dozen of one kernel and dtype is a start")
    heading = {
        "name": name,
        "title": title or f"Kernels of {', '.join(sorted({place[0] for place, _, _ in made}))}",
        "source": {"kind": source.kind, "ref": source.ref, "date": source.date},
    }
    write_profile(output, document(heading, made, tier), COMMENT)
    named = ("gpu", "engine", "kind", "kernel")
    parts = [
        {**dict(zip(named, place, strict=True)), "part": part, **fitted.residuals}
        for place, _, fits in made
        for part, fitted in fits.items()
    ]
    return FittedKernels(kernels=len(made), rows=len(rows), output=output, parts=parts)


def from_samples(rows: str, output: str, name: str | None, tier: str, source: Source) -> Profiled:
    """Fit the samples of a profile again and write it."""
    begun = time.monotonic()
    origin = {"kind": source.kind, "ref": source.ref, "date": source.date}
    heading = {"name": name or stem(output), "title": "Samples of `kvplan profile`", "source": origin, "tier": tier}
    document = recalibrated(rows, output, heading)
    return Profiled(document=document, output=output, rows=rows, seconds=time.monotonic() - begun)


# -- servers --------------------------------------------------------------------------------------


def described(output: str, name: str | None, title: str, tier: str, source: Source) -> "ProfileHeading":
    """Return what a serving profile says of itself; no title yet when the user gives none."""
    from kvplan.measuring.serving.profiles import ProfileHeading

    return ProfileHeading(name=name or stem(output), title=title, tier=tier, source=source)


def calibrate_servers(
    words: Sequence[str],
    live: "Sequence[RowFile]",
    output: str | None,
    kind: str | None,
    gpu: str | None,
    given: Mapping[str, str],
    scratch: bool,
    speculative: Sequence[str],
    about: "ProfileHeading | None",
    progress: "Progress | None",
) -> FittedServers:
    """Fit servers to end-to-end rows, or return errors on rows left out of such fits."""
    from kvplan.api.server_rows import read_table, usable
    from kvplan.measuring.serving.check import held_out_errors
    from kvplan.measuring.serving.fit import FitOptions, check, fit
    from kvplan.measuring.serving.profiles import document

    rows, left = usable([*live, *(read_table(word, kind, given, measured=True) for word in words)])
    if not any(r.ttft or r.tpot for r in rows):
        raise SpecError("no row tells TTFT or TPOT, which a fit needs: a whole batch tells neither")
    rows = [r for r in rows if r.ttft or r.tpot]
    if gpu is not None:
        wanted, held = catalog.gpu(gpu).name, sorted({r.gpu.name for r in rows})
        rows = [r for r in rows if r.gpu.name == wanted]
        if not rows:
            raise SpecError(f"no row is of {wanted}; the files hold {', '.join(held)}")
    rows = [replace(r, speculation_gain=0.0) if ran_fast(r, speculative) else r for r in rows]
    options = FitOptions(from_scratch=scratch, kernels=of_kernels() if scratch else {}, progress=progress)
    engine, shipped = catalog.fitted_engine(), catalog.serving_profile()
    if about is None or output is None:
        profile = None
        held_out, ranges = check(rows, engine, shipped, options)
    else:
        pairs = sorted({f"{r.gpu.name} {r.engine}" for r in rows})
        source = replace(about.source, ref=f"{about.source.ref}, on top of {shipped.source.ref}")
        about = replace(about, title=about.title or f"Servers: {', '.join(pairs)}")
        about = about if scratch else replace(about, source=source)
        profile, held_out = fit(rows, engine, about, shipped, options)
        ranges = dict(profile.ranges)
        comment = SERVER_COMMENT.format(
            rows=" ".join([*map(base, words), *(t.name for t in live)]), manner=" from scratch" if scratch else ""
        )
        write_profile(output, document(profile), comment)
    return FittedServers(
        rows=len(rows),
        output=output,
        shipped="" if scratch else shipped.name,
        speculative=profile.speculative if profile else None,
        metrics=held_out_errors(held_out, ranges, engine),
        left=left,
    )


def ran_fast(row: "ServerRow", speculative: Sequence[str]) -> bool:
    """Return whether a row is of a version the user names as one that ran speculative decoding."""
    return row.speculation_gain is None and any(f"{row.engine} {row.version}".startswith(name) for name in speculative)


def of_kernels() -> dict[str, dict[str, float]]:
    """Return what measured kernels say of architectures on which no server of the main source ran. [logarithm]"""
    from math import log

    from kvplan.measuring.kernels.shares import REFERENCES, kernel_factors
    from kvplan.perf.kernel_profile import Predictor

    shipped = known(())
    gpus = [catalog.gpu(name) for profile in shipped for name in profile.kernels]
    factors = kernel_factors(Predictor(shipped, catalog.gpu), gpus, REFERENCES)
    return {
        architecture: {term: log(factor) for term, factor in terms.items()} for architecture, terms in factors.items()
    }
