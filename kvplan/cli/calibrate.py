"""`kvplan calibrate`: measured rows in, a profile of named coefficients out."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import click

from kvplan import catalog
from kvplan.catalog.samples import holds_samples
from kvplan.catalog.tables import stem, write_profile
from kvplan.cli.kernel_rows import holds_servers, kind_option, known, load, refuse_settings, set_option
from kvplan.cli.options import deliver, examples, json_option, path
from kvplan.errors import SpecError, shown, visible
from kvplan.measuring.device.course import COLUMNS
from kvplan.measuring.rows import MEASURED, Row
from kvplan.report.formats import Report
from kvplan.specs.source import KINDS, Source
from kvplan.units import show_time

if TYPE_CHECKING:
    from kvplan.measuring.servers import Server
    from kvplan.measuring.serving_fit import About

#: a fit that takes longer shows how far it is [s]
PATIENCE = 2.0
BAR = 30
COMMENT = "Fitted by `kvplan calibrate`: coefficients, errors on rows left out, 80 % intervals; see docs/calibration.md"

SERVER_COMMENT = "Fitted by `{command}`: terms, factors, 80 % intervals of rows left out; see docs/serving.md"


def bar() -> Callable[[int, int, str], None]:
    """Return a reporter of progress: on a terminal, after a moment, one line on stderr with the time left."""
    begun = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        spent = time.monotonic() - begun
        if spent < PATIENCE or not sys.stderr.isatty():
            return
        full = BAR * done // total
        left = show_time(spent * (total - done) / done) if done else "?"
        text = f"[{'#' * full}{'.' * (BAR - full)}] {done}/{total}, {left} left: {name}"
        click.echo(f"\r{visible(text)[:99]:<99}", err=True, nl=done + 1 == total)

    return report


def gathered(words: tuple[str, ...], kind: str | None, gpu: str | None) -> list[Row]:
    """Return the rows of all files, those of one GPU when it is named."""
    rows = [row for word in words for row in load(word, kind, measured=True)[3]]
    if gpu is None:
        return rows
    wanted = catalog.gpu(gpu).name
    chosen = [row for row in rows if row.shape.gpu == wanted]
    if not chosen:
        raise SpecError(f"no row is of {wanted}; the files hold {', '.join(sorted({r.shape.gpu for r in rows}))}")
    return chosen


@click.command("calibrate")
@click.argument("rows", nargs=-1, required=True, type=path)
@click.option("--output", "-o", type=path, help="Where the profile goes (YAML).")
@kind_option
@click.option("--gpu", "-g", help="Only the rows of this GPU.")
@click.option("--name", help="Name of the profile. Default: the output file's.")
@click.option("--title", help="One line that says what it is.")
@click.option("--ref", help="Where the rows come from. Default: the files' names.")
@click.option("--on", "day", help="Day the rows were obtained, as in 2026-11-23. Default: today.")
@click.option("--tier", type=click.Choice(["measured here", "measured elsewhere"]), default="measured elsewhere")
@click.option("--check", is_flag=True, help="Fit without some rows and shapes instead, and report the errors on these.")
@set_option
@click.option("--from-scratch", "scratch", is_flag=True, help="End-to-end rows: do not start from the shipped profile.")
@click.option(
    "--speculative",
    multiple=True,
    metavar='"ENGINE VERSION"',
    help="End-to-end rows: a version that ran speculative decoding. Default, from scratch: found by its times.",
)
@json_option
@examples(
    "kvplan calibrate serving.csv -o mine.yaml",
    "kvplan calibrate gemm.csv decode_attention.csv -o mine.yaml",
    "kvplan predict gemm.csv -o predicted.csv --profile mine.yaml",
)
def command(
    rows: tuple[str, ...],
    output: str | None,
    kind: str | None,
    gpu: str | None,
    name: str | None,
    title: str | None,
    ref: str | None,
    day: str | None,
    tier: str,
    check: bool,
    given: dict[str, str],
    scratch: bool,
    speculative: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fit kernels or servers to measured rows and write a profile for --profile.

    A profile holds coefficients with their meaning, never rows. The same rows give the same file, and so do the samples
    of `kvplan profile`, which are fitted as it fits them. End-to-end rows move the shipped profile's servers; a few of
    your own are enough.
    """
    if (output is None) != check:
        raise click.UsageError("give -o FILE to write a profile, or --check to test the fit")
    servers = [word for word in rows if holds_servers(word, kind)]
    if servers:
        if len(servers) < len(rows):
            other = next(word for word in rows if word not in servers)
            raise SpecError(
                f"{servers[0]} holds end-to-end rows and {other} does not; calibrate them one after another"
            )
        about = None if output is None else described(output, name, title, ref, day, tier, rows)
        calibrate_servers(rows, output, kind, gpu, given, scratch, speculative, about, as_json)
        return
    refuse_settings(given)
    if scratch or speculative:
        raise SpecError("--from-scratch and --speculative are for end-to-end rows")
    if any(holds_samples(word, COLUMNS) for word in rows):
        if len(rows) > 1 or check or kind or gpu or title or ref or day:
            raise SpecError("samples of `kvplan profile` are fitted alone: one file, -o FILE and at most --name")
        assert output is not None
        from_samples(rows[0], output, name, tier, as_json)
        return
    parsed = gathered(rows, kind, gpu)
    if check:
        report_checks(parsed, as_json)
        return
    assert output is not None
    when = checked(day)
    from kvplan.measuring.fit import document, fit

    made = list(fit(parsed, catalog.gpu, bar()))
    if not made:
        raise SpecError(f"too few rows with {MEASURED} to fit any kernel; a dozen of one kernel and dtype is a start")
    heading = {
        "name": name or stem(output),
        "title": title or f"Kernels of {', '.join(sorted({place[0] for place, _, _ in made}))}",
        "source": {"kind": KINDS[0], "ref": ref or named(rows), "date": when},
    }
    write_profile(output, document(heading, made, tier), COMMENT)
    groups = [
        {
            "gpu": place[0],
            "engine": place[1],
            "kind": place[2],
            "kernel": place[3],
            "part": part,
            **fitted.residuals,
        }
        for place, _, parts in made
        for part, fitted in parts.items()
    ]

    from kvplan.report import calibrate as words

    report = Report(lambda: words.page(len(made), len(parsed), output), lambda: words.document(groups, output))
    deliver(report, as_json)


def named(rows: tuple[str, ...]) -> str:
    return ", ".join(word.rsplit("/", 1)[-1] for word in rows)


def checked(day: str | None) -> str:
    try:
        return (date.fromisoformat(day) if day else date.today()).isoformat()
    except ValueError:
        raise SpecError(f"--on: expected a day such as 2026-11-23, got {shown(day)}") from None


def described(
    output: str, name: str | None, title: str | None, ref: str | None, day: str | None, tier: str, rows: tuple[str, ...]
) -> "About":
    """Return what a serving profile says of itself; no title yet when the user gives none."""
    from kvplan.measuring.serving_fit import About

    source = Source(kind=KINDS[0], ref=ref or named(rows), date=checked(day))
    return About(name=name or stem(output), title=title or "", tier=tier, source=source)


def calibrate_servers(
    words: tuple[str, ...],
    output: str | None,
    kind: str | None,
    gpu: str | None,
    given: dict[str, str],
    scratch: bool,
    speculative: tuple[str, ...],
    about: "About | None",
    as_json: bool,
) -> None:
    """Fit servers to end-to-end rows, or report errors on rows left out of such fits."""
    from kvplan.cli.server_rows import read_table, usable
    from kvplan.measuring.serving_check import held_out
    from kvplan.measuring.serving_fit import Manner, check, document, fit

    rows, left = usable([read_table(word, kind, given, measured=True) for word in words])
    if gpu is not None:
        wanted, held = catalog.gpu(gpu).name, sorted({r.gpu.name for r in rows})
        rows = [r for r in rows if r.gpu.name == wanted]
        if not rows:
            raise SpecError(f"no row is of {wanted}; the files hold {', '.join(held)}")
    rows = [replace(r, sped=0.0) if ran_fast(r, speculative) else r for r in rows]
    how = Manner(scratch=scratch, kernels=of_kernels() if scratch else {}, progress=bar())
    engine, shipped = catalog.engine(), catalog.serving_profile()
    if about is None:
        profile = None
        out, ranges = check(rows, engine, shipped, how)
    else:
        pairs = sorted({f"{r.gpu.name} {r.engine}" for r in rows})
        source = replace(about.source, ref=f"{about.source.ref}, on top of {shipped.source.ref}")
        about = replace(about, title=about.title or f"Servers: {', '.join(pairs)}")
        about = about if scratch else replace(about, source=source)
        profile, out = fit(rows, engine, about, shipped, how)
        ranges = dict(profile.ranges)
        command = " ".join(
            ["kvplan calibrate", *(named((w,)) for w in words), *(["--from-scratch"] if scratch else ())]
        )
        assert output is not None
        write_profile(output, document(profile), SERVER_COMMENT.format(command=command))
    metrics = held_out(out, ranges, engine)

    from kvplan.report import calibrate as shown

    found = shown.FittedServers(
        rows=len(rows),
        output=output,
        shipped="" if scratch else shipped.name,
        speculative=profile.speculative if profile else None,
        metrics=metrics,
        left=left,
    )
    deliver(Report(lambda: shown.server_page(found), lambda: shown.server_document(found)), as_json)


def ran_fast(row: "Server", speculative: tuple[str, ...]) -> bool:
    """Return whether a row is of a version the user names as one that ran speculative decoding."""
    return row.sped is None and any(f"{row.engine} {row.version}".startswith(name) for name in speculative)


def of_kernels() -> dict[str, dict[str, float]]:
    """Return what measured kernels say of architectures on which no server of the main source ran. [logarithm]"""
    from math import log

    from kvplan.measuring.kernel_shares import REFERENCES, kernel_factors
    from kvplan.perf.kernel_profile import Predictor

    shipped = known(())
    gpus = [catalog.gpu(name) for found in shipped for name in found.kernels]
    factors = kernel_factors(Predictor(shipped, catalog.gpu), gpus, REFERENCES)
    return {who: {term: log(factor) for term, factor in found.items()} for who, found in factors.items()}


def from_samples(rows: str, output: str, name: str | None, tier: str, as_json: bool) -> None:
    """Fit the samples of a profile again, and report on it as `kvplan profile` does."""
    from kvplan.cli import profile

    begun = time.monotonic()
    source = {"kind": KINDS[0], "ref": profile.base(rows), "date": date.today().isoformat()}
    heading = {"name": name or stem(output), "title": "Samples of `kvplan profile`", "source": source, "tier": tier}
    document = profile.recalibrate(rows, output, heading)
    profile.report_on(document, output, rows, time.monotonic() - begun, as_json)


def report_checks(rows: list[Row], as_json: bool) -> None:
    """Report errors on rows and shapes that were left out of the fit."""
    from kvplan.measuring.holdout import checks
    from kvplan.report import calibrate as words

    found = list(checks(rows, catalog.gpu, bar()))
    deliver(Report(lambda: words.check_page(found), lambda: words.check_document(found)), as_json)
