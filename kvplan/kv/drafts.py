"""What drafts tokens: a model's own next-token layers (MTP), an EAGLE-3 head, or a smaller model.

Source: DeepSeek-V3, arXiv 2412.19437, section 2.2; EAGLE-3, arXiv 2503.01840.
"""

from dataclasses import replace

from kvplan.architectures.formats import format_named
from kvplan.architectures.parts import MTP_KEYS, UNSTATED_MTP
from kvplan.errors import Incompatible
from kvplan.kv.deployment import Draft
from kvplan.specs.model import Attention, Latent, Layer, ModelSpec, Recurrent, Weight

#: words that EAGLE-3 heads choose among, as published heads do
EAGLE_VOCAB = 32_000


def mtp(model: ModelSpec, form: str | None) -> Draft:
    """Return a model's own next-token layers as a draft.

    Each is one more layer of the model, of those that attend to every token, with a projection of the hidden state and
    the embedding; embeddings and head are the model's. Raises Incompatible for a model that has none.
    """
    text = model.config.get("text_config")
    config = {**model.config, **(text if isinstance(text, dict) else {})}
    stated = [n for n in (config.get(key) for key in MTP_KEYS) if isinstance(n, int) and n > 0]
    counts = stated or [n for n in (UNSTATED_MTP.get(model.model_type),) if n]
    if not counts:
        raise Incompatible(f"{model.title} has no next-token layers; write speculative=eagle3 or name a draft model")
    width = model.hidden
    layer = _attending(model)
    besides = (
        Weight(name="eh_proj", shape=(width, 2 * width), split="inner"),
        Weight(name="enorm", shape=(width,), matmul=False),
        Weight(name="hnorm", shape=(width,), matmul=False),
        Weight(name="norm", shape=(width,), matmul=False),
    )
    layers = (Layer(mixers=layer.mixers, weights=(*layer.weights, *besides)),) * counts[0]
    draft = Draft(kind="mtp", model=replace(model, layers=layers, outer=()), drafted=counts[0])
    return written_in(draft, form)


def written_in(draft: Draft, form: str | None) -> Draft:
    """Return next-token layers beside weights in a format, None for the checkpoint's: as them, but never in 4 bits.

    Published checkpoints of 4 bits leave them in 16: NVIDIA's NVFP4 of DeepSeek-R1
    (https://github.com/sgl-project/sglang/pull/15353), AMD's NVFP4 and MXFP4 of GLM-5.1 and 5.2
    (https://github.com/vllm-project/vllm/pull/49275, pull/53906), and of GLM-4.7, where they are copied over
    (https://github.com/NVIDIA/Model-Optimizer/issues/750). Those of fp8 have them in fp8: DeepSeek-V3's own.
    """
    chosen, own = format_named(form) if form else None, draft.model.quantization
    bits = chosen.bits if chosen else own.bits if own and not form else None
    if bits is None or bits >= 8:
        return replace(draft, form=form, note="")
    return replace(draft, form="bf16", note="its next-token layers are in 16 bits, as checkpoints of 4 bits leave them")


def eagle3(model: ModelSpec) -> Draft:
    """Return an EAGLE-3 head: one dense layer with the model's heads, fed three hidden states, and an output head."""
    mixers = _attending(model).mixers
    own = next((m for m in mixers if isinstance(m, Attention)), None)
    heads = own.heads if own else max((m.heads for m in mixers if isinstance(m, Latent)), default=1)
    kv = own.kv_heads if own else min(heads, 8)
    key = own.key_dim if own else 128
    width = model.hidden
    inner = max((w.shape[0] for w in _dense(model)), default=4 * width)
    weights = (
        Weight(name="q_proj", shape=(heads * key, 2 * width), split="heads"),
        Weight(name="k_proj", shape=(kv * key, 2 * width), split="kv"),
        Weight(name="v_proj", shape=(kv * key, 2 * width), split="kv"),
        Weight(name="o_proj", shape=(width, heads * key), split="heads"),
        Weight(name="mlp.gate_proj", shape=(inner, width), split="inner"),
        Weight(name="mlp.up_proj", shape=(inner, width), split="inner"),
        Weight(name="mlp.down_proj", shape=(width, inner), split="inner"),
        Weight(name="norms", shape=(4, width), matmul=False),
    )
    outer = (
        Weight(name="fc", shape=(width, 3 * width), split="inner"),
        Weight(name="lm_head", shape=(min(EAGLE_VOCAB, model.vocab), width), split="vocab"),
    )
    mixer = Attention(heads=heads, kv_heads=kv, key_dim=key, value_dim=own.value_dim if own else key)
    head = replace(
        model, layers=(Layer(mixers=(mixer,), weights=weights),), outer=outer, quantization=None, tied=False,
        vocab=min(EAGLE_VOCAB, model.vocab),
    )  # fmt: skip
    note = f"an EAGLE-3 head of one layer, {kv} key/value heads, {inner:,} wide, {EAGLE_VOCAB:,} words, 16 bits"
    return Draft(kind="eagle3", model=head, note=note)


def smaller(draft: ModelSpec) -> Draft:
    """Return a smaller model as a draft, in its checkpoint's format."""
    return Draft(kind="model", model=draft)


def _attending(model: ModelSpec) -> Layer:
    """Return the last layer that attends to every token, with an indexer where any has one."""

    def rank(layer: Layer) -> tuple[bool, bool]:
        mixers = [m for m in layer.mixers if not isinstance(m, Recurrent)]
        indexed = any(isinstance(m, Latent) and m.index_dim for m in mixers)
        whole = any(isinstance(m, Latent) or (isinstance(m, Attention) and m.kind == "full") for m in mixers)
        return whole, indexed

    best = max(map(rank, model.layers))
    return next(layer for layer in reversed(model.layers) if rank(layer) == best)


def _dense(model: ModelSpec) -> list[Weight]:
    return [
        w
        for layer in model.distinct_layers
        for w in layer.weights
        if w.split == "inner" and w.name.endswith("up_proj") and "shared" not in w.name
    ]
