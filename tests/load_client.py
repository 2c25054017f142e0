"""A client that sends the load of an exported GuideLLM command, and writes what it measured as GuideLLM does.

Fields as in a result of GuideLLM 0.8.1. No test stands here.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any
from urllib.parse import urlsplit


def fields(argv: Sequence[str], option: str) -> dict[str, str]:
    """Return what an option such as kind=poisson,rate=2 says."""
    return dict(word.split("=", 1) for word in argv[list(argv).index(option) + 1].split(","))


def labels(argv: Sequence[str]) -> dict[str, str]:
    """Return what the command notes beside its result."""
    return dict(argv[n + 1].split("=", 1) for n, word in enumerate(argv) if word == "--label")


def lengths(data: dict[str, str], name: str, draw: random.Random) -> int:
    """Draw a length: clipped normal, as GuideLLM does; what is said where nothing varies."""
    mean = int(data[name])
    if f"{name}_stdev" not in data:
        return mean
    drawn = draw.gauss(mean, int(data[f"{name}_stdev"]))
    return round(max(int(data[f"{name}_min"]), min(int(data[f"{name}_max"]), drawn)))


def measure(argv: Sequence[str]) -> dict[str, Any]:
    """Send the load of a command to its server, and return the result."""
    return asyncio.run(_measure(argv))


async def _measure(argv: Sequence[str]) -> dict[str, Any]:
    load = fields(argv, "--profile")
    assert load["kind"] == "poisson"
    rates = [load["rate"]]
    if "--override" in argv:
        assert argv[argv.index("--override") + 1] == "profile.rate"
        rates = argv[argv.index("--override") + 2].split(",")
    draw = random.Random(int(fields(argv, "--seed")["value"]))
    runs = [await _run(argv, float(rate), draw) for rate in rates]
    spec = {"backend": fields(argv, "--backend")}
    return {"metadata": {}, "config": {"metadata": {"labels": labels(argv)}, "spec": spec}, "benchmarks": runs}


async def _run(argv: Sequence[str], rate: float, draw: random.Random) -> dict[str, Any]:
    """Send one load to its end."""
    backend, data = fields(argv, "--backend"), fields(argv, "--data")
    count = int(fields(argv, "--constraint")["count"])
    assert backend["request_format"] == "/v1/completions"
    begun = time.monotonic()
    at, tasks = 0.0, []
    for _ in range(count):
        at += draw.expovariate(rate)
        sizes = lengths(data, "prompt_tokens", draw), lengths(data, "output_tokens", draw)
        tasks.append(asyncio.create_task(_request(backend, sizes, begun + at)))
    times = await asyncio.gather(*tasks)
    return result(rate, times, time.monotonic() - begun)


async def _request(backend: dict[str, str], sizes: tuple[int, int], due: float) -> dict[str, float]:
    """Send one request when it is due, and note when its tokens come."""
    await asyncio.sleep(max(due - time.monotonic(), 0))
    place = urlsplit(backend["target"])
    body = json.dumps(
        {
            "model": backend["model"], "prompt": "a " * sizes[0], "max_tokens": sizes[1], "stream": True,
            "stream_options": {"include_usage": True}, "ignore_eos": True,
        }
    ).encode()  # fmt: skip
    begun, stamps, usage = time.monotonic(), [], {}
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    async for line in reader:
        if line.startswith(b"data: {"):
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            if chunk["choices"]:
                stamps.append(time.monotonic())
        if line.startswith(b"data: [DONE]"):
            break
    writer.close()
    return {
        "prompt": usage["prompt_tokens"], "output": usage["completion_tokens"], "ttft": stamps[0] - begun,
        "gap": (stamps[-1] - stamps[0]) / (len(stamps) - 1), "latency": stamps[-1] - begun,
    }  # fmt: skip


def result(rate: float, times: Sequence[dict[str, float]], duration: float) -> dict[str, Any]:
    """Return the measured times of one load as GuideLLM writes them."""

    def block(name: str, scale: float = 1.0) -> dict[str, Any]:
        values = [t[name] * scale for t in times]
        return {"successful": {"mean": fmean(values), "median": median(values), "percentiles": {}}}

    busy = sum(t["latency"] for t in times) / duration
    metrics = {
        "request_totals": {"successful": len(times), "errored": 0, "incomplete": 0, "total": len(times)},
        "request_concurrency": {"total": {"mean": busy}, "successful": {"mean": busy}},
        "request_latency": block("latency"), "prompt_token_count": block("prompt"),
        "output_token_count": block("output"), "time_to_first_token_ms": block("ttft", 1e3),
        "inter_token_latency_ms": block("gap", 1e3),
    }  # fmt: skip
    strategy = {"type_": "poisson", "rate": rate, "max_concurrency": 10240}
    return {"type_": "generative_benchmark", "config": {"strategy": strategy}, "metrics": metrics, "duration": duration}
