"""Metrics pages as vLLM and SGLang write them, and a server of such pages on this machine."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import count
from socketserver import TCPServer

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
#: one look apart: 60 s, 120 requests of 1,000 tokens in and 201 out, TTFT 0.2 s, 10 ms a token: 2.2 s each
SECONDS, REQUESTS, ISL, OSL, TTFT, TPOT = 60.0, 120, 1000, 201, 0.2, 0.010


#: of the histogram of TTFT [s]
BOUNDS = (0.1, 0.25, 0.5)


def vllm(n: float, ttft: float = TTFT, tpot: float = TPOT, kept: float = 0.0) -> str:
    """Return a page as vLLM writes it after `n` requests."""
    return page_of(
        MODEL, requests=n, prompt=n * ISL, output=n * OSL, ttft=n * ttft, gaps=n * (OSL - 1) * tpot,
        e2e=n * (ttft + (OSL - 1) * tpot), running=4.0, waiting=1.0, kept=kept,
        below={le: n if le >= ttft else 0.0 for le in BOUNDS},
    )  # fmt: skip


def page_of(
    model: str, *, requests: float, prompt: float, output: float, ttft: float, gaps: float, e2e: float, running: float,
    waiting: float, kept: float, below: Mapping[float, float],
) -> str:  # fmt: skip
    """Return a page as vLLM writes it: counters, and sums of histograms [s]."""
    label = f'{{engine="0",model_name="{model}"}}'
    counts = {**{str(le): count for le, count in below.items()}, "+Inf": requests}
    buckets = "\n".join(
        f'vllm:time_to_first_token_seconds_bucket{{engine="0",le="{le}",model_name="{model}"}} {count}'
        for le, count in counts.items()
    )
    return f"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{label} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{label} {waiting}
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{label} 0.25
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{label} {prompt}
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{label} {prompt * kept}
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{label} {requests / 60}
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{label} {prompt}
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{label} {output}
# TYPE vllm:time_to_first_token_seconds histogram
{buckets}
vllm:time_to_first_token_seconds_count{label} {requests}
vllm:time_to_first_token_seconds_sum{label} {ttft}
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{{engine="0",le="+Inf",model_name="{model}"}} {output - requests}
vllm:inter_token_latency_seconds_count{label} {output - requests}
vllm:inter_token_latency_seconds_sum{label} {gaps}
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{{engine="0",le="+Inf",model_name="{model}"}} {requests}
vllm:e2e_request_latency_seconds_count{label} {requests}
vllm:e2e_request_latency_seconds_sum{label} {e2e}
"""


def sglang(n: float) -> str:
    """Return the same server as SGLang writes it."""
    page = vllm(n).replace("vllm:", "sglang:").replace("prefix_cache_hits_total", "cached_tokens_total")
    renamed = {"num_requests_running": "num_running_reqs", "num_requests_waiting": "num_queue_reqs"}
    for old, new in {**renamed, "kv_cache_usage_perc": "token_usage"}.items():
        page = page.replace(old, new)
    return page


@contextmanager
def served(*pages: str, kind: str = "text/plain; version=0.0.4", status: int = 200) -> Iterator[str]:
    """Serve texts one after another, the last one for ever, and give their address."""
    left = count()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages[min(next(left), len(pages) - 1)].encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with TCPServer(("127.0.0.1", 0), Page) as server:  # HTTPServer would look up this machine's name
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        server.shutdown()
