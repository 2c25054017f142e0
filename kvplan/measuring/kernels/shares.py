"""What measured kernels say of GPUs on which no server was measured: their shares of the datasheet, against others'."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from math import exp, log

from kvplan.errors import KvplanError
from kvplan.perf.kernel_profile import KernelCall, Predictor
from kvplan.specs.hardware import Gpu
from kvplan.specs.serving_profile import ServingProfile

#: a large layer's product, one decode step and one long prompt: what a server's terms are made of
WIDTH, FEW, MANY = 8192, 16, 4096
HEADS, KV_HEADS, HEAD_DIM, SEQUENCES, LENGTH = 32, 8, 128, 32, 8192
#: engines whose kernels stand for a GPU; their geometric mean counts
ENGINES = ("vllm", "trtllm")
#: GPUs whose servers the terms common to all are mostly of: what others' kernels reach is told against theirs
REFERENCES = ("h100-sxm", "h200", "b200")
#: a factor from kernels alone is not trusted beyond these
LEAST, MOST = 0.5, 1.5
#: architecture and number format -> how much more of the datasheet kernels of routed experts reach there than the mean
#: of these five: medians over seven models of ai-dynamo/aiconfigurator@095f58a (Apache-2.0), read 2026-11-29, over
#: SGLang, TensorRT-LLM and vLLM; up to 16 tokens, and from 4,096 (benchmarks/expert_kernels.py, benchmarks/NOTES.md)
EXPERT_KERNELS = {
    "hopper 8 bits": {"experts": 1.05, "experts_rate": 1.0},
    "hopper 4 bits, unpacked": {"experts": 0.84, "experts_rate": 0.91},
    "blackwell 16 bits": {"experts": 0.96, "experts_rate": 1.21},
    "blackwell 8 bits": {"experts": 0.96, "experts_rate": 0.79},
    "blackwell 4 bits": {"experts": 1.26, "experts_rate": 1.16},
}
#: architecture -> share of a link's one-way bandwidth that all-reduces of long prompts reach there: the mean over
#: two, four and eight GPUs, of those from 8 MB on (145 of 457, the same source)
LINKS = {"ampere": 0.567, "hopper": 0.677, "blackwell": 0.502}

#: terms that any library's kernels stand for: matrix products; attention kernels of two authors cannot be compared
PRODUCTS = ("weights", "rate16")


def shares(gpu: Gpu, time: Callable[[KernelCall], float], terms: Collection[str] = ()) -> dict[str, float]:
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
    reached = {}
    for term, (kind, dtypes, sizes, least) in probes.items():
        if terms and term not in terms:
            continue
        logs = []
        for engine in ENGINES:
            shape = KernelCall(
                kind=kind, gpu=gpu.name, engine=engine, version="", kernel="", dtypes=dtypes, sizes=sizes
            )  # fmt: skip
            logs.append(log(least / time(shape)))
        reached[term] = exp(sum(logs) / len(logs))
    return reached


def kernel_factors(
    predictor: Predictor, kernels: Iterable[Gpu], servers: Iterable[str]
) -> Mapping[str, Mapping[str, float]]:
    """Return factors on the serving terms by architecture, for GPUs with measured kernels but no measured server.

    The factor is what a GPU's kernels reach of its datasheet over what those of GPUs with measured servers reach.
    Source: the kernel profiles; on H100, H200 and B200 kernels reach 0.72 to 0.83 (weights), 0.75 to 0.80 (16-bit
    products) and 0.85 to 0.89 (cache), as the servers' fitted terms do (0.80, 0.69, 0.85).
    """
    known, of_servers = list(kernels), set(servers)

    def time(shape: KernelCall) -> float:
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


def measured_here(
    servers: ServingProfile, own: Predictor, shipped: Predictor, gpu: Gpu, references: Iterable[Gpu]
) -> ServingProfile:
    """Return a serving profile in which a GPU's matrix products are those of a kernel profile of one's own.

    They are compared with the published ones of the same GPU, else with those of REFERENCES, of which `references` has
    what is published; everything else stays. Raises SpecError when the profile holds no products.
    """
    mine = shares(gpu, lambda s: own.predict(s).time, PRODUCTS)
    known = list(references)
    others = [g for g in known if g.name == gpu.name] or [g for g in known if g.name in REFERENCES]
    typical = [shares(g, lambda s: shipped.predict(s).time, PRODUCTS) for g in others]
    moved = {}
    for term, reached in mine.items():
        usual = exp(sum(log(usual_shares[term]) for usual_shares in typical) / len(typical))
        moved[term] = log(min(max(reached / usual, LEAST), MOST))
    gpus = dict(servers.moves.get("gpus", {}))
    same = any(g.name == gpu.name for g in known)
    architecture = {} if same else servers.moves.get("kernels", {}).get(gpu.architecture, {})
    kept = gpus.get(gpu.name, {})
    gpus[gpu.name] = {
        **kept,
        **{term: kept.get(term, 0.0) + m - architecture.get(term, 0.0) for term, m in moved.items()},
    }
    return replace(servers, moves={**servers.moves, "gpus": gpus})
