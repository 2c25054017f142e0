"""`kvplan watch`: a live server beside its prediction."""

from typing import Any

import click

from kvplan.api.watch import Watched, saved, watch
from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import format_option
from kvplan.cli.options import examples, path, profiles_option
from kvplan.cli.row_options import prometheus_options, set_option
from kvplan.report.formats import Report


@click.command("watch")
@click.argument("url", required=False)
@prometheus_options()
@click.option("--window", default="30s", metavar="TIME", help="From one look to the next. [default: 30s]")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Windows to watch. Default: until Ctrl-C.")
@click.option("--output", "-o", type=path, help="Write the windows as rows for kvplan calibrate (CSV).")
@set_option
@profiles_option
@format_option
@examples(
    "kvplan watch localhost:8000 --set gpu=h100 --set tp=1 --count 3",
    "kvplan watch --prometheus host:9090 --from now-2h --window 5m -o rows.csv",
)
def command(output: str | None, form: str, **options: Any) -> None:
    """Load and times of a vLLM or SGLang server, beside what is predicted for that load.

    The page of metrics is read at both ends of a window; nothing is sent to the server. Ctrl-C ends the watch with
    its report. On the server's own machine NVML adds power and energy a token. URL is left out with --prometheus.
    """
    from kvplan.report import watch as words

    windows: list[Watched] = []
    try:
        for window in watch(output=output, told=lambda line: say(line, "watch"), **options):
            windows.append(window)
            say(words.answer(window), "watch")
    except KeyboardInterrupt:
        say("ended by Ctrl-C", "watch")
    if output is not None and windows:
        saved(windows, output)
    deliver(Report.of(words, windows), form)
