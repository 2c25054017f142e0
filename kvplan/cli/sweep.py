"""`kvplan sweep`: studies: a question at every point of a grid or a sample."""

from typing import Any

import click

from kvplan.api.sweep import ENGINES, MOST_WORKERS, sweep
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver, say, typed
from kvplan.cli.format_options import format_option
from kvplan.cli.options import day_option, examples, path
from kvplan.report.formats import Report
from kvplan.report.progress import counted


@click.command("sweep")
@click.argument("file")
@click.option("--output", "-o", type=path, metavar="DIR", help="Folder of the results. Default: FILE's name + .sweep.")
@click.option("--report", is_flag=True, help="All tables, the Pareto front and a heat map.")
@click.option("--so-far", is_flag=True, help="Ask nothing: report on the points that are there.")
@click.option("--compact", is_flag=True, help="Make one Parquet file of the many.")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), metavar="N", help="Default: one for every core.")
@click.option("--engine", type=OneOf(ENGINES), default="pool", help="pool (the default), or ray: a cluster.")
@click.option("--address", metavar="HOST:PORT", help="Of the Ray cluster. Default: the one here; local: start one.")
@day_option
@format_option
@examples("kvplan sweep study.yaml --report", "kvplan sweep study.yaml -o results --engine ray --address auto")
def command(form: str, report: bool, **options: Any) -> None:
    """Ask every point of a study that has no answer yet: a plan or a simulation at each point of a grid or a sample.

    FILE is a YAML file or a shipped study. Answers go to disk as they come: after an interruption the same command goes
    on. What stands on a changed profile, price or file is asked again.
    """
    from kvplan.report import sweep as words

    try:
        with counted(say) as watch:
            swept = sweep(progress=watch, **options)
    except KeyboardInterrupt:
        say(
            f"stopped; what was answered is on disk, and the same command goes on: {typed(click.get_current_context())}"
        )
        raise click.exceptions.Exit(130) from None
    deliver(Report.of(words, swept, whole=report), form, swept.lacking)
