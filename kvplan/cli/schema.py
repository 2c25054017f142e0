"""`kvplan schema`: JSON Schemas of YAML files and of answers."""

import click

from kvplan.api.schema import schema
from kvplan.cli.delivery import beside, deliver
from kvplan.cli.format_options import TEXT, format_option
from kvplan.cli.options import examples
from kvplan.report.formats import Report


@click.command("schema")
@click.argument("kind", metavar="KIND", required=False)
@click.option("--answer", metavar="COMMAND", help="Of the document that a command prints with --json.")
@format_option
@examples("kvplan schema", "kvplan schema workload", "kvplan schema --answer estimate", "kvplan schema gpu --format md")
def command(kind: str | None, answer: str | None, form: str) -> None:
    """The JSON Schema of a kind of YAML file that you write, or of a command's answer.

    Without KIND: which there are. A schema is printed as it is; --format md prints its fields as a table.
    """
    from kvplan.report import schema as words

    document = schema(kind, answer=answer)
    report = Report.of(words, document)
    if document.kind and form == TEXT:
        from kvplan.report.formats.json import indented

        beside(report)
        click.echo(indented(document.shape))
        return
    deliver(report, form)
