"""What measured kernels say of GPUs on which no server was measured: their shares of the datasheet, against others'."""

from collections.abc import Callable, Iterable, Mapping
from math import exp, log

from kvplan.errors import KvplanError
from kvplan.perf.kernel_profile import Predictor, Shape
from kvplan.specs.hardware import Gpu

#: a large layer's product, one decode step and one long prompt: what a server's terms are made of
WIDTH, FEW, MANY = 8192, 16, 4096
HEADS, KV_HEADS, HEAD_DIM, SEQUENCES, LENGTH = 32, 8, 128, 32, 8192
#: engines whose kernels stand for a GPU; their geometric mean counts
ENGINES = ("vllm", "trtllm")
#: a factor from kernels alone is not trusted beyond these
LEAST, MOST = 0.5, 1.5


def shares(gpu: Gpu, time: Callable[[Shape], float]) -> dict[str, float]:
    """Return the shares of a GPU's datasheet that its kernels reach, by the serving term they stand for."""
    product = {"n": WIDTH, "k": WIDTH}
    cache = {"batch": SEQUENCES, "q_heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "kv_len": LENGTH}
    prompt = {"batch": 1, "q_heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "isl": LENGTH}
    two = ("bfloat16", "bfloat16")
    probes = {
        "weights": ("gemm", ("bfloat16",), {"m": FEW, **product}, 2 * WIDTH**2 / gpu.bandwidth),
        "rate16": ("gemm", ("bfloat16",), {"m": MANY, **product}, 2 * MANY * WIDTH**2 / gpu.wide),
        "cache": ("decode_attention", two, cache, 4 * SEQUENCES * KV_HEADS * HEAD_DIM * LENGTH / gpu.bandwidth),
        "prompt": ("prefill_attention", two, prompt, 2 * HEADS * HEAD_DIM * LENGTH**2 / gpu.wide),
    }
    found = {}
    for term, (kind, dtypes, sizes, least) in probes.items():
        logs = []
        for engine in ENGINES:
            shape = Shape(
                kind=kind, gpu=gpu.name, engine=engine, version="", kernel="", dtypes=dtypes, sizes=sizes
            )  # fmt: skip
            logs.append(log(least / time(shape)))
        found[term] = exp(sum(logs) / len(logs))
    return found


def kernel_factors(
    predictor: Predictor, kernels: Iterable[Gpu], servers: Iterable[str]
) -> Mapping[str, Mapping[str, float]]:
    """Return factors on the serving terms by architecture, for GPUs with measured kernels but no measured server.

    The factor is what a GPU's kernels reach of its datasheet over what those of GPUs with measured servers reach.
    Source: the kernel profiles; on H100, H200 and B200 kernels reach 0.72 to 0.83 (weights), 0.75 to 0.80 (16-bit
    products) and 0.85 to 0.89 (cache), as the servers' fitted terms do (0.80, 0.69, 0.85).
    """
    known, of_servers = list(kernels), set(servers)

    def time(shape: Shape) -> float:
        return predictor.predict(shape).time

    try:
        every = {gpu.name: shares(gpu, time) for gpu in known}
    except KvplanError:
        return {}
    others = [every[gpu.name] for gpu in known if gpu.name in of_servers]
    if not others:
        return {}
    typical = {term: exp(sum(log(o[term]) for o in others) / len(others)) for term in others[0]}
    served = {gpu.architecture for gpu in known if gpu.name in of_servers}
    return {
        gpu.architecture: {
            term: min(max(reached / typical[term], LEAST), MOST) for term, reached in every[gpu.name].items()
        }
        for gpu in known
        if gpu.architecture not in served
    }
