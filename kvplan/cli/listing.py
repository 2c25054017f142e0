"""`kvplan list`: list what is in the catalogue."""

import click

from kvplan.api.listing import KINDS, listed
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import examples
from kvplan.report.formats import Report


@click.command("list")
@click.argument("kind", metavar="KIND", required=False)
@click.option("--for", "model", metavar="MODEL", help="Techniques for a model, and with --workload for its tasks.")
@click.option("--workload", "-w", help="A name or YAML file.")
@format_option
@examples("kvplan list models", "kvplan list gpus --json", "kvplan list techniques --for llama3.1-8b -w rag")
def command(kind: str | None, model: str | None, workload: str | None, form: str) -> None:
    """List models, gpus, workloads, prices, techniques, engines, profiles, studies or architectures."""
    if kind is None:
        raise click.UsageError(f"name what to list: {', '.join(KINDS)}")
    if model is not None or workload is not None:
        if kind not in ("techniques", "technique") or model is None or workload is None:
            raise click.UsageError("--for and --workload go together, and with techniques")
        from kvplan.api.techniques import techniques
        from kvplan.report import techniques as side_by_side

        rows = techniques(model, workload)
        deliver(Report.of(side_by_side, rows), form)
        return
    from kvplan.report import listing as words

    listing = listed(kind)
    arguments = (listing.kind, listing.things, listing.day)
    deliver(Report(lambda: words.page(*arguments), lambda: words.document(*arguments)), form)
