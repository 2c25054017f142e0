"""GuideLLM: `guidellm run`, which draws lengths from a clipped normal distribution and sends Poisson arrivals.

Source: https://github.com/vllm-project/guidellm@ee7a7745 docs/getting-started/benchmark.md, docs/guides/datasets.md,
and guidellm run --help of 0.8.1 (2026-11). Completions are asked for, not chats: their prompts have the stated length.
"""

from collections.abc import Iterator

from kvplan.planning.exporting import clipped
from kvplan.planning.exporting.measured import about, at_random, prefixes, steady
from kvplan.planning.exporting.values import Exported, LoadPlan
from kvplan.planning.promise import Spread

#: what it writes, and the profile fitted to it
RESULT, PROFILE = "benchmarks.json", "measured.yaml"


def export(m: LoadPlan) -> Exported:
    """Return the command, and those that read its result."""
    p = m.promise
    kind, figure = ("concurrent", "streams") if p.rate is None else ("poisson", "rate")
    several = ["--override", f"profile.{figure}", ",".join(m.rates)] if len(m.rates) > 1 else []
    argv = [
        "guidellm", "run",
        "--backend", f"kind=openai_http,target={m.url},model={p.model},request_format=/v1/completions",
        "--profile", f"kind={kind},{figure}={m.rates[-1]}", *several,
        "--constraint", f"kind=max_requests,count={m.requests}",
        "--data", ",".join(data(m)), "--seed", "kind=static,value=1",
        *(word for name, value in steady(p).items() for word in ("--label", f"{name}={value}")),
        "--output", f"kind=json,path={RESULT}",
    ]  # fmt: skip
    return Exported(
        target="guidellm", release="", form="command", commands=(tuple(argv),), files={}, missing=tuple(missing(m)),
        notes=about(m),
        then=(("kvplan", "validate", RESULT), ("kvplan", "calibrate", RESULT, "-o", PROFILE)),
    )  # fmt: skip


def data(m: LoadPlan) -> Iterator[str]:
    """Yield the fields of its synthetic requests: lengths of the new part and of the answer, and the shared prefix."""
    p = m.promise
    yield "kind=synthetic_text"
    yield from lengths("prompt_tokens", p.new)
    yield from lengths("output_tokens", p.output)
    if p.prefix:
        yield f"prefix_tokens={round(p.prefix)}"
        yield f"prefix_count={prefixes(m)}"


def lengths(name: str, s: Spread) -> Iterator[str]:
    """Yield the fields of one length: the distribution before it is clipped, and where it is."""
    low, high = max(round(s.low), 1), max(round(s.high), 1)
    if high == low or not s.deviation:
        yield f"{name}={max(round(s.mean), 1)}"
        return
    center, width = clipped.before_cut(s.mean, s.deviation, low, high)
    yield f"{name}={max(round(center), 1)}"
    yield f"{name}_stdev={max(round(width), 1)}"
    yield f"{name}_min={low}"
    yield f"{name}_max={high}"


def missing(m: LoadPlan) -> Iterator[str]:
    """Yield where its load differs from the plan's."""
    p = m.promise
    if p.rate is not None and p.burstiness != 1:
        yield f"GuideLLM sends Poisson arrivals; the plan counts with gaps of a CV of {p.burstiness:g}"
    if p.input.high > p.input.low:
        yield "lengths come from a clipped normal distribution: mean and deviation are the plan's, not the tail"
    yield from at_random(p)
