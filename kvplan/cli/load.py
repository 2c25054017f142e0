"""`kvplan load`: one server under load: percentiles, throughput, cost, and the largest load within latency limits."""

import re
from collections.abc import Callable
from math import inf

import click

from kvplan.cli.common import deliver, examples, json_option, model_option, parallel, replica_options, tokens
from kvplan.cli.common import price as price_type
from kvplan.cli.estimate import checked_day, quoted
from kvplan.cli.recommend import Percent, Seconds, Volume
from kvplan.cli.serving_profiles import calibrated
from kvplan.errors import SpecError, shown
from kvplan.kv import techniques
from kvplan.planning.estimate import Site
from kvplan.planning.load import Limits, Speculation, server, speculation, survey
from kvplan.specs import catalog
from kvplan.units import parse

#: engines whose servers were measured; the memory rules are vLLM's for all of them
ENGINES = ("vllm", "trtllm", "sglang")
#: replicas and requests nobody has
MOST_REPLICAS, MOST_REQUESTS = 1024, 1_000_000


def number(flag: str, least: float, most: float) -> Callable[[str], float]:
    """Return a reader of plain numbers within bounds; messages name `flag`."""

    def read(text: str) -> float:
        found = parse(text, "1", flag)
        if not least <= found <= most:
            raise SpecError(f"{flag}: must be from {least:g} to {most:g}, got {text}")
        return found

    return read


def halves(text: str) -> tuple[int, int]:
    """Read P:D, replicas that prefill and replicas that decode."""
    found = re.fullmatch(r"\s*(\d{1,4}):(\d{1,4})\s*", text, re.ASCII)
    sizes = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= n <= MOST_REPLICAS for n in sizes):
        raise SpecError(f"--disaggregated: write prefill:decode replicas, as in 1:2, got {shown(text)}")
    return sizes


@click.command("load")
@model_option
@click.option("--gpu", "-g", required=True, help="A GPU name, alias or YAML file.")
@click.option("--isl", required=True, type=tokens("--isl"), metavar="TOKENS", help="Tokens of a prompt.")
@click.option("--osl", required=True, type=tokens("--osl"), metavar="TOKENS", help="Tokens of an answer.")
@click.option(
    "--concurrency", type=click.IntRange(1, MOST_REQUESTS), metavar="C", help="Closed loop: requests in flight."
)
@click.option("--rate", type=Volume(), metavar="R", help="Open loop: requests per second, as in 2.5 or 2.5/s.")
@click.option(
    "--burstiness", type=number("--burstiness", 0.0, 100.0), metavar="CV",
    help="Spread of the times between arrivals over their mean. [default: 1, Poisson]",
)  # fmt: skip
@click.option("--engine", type=click.Choice(ENGINES), default="vllm", show_default=True, help="What serves.")
@click.option("--technique", "-t", default=techniques.BASELINE, help="A KV-cache technique, as in fp8 or mhc:4x.")
@replica_options
@click.option("--prefix-hit", type=Percent(), default="0", metavar="P", help="Share of a prompt found in the cache.")
@click.option(
    "--speculative", type=number("--speculative", 1.0, 65.0), metavar="N", help="Tokens accepted a step, as in 1.6."
)
@click.option("--draft-share", type=Percent(), metavar="P", help="Time of the draft over that of a step. [default: 0]")
@click.option("--draft-tokens", type=click.IntRange(0, 64), metavar="K", help="Tokens drafted a step.")
@click.option("--disaggregated", type=halves, metavar="P:D", help="P replicas only prefill, D only decode.")
@click.option("--ttft", type=Seconds(), metavar="TIME", help="Limit of the first token, as in 2s.")
@click.option("--tpot", type=Seconds(), metavar="TIME", help="Limit of the time per token, as in 50ms.")
@click.option(
    "--percentile", type=Percent(), default="95%", show_default=True, metavar="P",
    help="Share of requests that keep the limits.",
)  # fmt: skip
@click.option("--profile", metavar="FILE", default="published", help="A profile of your own: of servers or kernels.")
@click.option(
    "--price", type=price_type, metavar="PRICE", help="USD per GPU-hour, as in 2.49/h. Default: the median offer."
)
@click.option("--on", "day", metavar="DATE", help="Use the prices of this day (YYYY-MM-DD). Default: today.")
@json_option
@examples(
    "kvplan load --model llama3.1-70b --gpu h200 --tp 4 --isl 4000 --osl 500 --ttft 2s --tpot 50ms",
    "kvplan load --model llama3.1-70b --gpu h200 --tp 4 --isl 4000 --osl 500 --rate 1.5/s --burstiness 2",
)
def command(
    model: str, gpu: str, isl: int, osl: int, concurrency: int | None, rate: float | None, burstiness: float | None,
    engine: str, technique: str, tp: int | None, pp: int | None, dp: int | None, form: str | None,
    utilization: float | None, prefix_hit: float, speculative: float | None, draft_share: float | None,
    draft_tokens: int | None, disaggregated: tuple[int, int] | None, ttft: float | None, tpot: float | None,
    percentile: float, profile: str, price: float | None, day: str | None, as_json: bool,
) -> None:  # fmt: skip
    """One server under load: a table over loads, one closed or open loop, or the largest load within limits."""
    if concurrency is not None and rate is not None:
        raise SpecError("--concurrency, --rate: give one of them, not both")
    if burstiness is not None and concurrency is not None:
        raise SpecError("--burstiness: a closed loop has no arrivals of its own; give --rate instead of --concurrency")
    if not 0.5 <= percentile <= 0.9999:
        raise SpecError(f"--percentile: from 50% to 99.99%, got {percentile:.4%}")
    spec, device, today = catalog.model(model), catalog.gpu(gpu), checked_day(day)
    site = Site(
        gpu=device,
        calibration=calibrated(device, spec, profile, engine),
        offers=(quoted(device, price, today),) if price else catalog.offers(device.name, today),
        engine=catalog.engine(),
        parallel=parallel(tp, pp, dp),
        weights=form,
        utilization=utilization,
    )
    found = survey(
        server(
            spec, site, technique=technique, prompt=isl, output=osl, hit=prefix_hit,
            speculation=speculated(speculative, draft_share, draft_tokens), split=disaggregated, percentile=percentile,
        ),
        Limits(ttft=None if ttft == inf else ttft, tpot=None if tpot == inf else tpot),
        concurrency=concurrency, rate=rate, burstiness=1.0 if burstiness is None else burstiness, today=today,
    )  # fmt: skip

    def report() -> list[object]:
        from kvplan.report import load as wording

        return [*wording.report(found)]

    def document() -> dict[str, object]:
        from kvplan.report import load_document

        return load_document.document(found)

    deliver(as_json, document, report, found.refusal)


def speculated(accepted: float | None, draft: float | None, drafted: int | None) -> Speculation | None:
    """Return the speculative decoding that was asked for, None for none."""
    if accepted is not None:
        return speculation(accepted, draft or 0.0, drafted)
    if draft is not None or drafted is not None:
        raise SpecError("--draft-share, --draft-tokens: say how many tokens are accepted a step with --speculative")
    return None
