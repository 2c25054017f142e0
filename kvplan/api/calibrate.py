"""Measured rows in, a profile of named coefficients out, or the errors on rows left out of the fit."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from kvplan import catalog
from kvplan.api import values
from kvplan.api.kernel_profiles import known
from kvplan.api.kernel_rows import ROWS, holds_servers, load, refuse_settings
from kvplan.api.profile import Profiled, recalibrated
from kvplan.catalog.files import distinct
from kvplan.catalog.rows.samples import holds_samples, must_be_writable
from kvplan.catalog.rows.tables import base, stem, write_profile
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
    from kvplan.specs.serving_profile import ServingProfile

T = TypeVar("T")
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


@dataclass(frozen=True, kw_only=True)
class FitQuestion:
    """Files of measured rows, which of them to fit, and what the profile of the fit says of itself."""

    words: tuple[str, ...]  #: files of rows
    output: str | None  #: file of the profile, None to test the fit alone
    kind: str | None  #: kind of rows, None to tell it from each file
    gpu: str | None  #: the GPU whose rows are fitted, None for all
    name: str | None  #: of the profile
    title: str | None  #: of the profile
    ref: str | None  #: where the rows come from, None for their files
    on: str | None  #: day on which they were obtained, None for today
    tier: str  #: where they were measured, one of TIERS
    progress: "Progress | None"  #: told (done, of how many, what is next)

    @property
    def of_servers(self) -> list[str]:
        """Files that hold end-to-end rows."""
        return [word for word in self.words if holds_servers(word, self.kind)]

    @property
    def profile(self) -> str:
        """Name of the profile, that of its file where none was given."""
        return self.name or stem(self.output or "")

    def source(self, live: str = "") -> Source:
        """Return where the rows come from; `live` is a server that was looked at."""
        named = ", ".join([*map(base, self.words), *filter(None, [live])])
        return Source(kind=KINDS[0], ref=self.ref or named, date=values.day(self.on))


@dataclass(frozen=True, kw_only=True)
class LiveServer:
    """A server whose metrics make rows: a page of its own, or windows that a Prometheus server kept."""

    metrics: str | None  #: address of the server's own page
    prometheus: str | None  #: address of a Prometheus server
    since: str | None  #: first moment of the range
    until: str | None  #: last moment of the range
    select: tuple[str, ...]  #: labels of the servers
    window: float  #: length of a window [s]
    told: "Callable[[str], None] | None"  #: hears of windows left out, and of restarts

    def __post_init__(self) -> None:
        if (self.since or self.until or self.select) and self.prometheus is None:
            raise WrongUse("since, until, select: are of a Prometheus server; give prometheus=http://localhost:9090")

    @property
    def address(self) -> str:
        """Where to look, '' for nowhere."""
        return self.metrics or self.prometheus or ""

    def tables(self, settings: Mapping[str, str]) -> "list[RowFile]":
        """Return the server's windows as a table of rows; no table where there is no server."""
        from kvplan.api.watch import rows_seen, watch

        if not self.address:
            return []
        seen = watch(
            self.metrics, window=self.window, settings=settings, count=None if self.prometheus else 1,
            prometheus=self.prometheus, since=self.since, until=self.until, select=self.select, told=self.told,
        )  # fmt: skip
        return [rows_seen(list(seen), self.address)]


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
    question = FitQuestion(
        words=values.several(rows, "rows"),
        output=values.given(values.word, output, "output"),
        kind=values.given(values.one_of, kind, "kind", ROWS),
        gpu=values.given(values.word, gpu, "gpu"),
        name=values.given(values.word, name, "name"),
        title=values.given(values.word, title, "title"),
        ref=values.given(values.word, ref, "ref"),
        on=values.given(values.day, on),
        tier=values.one_of(tier, "tier", TIERS),
        progress=values.given(values.called, progress, "progress"),
    )
    live = LiveServer(
        metrics=values.given(values.word, metrics, "metrics"),
        prometheus=values.given(values.word, prometheus, "prometheus"),
        since=values.given(values.word, since, "since"),
        until=values.given(values.word, until, "until"),
        select=values.several(select, "select"),
        window=values.seconds(window, "window"),
        told=values.given(values.called, told, "told"),
    )
    given = values.settings(settings)
    versions = values.several(speculative, "speculative")
    scratch = values.flag(from_scratch, "from_scratch")
    if not question.words and not live.address:
        raise WrongUse("rows: name at least one file of measured rows, or the metrics of a server")
    distinct(question.words, question.output)
    servers = question.of_servers
    if question.output is not None:
        must_be_writable(question.output)
    if servers or live.address:
        if other := next((word for word in question.words if word not in servers), ""):
            first = live.address or servers[0]
            raise SpecError(f"{first} holds end-to-end rows and {other} does not; calibrate them one after another")
        return calibrate_servers(question, live, given, scratch, versions)
    refuse_settings(given)
    if scratch or versions:
        raise WrongUse("from_scratch, speculative: are for end-to-end rows")
    if any(holds_samples(word, COLUMNS) for word in question.words):
        return from_samples(question)
    return calibrate_kernels(question)


def rows_of(words: Sequence[str], kind: str | None, gpu: str | None) -> list[KernelRow]:
    """Return the rows of all files, those of one GPU when it is named."""
    rows = [row for word in words for row in load(word, kind, measured=True)[3]]
    return rows if gpu is None else of_gpu(rows, gpu, lambda row: row.shape.gpu)


def of_gpu(rows: Sequence[T], word: str, gpu: Callable[[T], str]) -> list[T]:
    """Return the rows of the GPU that a word names; SpecError says which there are where none is of it."""
    wanted = catalog.gpu(word).name
    if chosen := [row for row in rows if gpu(row) == wanted]:
        return chosen
    raise SpecError(f"no row is of {wanted}; the files hold {', '.join(sorted(set(map(gpu, rows))))}")


def calibrate_kernels(question: FitQuestion) -> FittedKernels | CheckedKernels:
    """Fit kernels to rows and write their profile, or return errors on rows left out of such fits."""
    from kvplan.measuring.kernels.fit import document, fit
    from kvplan.measuring.kernels.holdout import checks

    rows = rows_of(question.words, question.kind, question.gpu)
    if question.output is None:
        return CheckedKernels(checks=list(checks(rows, catalog.gpu, question.progress)))
    made = list(fit(rows, catalog.gpu, question.progress))
    if not made:
        raise SpecError(f"too few rows with {MEASURED} to fit any kernel; a dozen of one kernel and dtype is a start")
    source = question.source()
    heading = {
        "name": question.profile,
        "title": question.title or f"Kernels of {', '.join(sorted({place[0] for place, _, _ in made}))}",
        "source": {"kind": source.kind, "ref": source.ref, "date": source.date},
    }
    write_profile(question.output, document(heading, made, question.tier), COMMENT)
    named = ("gpu", "engine", "kind", "kernel")
    parts = [
        {**dict(zip(named, place, strict=True)), "part": part, **fitted.residuals}
        for place, _, fits in made
        for part, fitted in fits.items()
    ]
    return FittedKernels(kernels=len(made), rows=len(rows), output=question.output, parts=parts)


def from_samples(question: FitQuestion) -> Profiled:
    """Fit the samples of a profile again and write it."""
    q = question
    if q.output is None or len(q.words) > 1 or q.kind or q.gpu or q.title or q.ref or q.on:
        raise SpecError("samples of `kvplan profile` are fitted alone: one file, its output and at most a name")
    begun = time.monotonic()
    source = q.source()
    origin = {"kind": source.kind, "ref": source.ref, "date": source.date}
    heading = {"name": q.profile, "title": "Samples of `kvplan profile`", "source": origin, "tier": q.tier}
    document = recalibrated(q.words[0], q.output, heading)
    return Profiled(document=document, output=q.output, rows=q.words[0], seconds=time.monotonic() - begun)


# -- servers --------------------------------------------------------------------------------------


def calibrate_servers(
    question: FitQuestion, live: LiveServer, given: Mapping[str, str], scratch: bool, speculative: Sequence[str]
) -> FittedServers:
    """Fit servers to end-to-end rows, or return errors on rows left out of such fits."""
    from kvplan.measuring.serving.check import held_out_errors
    from kvplan.measuring.serving.fit import FitOptions, check, fit
    from kvplan.measuring.serving.profiles import document

    tables = live.tables(given)
    engine = catalog.fitted_engine()
    shipped = catalog.serving_profile()
    rows, left = server_rows(question, tables, given, speculative)
    options = FitOptions(from_scratch=scratch, kernels=of_kernels() if scratch else {}, progress=question.progress)
    if question.output is None:
        profile = None
        held_out, ranges = check(rows, engine, shipped, options)
    else:
        about = heading_of(question, live, rows, None if scratch else shipped)
        profile, held_out = fit(rows, engine, about, shipped, options)
        ranges = dict(profile.ranges)
        read = " ".join([*map(base, question.words), *(t.name for t in tables)])
        comment = SERVER_COMMENT.format(rows=read, manner=" from scratch" if scratch else "")
        write_profile(question.output, document(profile), comment)
    return FittedServers(
        rows=len(rows),
        output=question.output,
        shipped="" if scratch else shipped.name,
        speculative=profile.speculative if profile else None,
        metrics=held_out_errors(held_out, ranges, engine),
        left=left,
    )


def server_rows(
    question: FitQuestion, tables: "Sequence[RowFile]", given: Mapping[str, str], speculative: Sequence[str]
) -> "tuple[list[ServerRow], Sequence[str]]":
    """Return the rows of all files and tables that a fit can use, and why others were left out."""
    from kvplan.api.server_rows import read_table, usable

    read = (read_table(word, question.kind, given, measured=True) for word in question.words)
    rows, left = usable([*tables, *read], steady=True)
    rows = [r for r in rows if r.ttft or r.tpot]
    if not rows:
        raise SpecError("no row tells TTFT or TPOT, which a fit needs: a whole batch tells neither")
    if question.gpu is not None:
        rows = of_gpu(rows, question.gpu, lambda row: row.gpu.name)
    rows = [replace(r, speculation_gain=0.0) if ran_speculation(r, speculative) else r for r in rows]
    return rows, left


def heading_of(
    question: FitQuestion, live: LiveServer, rows: "Sequence[ServerRow]", shipped: "ServingProfile | None"
) -> "ProfileHeading":
    """Return what a profile of servers says of itself, with the shipped profile that its fit stands on, if any."""
    from kvplan.measuring.serving.profiles import ProfileHeading

    pairs = sorted({f"{r.gpu.name} {r.engine}" for r in rows})
    source = question.source(live.address)
    if shipped is not None:
        source = replace(source, ref=f"{source.ref}, on top of {shipped.source.ref}")
    title = question.title or f"Servers: {', '.join(pairs)}"
    return ProfileHeading(name=question.profile, title=title, tier=question.tier, source=source)


def ran_speculation(row: "ServerRow", speculative: Sequence[str]) -> bool:
    """Return whether a row is of a version the user names as one that ran speculative decoding."""
    return row.speculation_gain is None and any(f"{row.engine} {row.version}".startswith(name) for name in speculative)


def of_kernels() -> dict[str, dict[str, float]]:
    """Return what measured kernels say of architectures, and of experts in a number format there. [logarithm]

    Products and attention of architectures on which no server of the main source ran; links and experts of those with
    kernels.
    """
    from math import log

    from kvplan.measuring.kernels.shares import EXPERT_KERNELS, LINKS, REFERENCES, kernel_factors
    from kvplan.perf.kernel_profile import Predictor
    from kvplan.specs.calibration import TERM

    shipped = known(())
    gpus = [catalog.gpu(name) for profile in shipped for name in profile.kernels]
    factors = {**kernel_factors(Predictor(shipped, catalog.gpu), gpus, REFERENCES), **EXPERT_KERNELS}
    for architecture, share in LINKS.items():
        factors[architecture] = {**factors.get(architecture, {}), "link": share / TERM["link"].prior}
    return {
        architecture: {term: log(factor) for term, factor in terms.items()} for architecture, terms in factors.items()
    }
