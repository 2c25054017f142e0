"""`kvplan export`: a saved plan as a launch command, manifests or a benchmark."""

from typing import Any

import click

from kvplan.cli.delivery import beside, deliver, say
from kvplan.cli.flags import flagged
from kvplan.cli.format_options import TEXT, format_option
from kvplan.cli.options import COUNT, examples, path
from kvplan.report.formats import Report


@click.command("export")
@click.argument("target")
@click.argument("plan", type=path)
@click.option(
    "--as", "as_form", metavar="FORM", help="command (the default), compose, kubernetes, leaderworkerset, kserve."
)
@click.option("--checkpoint", metavar="NAME", help="Served in its place: one of the same shape. Default: the plan's.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Of the server. [default: 8000]")
@click.option("--image", metavar="NAME", help="Container image. Default: the engine release's own.")
@click.option("--gpus-per-node", type=COUNT, metavar="N", help="GPUs of your servers. Default: the GPU's usual ones.")
@click.option("--url", metavar="URL", help="Where the replica answers. [default: http://localhost:8000]")
@click.option("--requests", type=click.IntRange(1), metavar="N", help="Requests of each load. [default: 400]")
@click.option("--loads", type=click.IntRange(1, 20), metavar="N", help="Loads up to the promised one. [default: 1]")
@format_option
@examples(
    "kvplan export vllm plan.json",
    "kvplan export vllm plan.json --as kubernetes > manifests.yaml",
    "kvplan export guidellm plan.json --url http://localhost:8000",
)
def command(form: str, **options: Any) -> None:
    """A saved plan as commands or manifests, with only options that the release has.

    TARGET: vllm, sglang, trtllm (or a release, as in vllm@0.21), k8s for the plan's own engine; or guidellm, aiperf,
    which measure the load that the plan promises of one replica. PLAN is what kvplan recommend --save wrote. What a
    target cannot be told is said on stderr.
    """
    from kvplan.api.export import export
    from kvplan.cli.recommend import command as planning
    from kvplan.report import export as words

    exported = export(**options)
    for line in words.said(exported):
        say(flagged(line, planning), "export")  # what another engine needs is asked of recommend
    report = Report.of(words, exported)
    if form == TEXT:
        beside(report)
        click.echo(words.text(exported), nl=False)
    else:
        deliver(report, form)
