"""AIPerf: `aiperf profile`, whose sequence distribution is the plan's in groups of requests of like length.

Source: AIPerf 0.13 `aiperf profile --help`; https://github.com/ai-dynamo/aiperf
docs/tutorials/sequence-distributions.md, docs/tutorials/arrival-patterns.md (2026-11). Completions are asked for, not
chats: their prompts have the stated length.
"""

from collections.abc import Iterator

from kvplan.planning.exporting.measured import about, at_random, prefixes, steady
from kvplan.planning.exporting.values import Exported, LoadPlan
from kvplan.planning.promise import GROUPS, Promise

#: where it writes, what is read from there, and the profile fitted to it
FOLDER, PROFILE = "artifacts", "measured.yaml"
RESULT, SWEEP = f"{FOLDER}/profile_export_aiperf.json", f"{FOLDER}/sweep_aggregate/profile_export_aiperf_sweep.json"
#: metric of a limit, in ms
LIMITS = {"ttft_limit": "time_to_first_token", "tpot_limit": "inter_token_latency", "e2e_limit": "request_latency"}


def export(m: LoadPlan) -> Exported:
    """Return the command, and those that read its result."""
    p = m.promise
    argv = [
        "aiperf", "profile", "--model", p.model, "--url", m.url, "--endpoint-type", "completions", "--streaming",
        *load(m), "--request-count", str(m.requests), *sizes(p),
        *(word for word in prefix(m)), "--extra-inputs", "ignore_eos:true", "--random-seed", "1",
        *goodput(p), "--artifact-dir", FOLDER, "--ui", "none",
    ]  # fmt: skip
    several = len(m.rates) > 1
    result, known = (SWEEP, {"model": p.model}) if several else (RESULT, {})  # a sweep's file does not name the model
    said = [word for name, value in {**known, **steady(p)}.items() for word in ("--set", f"{name}={value}")]
    return Exported(
        target="aiperf", release="", form="command", commands=(tuple(argv),), files={}, missing=tuple(missing(m)),
        notes=about(m),
        then=(("kvplan", "validate", result, *said), ("kvplan", "calibrate", result, *said, "-o", PROFILE)),
    )  # fmt: skip


def load(m: LoadPlan) -> list[str]:
    """Return the options of the arrivals: a closed loop, Poisson, or gaps of a gamma distribution of the plan's CV."""
    p = m.promise
    if p.rate is None:
        return ["--concurrency", ",".join(m.rates)]
    rate = ["--request-rate", ",".join(m.rates)]
    if p.burstiness == 1:
        return [*rate, "--arrival-pattern", "poisson"]
    # a gamma distribution of shape k has a CV of 1 / sqrt(k)
    return [*rate, "--arrival-pattern", "gamma", "--arrival-smoothness", f"{p.burstiness**-2:.4g}"]


def sizes(p: Promise) -> list[str]:
    """Return the options of lengths: each group of prompts with each group of answers, equally likely."""
    if p.new.high == p.new.low and p.output.high == p.output.low:
        return ["--isl", str(whole(p.new.mean)), "--osl", str(whole(p.output.mean))]
    share = 100 // GROUPS**2
    pairs = [f"{length(*i)},{length(*o)}:{share}" for i in p.new.groups for o in p.output.groups]
    return ["--sequence-distribution", ";".join(pairs)]


def length(mean: float, deviation: float) -> str:
    """Return the lengths of a group: 256|10, or 256 where all are alike."""
    return f"{whole(mean)}|{round(deviation)}" if round(deviation) else str(whole(mean))


def whole(tokens: float) -> int:
    """Return a length as tools take it: whole, at least one token."""
    return max(round(tokens), 1)


def prefix(m: LoadPlan) -> list[str]:
    """Return the options of shared prefixes."""
    if not m.promise.prefix:
        return []
    return ["--num-prefix-prompts", str(prefixes(m)), "--prefix-prompt-length", str(round(m.promise.prefix))]


def goodput(p: Promise) -> list[str]:
    """Return the plan's limits, which every request is held against."""
    held = [f"{metric}:{value * 1e3:g}" for name, metric in LIMITS.items() if (value := getattr(p, name)) is not None]
    return ["--goodput", " ".join(held)] if held else []


def missing(m: LoadPlan) -> Iterator[str]:
    """Yield where its load differs from the plan's."""
    yield from at_random(m.promise)
