"""`kvplan profile`: minutes of measurements on this machine's device become a profile of it."""

import shlex
import time
from datetime import date
from typing import Any

import click

from kvplan.catalog.samples import SampleLog, must_be_writable, profile_beside, read_samples, set_aside, swapped
from kvplan.catalog.tables import stem, write_profile
from kvplan.cli.options import deliver, examples, json_option, path, say
from kvplan.errors import KvplanError, SpecError
from kvplan.report.formats import Report
from kvplan.specs.source import KINDS
from kvplan.units import DAY, parse

COMMENT = "Measured by `kvplan profile`: coefficients, errors on shapes left out and 80 % intervals; docs/profiling.md."
#: the share of the budget that is kept for the fit, at most
MOST_RESERVED = 1 / 3
#: time for all of it, unless asked otherwise [s]
BUDGET = 120.0
#: shortest time in which anything can be measured [s]
LEAST = 2.0


def seconds(text: str) -> float:
    """Read a time such as 120s or 2min; a plain number is seconds."""
    found = parse(f"{text} s" if text.strip().replace(".", "", 1).isdigit() else text, "s", "--budget")
    if not LEAST <= found <= DAY:
        raise SpecError(f"--budget: expected between {LEAST:g}s and a day, got {text}")
    return found


@click.command("profile")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Default: a GPU if torch sees one, else the CPU.")
@click.option(
    "--budget", default=f"{BUDGET:g}s", show_default=True, type=seconds, metavar="TIME", help="Time for all of it."
)
@click.option("--output", "-o", type=path, help="Where the profile goes. Default: profile-<device>.yaml.")
@click.option("--rows", "rows_file", type=path, help="Where every sample goes. Default: beside the profile.")
@click.option(
    "--processes", type=click.IntRange(1, 64), help="How many all-reduce together. Default: the visible GPUs; CPU: 1."
)
@click.option("--resume", is_flag=True, help="Go on from the samples of an earlier run.")
@json_option
@examples("kvplan profile --device cpu --budget 60s", "kvplan profile -o mine.yaml --resume")
def command(
    device: str | None,
    budget: float,
    output: str | None,
    rows_file: str | None,
    processes: int | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Measure this machine's device and write a profile of it.

    Every finished sample is on disk at once: Ctrl-C loses none. Clocks, power limits and modes are left as they are.
    """
    begun = time.monotonic()
    from kvplan.measuring.device import machine as devices
    from kvplan.report.progress import bar

    again = resumed(device, budget, output, rows_file, processes, as_json)
    try:
        if output:
            check(output, rows_file or swapped(output, ".csv"))
        with bar(time.monotonic, begun + budget) as progress:
            progress(0.0, "loading torch")
            kind = devices.kind(device)
            output = output or f"profile-{kind}.yaml"
            rows_file = rows_file or swapped(output, ".csv")
            check(output, rows_file)
            progress(0.0, f"opening the {kind.upper()} device")
            found = devices.find(device, processes)
        try:
            for remark in (found.remark, *prepare(rows_file, resume)):
                if remark:
                    say(remark)
            measured(found, begun, budget, rows_file, again)
            with bar(time.monotonic, begun + budget) as progress:
                progress(1.0, "measuring energy")
                more = found.more()
        finally:
            found.close()
        with bar(time.monotonic, begun + budget) as progress:
            progress(1.0, "fitting")
            document = finish(found, budget, rows_file, output, more)
    except KeyboardInterrupt:
        taken = counted(rows_file)
        said = f"{taken:,} samples are in {rows_file}; go on with" if taken else "nothing is measured yet; start with"
        say(f"stopped; {said}: {again}")
        raise click.exceptions.Exit(130) from None
    spent = time.monotonic() - begun
    report_on(document, output, rows_file, spent, as_json)


def report_on(document: dict[str, Any], output: str, rows_file: str, spent: float, as_json: bool) -> None:
    """Say what was measured and how well it fits; `spent` is the time it took. [s]"""
    from kvplan.report import profile as words

    said = (document, output, rows_file, spent)
    deliver(Report(lambda: words.page(*said), lambda: words.document(*said)), as_json)


def resumed(
    device: str | None, budget: float, output: str | None, rows_file: str | None, processes: int | None, as_json: bool
) -> str:
    """Return the command that goes on where this one ends: the user's own options and --resume."""
    given = {
        "--device": device, "--budget": None if budget == BUDGET else f"{budget:g}s", "--processes": processes,
        "-o": output, "--rows": rows_file,
    }  # fmt: skip
    words = [str(word) for option, value in given.items() if value is not None for word in (option, value)]
    return shlex.join(["kvplan", "profile", *words, "--resume", *(["--json"] if as_json else [])])


def check(output: str, rows_file: str) -> None:
    """Make sure, before anything is measured, that both files can be written and are not one."""
    if swapped(output, ".csv") == output or rows_file == output:
        raise SpecError(f"{output}: the profile is YAML and the samples are CSV; give -o a name ending in .yaml")
    for word in (output, rows_file):
        must_be_writable(word)


def prepare(rows_file: str, resume: bool) -> list[str]:
    """Set samples of an earlier run aside unless they are gone on with; return what to tell the user."""
    if resume:
        return []
    aside = set_aside(rows_file)
    return [f"samples of an earlier run are now in {aside}; --resume goes on with them instead"] if aside else []


def counted(rows_file: str | None) -> int:
    """Return how many samples a file holds; 0 when there is none."""
    from kvplan.measuring.device.course import COLUMNS

    return sum(bool(row["latency_us"]) for row in read_samples(rows_file, COLUMNS)) if rows_file else 0


def measured(found: Any, begun: float, budget: float, rows_file: str, again: str) -> None:
    """Take samples until they settle, the time is up or the device is lost."""
    import kvplan.measuring.linear  # noqa: F401 (loaded now, so that the fit at the end is quick)
    from kvplan.measuring.device import course as profiling
    from kvplan.measuring.device.probes import plan
    from kvplan.measuring.device.worker import Lost
    from kvplan.report.progress import bar

    before = read_samples(rows_file, profiling.COLUMNS)
    stranger = next((row["gpu"] for row in before if row["gpu"] != found.timer.gpu), None)
    if stranger:
        raise SpecError(f"{rows_file}: these samples are of {stranger}, this is {found.timer.gpu}; use another file")
    deadline = begun + budget - min(found.reserve, MOST_RESERVED * budget)
    shapes = profiling.begin(plan(found.probes), before)
    log = SampleLog(rows_file, profiling.COLUMNS)
    if log.torn:
        say(f"the last line of {rows_file} was cut short; its sample is taken again")
    course = profiling.Course(found.timer, log, time.monotonic, deadline, anchors=found.anchors)
    try:
        with bar(time.monotonic, deadline) as course.progress:
            profiling.measure(course, shapes, profiling.SEED + len(before))
    except Lost as error:
        say(f"{error}; the profile is of what was measured until then; go on with: {again}")
    finally:
        log.close()


def finish(found: Any, budget: float, rows_file: str, output: str, more: dict[str, Any]) -> dict[str, Any]:
    """Fit the samples on disk and write the profile whole; more: what else was measured."""
    from kvplan.measuring.device import machine as devices

    if found.facts.get("sensors") == "replay":
        raise KvplanError("a replayed trace measures nothing: no profile is written")
    fitted = refitted(rows_file)
    document = {
        "name": stem(output),
        "title": f"{found.name}: {found.label}",
        "source": {"kind": KINDS[0], "ref": f"kvplan profile --device {found.kind}", "date": date.today().isoformat()},
        "tier": "measured here",
        "device": {"kind": found.kind, "name": found.name, **found.facts},
        "versions": devices.versions(),
        "rows": base(rows_file),
        "budget": f"{budget:g} s",
        **more,
        **fitted,
    }
    write_profile(output, document, COMMENT)
    return document


def base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def refitted(rows_file: str) -> dict[str, Any]:
    """Return what follows from the samples in a file."""
    from kvplan.measuring.device.course import COLUMNS
    from kvplan.measuring.samples import refit

    samples = read_samples(rows_file, COLUMNS)
    fitted = refit(samples)
    if not fitted["groups"]:
        why = f"; most failed: {fitted['failures'][0]['reason']}" if fitted["failures"] else ""
        raise KvplanError(
            f"{len(samples)} samples of too few shapes to fit anything{why}; they are in {rows_file}: go on with "
            "--resume, or a larger --budget"
        )
    return fitted


def recalibrate(rows_file: str, output: str, heading: dict[str, Any]) -> dict[str, Any]:
    """Fit a profile's samples again and write it; what they do not hold (device, versions, energy) is `heading`'s.

    The profile beside the samples, where there is one, says the rest.
    """
    fitted = refitted(rows_file)
    beside = {key: value for key, value in profile_beside(rows_file).items() if key not in (*fitted, "kernels_note")}
    document = {**heading, **beside, "name": heading["name"], "rows": base(rows_file), **fitted}
    write_profile(output, document, COMMENT)
    return document
