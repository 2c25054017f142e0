"""`kvplan calibrate`: measured rows in, a profile of named coefficients out."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.cli.kernel_rows import kind_option, load
from kvplan.cli.validate import table
from kvplan.errors import SpecError
from kvplan.measuring.profiling import COLUMNS
from kvplan.measuring.rows import MEASURED, Row
from kvplan.specs import catalog
from kvplan.specs.catalog_samples import holds_samples
from kvplan.specs.catalog_tables import stem, write_profile
from kvplan.specs.source import KINDS
from kvplan.units import show_time

#: a fit that takes longer shows how far it is [s]
PATIENCE = 2.0
BAR = 30
COMMENT = "Fitted by `kvplan calibrate`: coefficients, errors on rows left out, 80 % intervals; see docs/calibration.md"


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
        click.echo(f"\r{text[:99]:<99}", err=True, nl=done + 1 == total)

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
@click.argument("rows", nargs=-1, required=True, type=click.Path())
@click.option("--output", "-o", type=click.Path(), help="Where the profile goes (YAML).")
@kind_option
@click.option("--gpu", "-g", help="Only the rows of this GPU.")
@click.option("--name", help="Name of the profile. Default: the output file's.")
@click.option("--title", help="One line that says what it is.")
@click.option("--ref", help="Where the rows come from. Default: the files' names.")
@click.option("--on", "day", help="Day the rows were obtained, as in 2026-11-23. Default: today.")
@click.option("--tier", type=click.Choice(["measured here", "measured elsewhere"]), default="measured elsewhere")
@click.option("--check", is_flag=True, help="Fit without some rows and shapes instead, and report the errors on these.")
@json_option
@examples(
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
    as_json: bool,
) -> None:
    """Fit kernels to measured rows and write a profile for --profile.

    A profile holds coefficients with their meaning, never rows. The same rows give the same file, and so do the samples
    of `kvplan profile`, which are fitted as it fits them.
    """
    if (output is None) != check:
        raise click.UsageError("give -o FILE to write a profile, or --check to test the fit")
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
    try:
        when = (date.fromisoformat(day) if day else date.today()).isoformat()
    except ValueError:
        raise SpecError(f"--on: expected a day such as 2026-11-23, got {day!r}") from None
    from kvplan.measuring.fit import document, fit

    made = list(fit(parsed, catalog.gpu, bar()))
    if not made:
        raise SpecError(f"too few rows with {MEASURED} to fit any kernel; a dozen of one kernel and dtype is a start")
    heading = {
        "name": name or stem(output),
        "title": title or f"Kernels of {', '.join(sorted({place[0] for place, _, _ in made}))}",
        "source": {"kind": KINDS[0], "ref": ref or ", ".join(word.rsplit("/", 1)[-1] for word in rows), "date": when},
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

    def report() -> list[object]:
        return [f"{len(made)} kernels from {len(parsed):,} rows in {output}; predict with --profile {output}."]

    deliver(as_json, lambda: {"schema": 1, "command": "calibrate", "output": output, "fitted": groups}, report)


def from_samples(rows: str, output: str, name: str | None, tier: str, as_json: bool) -> None:
    """Fit the samples of a profile again, and report on it as `kvplan profile` does."""
    from kvplan.cli import profile

    begun = time.monotonic()
    source = {"kind": KINDS[0], "ref": profile.base(rows), "date": date.today().isoformat()}
    heading = {"name": name or stem(output), "title": "Samples of `kvplan profile`", "source": source, "tier": tier}
    document = profile.recalibrate(rows, output, heading)
    spent = time.monotonic() - begun
    deliver(
        as_json,
        lambda: profile.as_document(document, output, rows, spent),
        lambda: profile.report(document, output, rows, spent),
    )


def report_checks(rows: list[Row], as_json: bool) -> None:
    """Report errors on rows and shapes that were left out of the fit."""
    from kvplan.measuring.holdout import checks

    found = list(checks(rows, catalog.gpu, bar()))

    def document() -> dict[str, object]:
        left_out = [{"left_out": name, "groups": [asdict(g) for g in groups]} for name, groups in found]
        return {"schema": 1, "command": "calibrate", "checks": left_out}

    deliver(as_json, document, lambda: [part for name, groups in found for part in table(name, groups)])
