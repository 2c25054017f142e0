"""`kvplan simulate`: replay a trace or a busiest hour on a fleet, step by step."""

from typing import Any

import click

from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import format_option
from kvplan.cli.help import hidden
from kvplan.cli.options import (
    day_option,
    engine_option,
    examples,
    long_context_option,
    model_option,
    price_option,
    prices_option,
    profile_option,
    replica_options,
)
from kvplan.cli.server_options import closed_option, drafting_options, limit_options, split_option, technique_option
from kvplan.cli.waiting import waiting
from kvplan.report.formats import Report


@click.command("simulate")
@model_option
@click.option("--gpu", "-g", required=True, help="A GPU name, alias or YAML file.")
@click.option("--trace", metavar="FILE", help="Requests: CSV, JSON lines (.gz), a benchmark's JSON.")
@click.option("--workload", "-w", help="Instead: a workload, whose requests are drawn.")
@click.option("--queries-per-day", hidden=True)
@click.option("--rate", metavar="R", help="A workload's day's mean, as in 2.5/s.")
@click.option("--duration", metavar="TIME", help="Of a workload, as in 24h. Default: its busiest hour.")
@hidden(click.option("--scale", default="1", metavar="10x", help="Of a trace: times as many requests."))
@hidden(click.option("--speed", default="1", metavar="2x", help="Of a trace: times as fast."))
@hidden(click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Of random numbers."))
@closed_option("Closed loop instead.", hidden=True)
@click.option("--replicas", type=click.IntRange(1, 4096), metavar="R", help="Default: 1.")
@click.option("--find-replicas", is_flag=True, help="The fewest that keep the limits.")
@click.option("--router", metavar="NAME", help="round-robin, random, least-loaded, prefix-aware.")
@click.option("--no-prefix-cache", "prefix_cache", is_flag=True, flag_value=False, default=True,
              help="Compute every prompt whole.")  # fmt: skip
@click.option("--tiers", metavar="NAMES", help="Keep prefixes in cpu, ssd or remote too.")
@click.option("--autoscale", metavar="A:B@N", help="A to B replicas, N requests each: 1:8@16.")
@click.option("--fail", multiple=True, metavar="N@T+D", help="Replica N fails at T for D: 0@10min+5min.")
@split_option
@technique_option
@engine_option
@replica_options
@drafting_options(hidden=True)
@limit_options
@click.option("--e2e", metavar="TIME", help="Limit of a whole request.", hidden=True)
@click.option("--percentile", metavar="P", help="Share that keeps the limits. Default: 95%.")
@click.option("--per-request", metavar="FILE", help="Write every request to a CSV file.")
@profile_option
@price_option
@hidden(prices_option)
@day_option
@hidden(long_context_option)
@format_option
@examples(
    "kvplan simulate -w chat -m llama3.1-8b -g h100 --rate 4 --find-replicas",
    "kvplan simulate --trace my.csv -m llama3.1-8b -g h100 --replicas 4 --ttft 1s",
)
def command(form: str, **options: Any) -> None:
    """A fleet's requests, one by one (docs/simulate.md has more options)."""
    from kvplan.api.simulate import simulate
    from kvplan.report import simulate as words

    with waiting(say) as progress:
        answer = simulate(**options, told=say, progress=progress)
    deliver(Report.of(words, answer), form, answer.refusal)
