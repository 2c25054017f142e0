"""What an engine's profiling run of a step takes: activations, a vision tower's peak, and memory for CUDA graphs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod
from typing import Any

from kvplan.kv.deployment import Deployment
from kvplan.kv.paging import INDEX_SCALE
from kvplan.specs.hardware import Engine, captured
from kvplan.specs.model import Attention, Compressed, Latent, Layer, ModelSpec
from kvplan.units import show_bytes


@dataclass(frozen=True)
class _Widths:
    """What a model's widest layers hold live per token, of 16-bit elements."""

    dense: float  #: gate, up and their product of one feed-forward, on one GPU
    experts: float  #: the two buffers that the products of the routed experts of a token pass through
    routed: bool  #: whether any layer routes to experts


@lru_cache(maxsize=256)
def _widths(model: ModelSpec, tensor: int, whole: bool) -> _Widths:
    """Return the live widths of a model whose matrices are divided by `tensor`, its experts only if not `whole`."""
    pairs = [_widest(layer, tensor, 1 if whole else tensor) for layer in model.distinct_layers]
    experts = max((e for _, e in pairs), default=0.0)
    routed = any(w.split == "expert" for layer in model.distinct_layers for w in layer.weights)
    return _Widths(max((d for d, _ in pairs), default=0.0), experts, routed)


def _widest(layer: Layer, tensor: int, sliced: int) -> tuple[float, float]:
    """Return the live elements per token of a layer's feed-forwards and of its routed experts."""
    blocks: dict[str, list[float]] = {}
    inner, width, rows, used = 0, 0, 0, 0.0
    for w in layer.weights:
        if len(w.shape) != 2 or not w.matmul:
            continue
        block, _, part = w.name.rpartition(".")
        if w.split == "expert":
            used = w.used
            if part.startswith("down"):
                width, inner = w.shape
            else:
                rows = max(rows, w.shape[0])
        elif w.split == "inner" and not part.startswith(("down", "out")):
            blocks.setdefault(block, []).append(w.shape[0] / tensor)
    dense = max((sum(ups) + max(ups) for ups in blocks.values()), default=0.0)
    return dense, used * (max(inner / sliced, width) + max(rows / sliced, width))


def encoder_bytes(model: ModelSpec, engine: Engine, tensor: int = 1) -> float:
    """Return the peak of encoding the largest image in the engine's profiling run, 0 where it is not known. [B]

    What lives in the tower for every patch, on one of `tensor` GPUs where that is counted by its layers and whatever
    divides it where it is not, and the image's embeddings, which the engine copies.
    """
    tower = model.config.get("vision_config")
    width = tower.get("hidden_size") if isinstance(tower, dict) else None
    if (
        model.vision is None
        or not isinstance(tower, dict)
        or not isinstance(width, int)
        or not any(p in model.model_type for p in engine.encoder_models)
    ):
        return 0.0
    embeddings = engine.encoder_copies * engine.encoder_patches / model.vision.merge**2 * model.hidden
    embeddings *= 1 + deepstack_levels(model)
    counted = any(p in model.model_type for p in engine.encoder_counted)
    live = _block_elements(tower, width, tensor) if counted else engine.encoder_live * width
    return 2.0 * (engine.encoder_patches * live + embeddings)


def _block_elements(tower: Mapping[str, Any], width: int, tensor: int) -> float:
    """Return the elements that live for a patch where a layer of a vision tower of Qwen's takes most.

    All along the patch's pixels, the positions' embeddings and what the layer got, and its norm beside it. Divided by
    tensor parallelism: queries, keys and values, of which queries and keys stand three times (laid out anew, and
    rotated), and what attention gives; or, beside the sum that the layer goes on with, the inner width before and
    after its activation (vLLM 0.20.0: models/qwen3_vl.py, Qwen3_VisionBlock; qwen2_5_vl.py, Qwen2_5_VisionAttention).
    """
    sizes = (("in_channels", 3), ("temporal_patch_size", 2), ("patch_size", 16), ("patch_size", 16))
    pixels = prod(int(tower.get(name, usual)) for name, usual in sizes)
    inner = int(tower.get("intermediate_size", 4 * width))
    return pixels + 3 * width + max(8 * width / tensor, width + 2 * inner / tensor)


def deepstack_levels(model: ModelSpec) -> int:
    """Return how many layers besides the first get embeddings of their own of an image (DeepStack, Qwen3-VL)."""
    tower = model.config.get("vision_config")
    levels = tower.get("deepstack_visual_indexes") if isinstance(tower, dict) and model.sees else None
    return len(levels) if isinstance(levels, list | tuple) else 0


def activation_bytes(
    model: ModelSpec, deployment: Deployment, length: int = 0, *, first: bool = True, last: bool = True
) -> tuple[float, str]:
    """Return the peak of the engine's profiling run on one pipeline stage, and which part of it binds. [B]

    The larger of the sampler (max_num_seqs rows of logits, sorted and accumulated, beside the hidden states of
    max_num_batched_tokens), which only the last stage has, of the widest feed-forward of such a step, and of the vision
    tower, which only the first has. Beside the former two, the buffers that the engine keeps: of experts, for the
    tokens of all attention ranks (MXFP4 kernels need none), and the embeddings of a step's images; and what it keeps of
    every sequence's vocabulary, and buffers for the indexer's keys of requests of `length` tokens. An engine that
    compiles as it starts holds copies of the embedding before that; a model with towers gets embeddings, not tokens.
    Told not to profile images (vLLM: skip_mm_profiling, vllm-project/vllm#22950), it encodes none, but the buffers of
    DeepStack are allocated with the model.
    """
    engine, parallel = deployment.engine, deployment.parallel
    sequences, tokens = deployment.limits
    rows, hidden = min(sequences, tokens), tokens * model.hidden * 2.0
    wide = _widths(model, parallel.tensor, parallel.expert_ranks > 1)
    experts = min(tokens * parallel.data, engine.expert_chunk or inf) * 2.0 * wide.experts
    images = _image_buffers(model, deployment, hidden, first)
    kept = images + (experts if engine.keeps_workspaces and form_of(model, deployment) != "mxfp4" else 0.0)
    counts = sequences * model.vocab * engine.kept_bytes_per_logit + gathered_bytes(model, engine, length)
    feed = (
        engine.live_hidden * hidden + max(tokens * 2.0 * wide.dense, 0.0 if kept > images else experts) + kept + counts
    )
    feed += 2 * hidden * (parallel.pipeline > 1)  # the hidden states and the residual between stages
    sampler = rows * model.vocab * engine.sampler_bytes_per_logit + engine.activation_base
    sampler += hidden + rows * model.hidden * 2.0 + kept + counts
    copies = engine.compile_copies if first and deployment.compiles and not model.sees else 0
    profiled = first and engine.encoder_patches and deployment.profiles_images and model.vision is not None
    peaks = {
        "sampler": sampler if last else 0.0,
        "feed-forward": feed,
        "copies": copies * model.vocab * model.hidden * 2.0 / parallel.tensor + counts if copies else 0.0,
        "encoder": encoder_bytes(model, engine, parallel.tensor) + counts if profiled else 0.0,
    }
    binding = max(peaks, key=lambda part: peaks[part])
    if binding == "encoder":
        words = f"vision tower: an image of {engine.encoder_patches:,} patches"
    elif binding == "copies":
        words = "a copy of the embedding, to time its kernels by; none when restarted from a compile cache"
    elif binding == "feed-forward":
        words = f"feed-forward of {tokens:,} tokens"
    else:
        per_logit = f"{rows:,} sequences x {model.vocab:,} logits x {engine.sampler_bytes_per_logit:g} B"
        besides = ", buffers of experts" * (kept > images) + ", image embeddings" * (images > 0)
        words = f"sampler: {per_logit}, and {tokens:,} hidden states{besides}"
    return peaks[binding], words


def _image_buffers(model: ModelSpec, deployment: Deployment, hidden: float, first: bool) -> float:
    """Return the buffers that an engine keeps for the images of a step, whose hidden states take `hidden` bytes. [B]"""
    engine, seen = deployment.engine, model.vision if deployment.profiles_images else None
    images = hidden if engine.keeps_workspaces and seen is not None else 0.0
    levels = deepstack_levels(model) if engine.keeps_deepstack and first else 0
    if not levels:
        return images
    largest = engine.encoder_patches / seen.merge**2 * model.hidden * 2.0 if seen else 0.0
    return levels * hidden + (1 + levels) * max(largest, images)


def gathered_bytes(model: ModelSpec, engine: Engine, length: int) -> float:
    """Return the buffer for an indexer's keys (sparse attention), of requests of `length` tokens; 0 without one. [B]

    A key takes 8 bits an element and a scale of 32; of compressed vectors there is one for every `ratio` tokens.
    """
    indexed = (m for m in model.mixers if isinstance(m, Latent | Compressed) and m.index_dim)
    keys = {(m.index_dim + INDEX_SCALE) / (m.ratio if isinstance(m, Compressed) else 1) for m in indexed}
    long = engine.long_index_gather if length > engine.long_index_from else 0
    many = long or engine.index_gather
    return many * length * max(keys, default=0.0)


def form_of(model: ModelSpec, deployment: Deployment) -> str:
    """Return the format that weights are stored in."""
    return deployment.weights or (model.quantization.method if model.quantization else model.dtype)


def graph_bytes(model: ModelSpec, deployment: Deployment, layers: int, bits: float = 16.0) -> float:
    """Return what the engine sets aside for CUDA graphs of a stage of some layers, whose cache has so many bits. [B]"""
    engine = deployment.engine
    maker = deployment.gpu.vendor if deployment.gpu else ""
    if not engine.graph_bytes or not deployment.graphs or (engine.graph_vendors and maker not in engine.graph_vendors):
        return 0.0
    each = layers * engine.graph_bytes
    if _routed(model):
        each += engine.expert_graph_bytes
        if doubtful_graphs(model, deployment) and logged_size(model, engine):
            each += layers * model.hidden * engine.rank_graph_bytes
    return captured(deployment.limits[0]) * each + workspace_bytes(model, deployment, bits)


#: widths of a head that FlashInfer's attention serves; other models of any such layer get Triton's
#: (vLLM 0.20.0: vllm/v1/attention/backends/flashinfer.py: get_supported_head_sizes)
FLASHINFER_WIDTHS = (64, 128, 256)


def workspace_bytes(model: ModelSpec, deployment: Deployment, bits: float) -> float:
    """Return the workspace of FlashInfer's attention, which the first whole graph that is captured allocates. [B]

    FlashInfer serves where it is the first choice, and caches of less than 16 bits where FlashAttention reads none of
    them: on all but Hopper, from Ampere on. Verifying drafts it captures no whole graphs there
    (vLLM 0.20.0: platforms/cuda.py: _get_backend_priorities; v1/attention/backends: flash_attn.py, flashinfer.py).
    """
    engine, gpu = deployment.engine, deployment.gpu
    heads = [m for m in model.mixers if isinstance(m, Attention)]
    if gpu is None or not engine.attention_workspace or not heads or any(isinstance(m, Latent) for m in model.mixers):
        return 0.0
    first = gpu.name.startswith(engine.flashinfer_gpus)
    narrow = bits < 16 and gpu.architecture in engine.flashinfer_narrow and deployment.draft is None
    served = all(m.key_dim in FLASHINFER_WIDTHS for m in heads) and (first or "gpt_oss" not in model.model_type)
    return engine.attention_workspace if served and (first or narrow) else 0.0


def _routed(model: ModelSpec) -> bool:
    """Whether a model has routed experts."""
    return _widths(model, 1, False).routed


#: the estimate for NVFP4 experts in data parallel is counted up to this factor from the size of the model logged
NEAR = 1.25


def doubtful_graphs(model: ModelSpec, deployment: Deployment) -> bool:
    """Return whether the engine sets aside its estimate of CUDA graphs for NVFP4 experts in data parallel."""
    nvfp4 = deployment.parallel.data > 1 and form_of(model, deployment) == "nvfp4"
    return nvfp4 and deployment.graphs and deployment.engine.rank_graph_bytes > 0 and _routed(model)


def logged_size(model: ModelSpec, engine: Engine) -> bool:
    """Return whether a model's layers x hidden size are near those of the one log of that estimate."""
    size = len(model.layers) * model.hidden
    return engine.rank_graph_size / NEAR <= size <= engine.rank_graph_size * NEAR


def shared_warnings(deployment: Deployment) -> tuple[str, ...]:
    """Return what is assumed of the host on a GPU that shares its memory; nothing on others."""
    engine, gpu = deployment.engine, deployment.gpu
    if gpu is None or not engine.shares(gpu):
        return ()
    needed = show_bytes(deployment.use * gpu.visible_memory)
    starts = f"it starts only where the host leaves {needed} free, which may need its page cache dropped"
    if deployment.kv_bytes is not None:
        return (f"this GPU ({gpu.name}) shares the host's memory: {starts}",)
    return (
        f"this GPU ({gpu.name}) shares the host's memory, and {engine.title} takes for its own what the host's "
        f"processes and page cache grow by while it starts: {show_bytes(engine.host_growth)} are taken for it, where "
        f"logs had 0.7 to 9 GiB; kv_cache_memory_bytes=SIZE fixes the cache, and {starts}",
    )


def image_warnings(model: ModelSpec, deployment: Deployment) -> tuple[str, ...]:
    """Return what an engine that profiles no image leaves to chance; nothing of others, and without a tower."""
    peak = encoder_bytes(model, deployment.engine, deployment.parallel.tensor)
    if deployment.profiles_images or not peak or deployment.gpu is None:
        return ()
    return (
        f"nothing is kept free for images: encoding the largest takes {show_bytes(peak)}, which has to fit beside the "
        "cache (without=image-profiling)",
    )


def graph_warnings(model: ModelSpec, deployment: Deployment, optional: bool = True) -> tuple[str, ...]:
    """Return that the estimate of CUDA graphs for NVFP4 experts in data parallel may be far too large.

    `optional` says whether the question takes without=graphs.
    """
    engine = deployment.engine
    if not doubtful_graphs(model, deployment):
        return ()
    counted = (
        "it is counted here by one log of a model of this size" + ", and without=graphs leaves it out" * optional
        if logged_size(model, engine)
        else "it is not counted here, for no log of a model of this size is known"
    )
    return (
        f"the estimate of CUDA graphs for NVFP4 experts in data parallel, which {engine.title} {engine.version} takes "
        f"from the cache, can be far too large; {counted}; "
        "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0 turns it off on the server",
    )
