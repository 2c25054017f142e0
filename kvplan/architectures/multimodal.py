"""A language model with a vision (or audio) tower: the text part is read by its own family, the tower is counted.

Tower tensors are named vision_tower, audio_tower or multi_modal_projector and are no `matmul`: weight quantisation
leaves them alone. There is one Weight per kind of tensor, its first dimension the layers; a bias is counted as one more
column.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.architectures.config import Config, Defaults
from kvplan.architectures.parts import Body, Part, attention_weights, decoder, gqa, layer_count, mlp, vector
from kvplan.architectures.registry import FAMILIES, TOWERS, family
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.model import Cross, Weight

Counter = Callable[[Config, Config], tuple[Weight, ...]]


@dataclass(frozen=True)
class Tower:
    """Where a multimodal config keeps its language model, and what stands beside it."""

    text: str  #: model_type of the language model
    weights: Counter  #: from the whole config and its text part to the tensors beside the language model
    nest: str = "text_config"  #: field that holds the language model
    fixed: bool = True  #: whether the class reads its text part as `text`, whatever model_type it states
    flat: bool = False  #: whether files may state the text fields at the top
    tied: str = "outer"  #: whose tie_word_embeddings counts: outer, either or text


def tower(
    text: str, *model_types: str, fixed: bool = True, flat: bool = False, tied: str = "outer"
) -> Callable[[Counter], Counter]:
    """Register what stands beside the language model of these model types."""

    def register(weights: Counter) -> Counter:
        for model_type in model_types:
            TOWERS.known[model_type] = Tower(text=text, weights=weights, fixed=fixed, flat=flat, tied=tied)
        return weights

    return register


def language_model(raw: Mapping[str, Any], model_type: str, where: str, classes: Defaults) -> Config:
    """Return the text part's Config; its parent is the whole file, which then says whether the head is tied."""
    kind: Tower = TOWERS[model_type]
    outer = Config(
        {**{k: v for k, v in raw.items() if v is not None}, "model_type": model_type},
        where,
        {model_type: None},
        classes=classes,
    )
    flat = kind.flat and kind.nest not in outer.raw
    stated = dict(raw) if flat else outer.nested(kind.nest, model_type=kind.text).raw
    inner = Config(
        {**stated, "model_type": kind.text} if kind.fixed else stated,
        where if flat else f"{where}: {kind.nest}",
        FAMILIES,
        outer,
    )
    own, whole = inner.flag("tie_word_embeddings", outer.flag("tie_word_embeddings")), outer.flag("tie_word_embeddings")
    tied = (
        own
        if text_only(outer)
        else {
            "outer": whole,
            "either": whole or inner.flag("tie_word_embeddings"),
            "text": inner.flag("tie_word_embeddings"),
        }[kind.tied]
    )
    outer.raw = {**outer.raw, "tie_word_embeddings": tied}
    return inner


def text_only(outer: Config) -> bool:
    """Whether `architectures` names the language model alone: Gemma3ForCausalLM in a gemma3 file."""
    named = outer.get("architectures", None)
    return (
        isinstance(named, (list, tuple))
        and bool(named)
        and all(isinstance(n, str) and n.endswith("ForCausalLM") for n in named)
    )


def beside(text: Config) -> tuple[Weight, ...]:
    """Return the tensors of the file that are not the language model's."""
    if text.parent is None or text.parent.model_type not in TOWERS or text_only(text.parent):
        return ()
    found: Tower = TOWERS[text.parent.model_type]
    return found.weights(text.parent, text)


# -- counting -------------------------------------------------------------------------------------


def tensors(prefix: str, layers: int = 1, **shapes: tuple[int, ...]) -> tuple[Weight, ...]:
    """Return one Weight per named shape, of `layers` layers."""
    return tuple(
        Weight(name=f"{prefix}.{name}", shape=(layers, *shape), matmul=False)
        for name, shape in shapes.items()
        if 0 not in (layers, *shape)
    )


def part(outer: Config, name: str, model_type: str) -> Config:
    """Return a nested object read as `model_type` whatever it states (some old files repeat the outer one)."""
    stated = outer.nested(name, model_type=model_type)
    return Config({**stated.raw, "model_type": model_type}, stated.where, {model_type: None}, outer)


def pair(c: Config, name: str) -> tuple[int, int]:
    """Return a size given as one number or as two."""
    value = c.get(name)
    if not isinstance(value, (list, tuple)):
        return c.size(name), c.size(name)
    if len(value) != 2:
        raise SpecError(f"{c.where}: {name} must be one number or two, got {shown(value)}")
    return c.whole(name, value[0]), c.whole(name, value[1])


def patches(c: Config) -> int:
    """Return how many patches an image is cut into."""
    (height, width), (rows, cols) = pair(c, "image_size"), pair(c, "patch_size")
    if height < rows or width < cols:
        raise SpecError(f"{c.where}: patch_size {c.get('patch_size')} is larger than image_size {c.get('image_size')}")
    return (height // rows) * (width // cols)


def pixels(c: Config, channels: str = "num_channels") -> int:
    """Return the numbers in one patch: channels x height x width, x frames where the config has temporal_patch_size."""
    rows, cols = pair(c, "patch_size")
    return (
        c.size(channels, 3)
        * rows
        * cols
        * (pair(c, "temporal_patch_size")[0] if c.get("temporal_patch_size", None) is not None else 1)
    )


def features(outer: Config) -> int:
    """Return how many layers of the tower the projector reads side by side."""
    listed = outer.get("vision_feature_layer", -1)
    return max(len(listed), 1) if isinstance(listed, (list, tuple)) else 1


def transformer(prefix: str, d: int, inner: int, layers: int) -> tuple[Weight, ...]:
    """Return the usual ViT layers: biases everywhere, two LayerNorms, plain MLP."""
    return tensors(prefix, layers, attention=(4 * d, d + 1), norms=(4, d), fc1=(inner, d + 1), fc2=(d, inner + 1))


# -- towers that several models choose by model_type ----------------------------------------------


def clip(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of a CLIP vision tower."""
    d = c.size("hidden_size")
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c)), positions=(patches(c) + 1, d), class_embedding=(d,), norms=(4, d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("num_hidden_layers")),
    )


def siglip(c: Config) -> tuple[Weight, ...]:
    """SigLIP; its pooling head is built unless vision_use_head is false. Idefics 3 and SmolVLM have none."""
    d, inner = c.size("hidden_size"), c.size("intermediate_size")
    head = tensors(
        "vision_tower.head", probe=(d,), attention=(4 * d, d + 1), norm=(2, d), fc1=(inner, d + 1), fc2=(d, inner + 1)
    )
    return (
        *tensors("vision_tower", patch=(d, pixels(c) + 1), positions=(patches(c), d), norm=(2, d)),
        *transformer("vision_tower.layers", d, inner, c.size("num_hidden_layers")),
        *(head if c.model_type == "siglip_vision_model" and c.flag("vision_use_head", True) else ()),
    )


def pixtral(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of a Pixtral vision tower."""
    d, inner = c.size("hidden_size"), c.size("intermediate_size")
    return (
        *tensors("vision_tower", patch=(d, pixels(c)), norm=(d,)),
        *tensors(
            "vision_tower.layers", c.size("num_hidden_layers"), attention=(4 * d, d), mlp=(3 * inner, d), norms=(2, d)
        ),
    )


def internvl_vision(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of an InternVL vision tower."""
    d, inner, norm = (
        c.size("hidden_size"),
        c.size("intermediate_size"),
        1 if c.text("norm_type", "layer_norm") == "rms_norm" else 2,
    )
    marks = 1 + c.flag("use_mask_token")
    positions = patches(c) + 1 if c.flag("use_absolute_position_embeddings", True) else 0
    return (
        *tensors(
            "vision_tower",
            patch=(d, pixels(c) + 1),
            positions=(positions, d),
            tokens=(marks, d),
            norm=(0 if c.flag("use_mean_pooling", True) else 2, d),
        ),
        *tensors(
            "vision_tower.layers",
            c.size("num_hidden_layers"),
            qkv=(3 * d, d + c.flag("attention_bias")),
            projection=(d, d + 1),
            scales=(2, d),
            qk_norm=(2 * c.flag("use_qk_norm"), d),
            norms=(2 * norm, d),
            fc1=(inner, d + 1),
            fc2=(d, inner + 1),
        ),
    )


#: vision model_type -> its tensors
VISION: dict[str, Callable[[Config], tuple[Weight, ...]]] = {
    "clip_vision_model": clip,
    "siglip_vision_model": siglip,
    "idefics3_vision": siglip,
    "smolvlm_vision": siglip,
    "pixtral": pixtral,
    "internvl_vision": internvl_vision,
}


def eyes(outer: Config, default: str, *, fixed: bool = False) -> tuple[Config, tuple[Weight, ...]]:
    """Return the vision part and its tensors; its model_type chooses them unless `fixed`."""
    c = part(outer, "vision_config", default) if fixed else outer.nested("vision_config", model_type=default)
    if c.model_type not in VISION:
        raise UnknownName("vision architecture", c.model_type, VISION, f"{c.where}: known: {', '.join(sorted(VISION))}")
    return c, VISION[c.model_type](c)


@tower("gemma3_text", "gemma3")
def gemma3(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of Gemma 3."""
    c, weights = eyes(outer, "siglip_vision_model")
    return (
        *weights,
        *tensors(
            "multi_modal_projector",
            projection=(c.size("hidden_size"), text.size("hidden_size")),
            norm=(c.size("hidden_size"),),
        ),
    )


@tower("gemma", "paligemma", fixed=False)
def paligemma(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of PaliGemma."""
    c, weights = eyes(outer, "siglip_vision_model")
    return (
        *weights,
        *tensors("multi_modal_projector", linear=(outer.size("projection_dim"), c.size("hidden_size") + 1)),
    )


def llava_projector(outer: Config, text: Config, width: int) -> tuple[Weight, ...]:
    """Return LLaVA's projector of two matrices, from vision features of `width` to the text."""
    hidden, bias = text.size("hidden_size"), outer.flag("multimodal_projector_bias", True)
    return tensors(
        "multi_modal_projector", linear_1=(hidden, width * features(outer) + bias), linear_2=(hidden, hidden + bias)
    )


@tower("llama", "llava", fixed=False, tied="either")
def llava(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of LLaVA."""
    c, weights = eyes(outer, "clip_vision_model")
    return weights + llava_projector(outer, text, c.size("hidden_size"))


@tower("llama", "llava_next", fixed=False)
def llava_next(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return LLaVA's tensors and the vector that LLaVA-NeXT writes at the end of a row of an image."""
    return (*llava(outer, text), *tensors("multi_modal_projector", image_newline=(text.size("hidden_size"),)))


@tower("qwen2", "llava_onevision", fixed=False, tied="either")
def llava_onevision(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower, projector and end-of-row vector of LLaVA-OneVision."""
    c, weights = eyes(outer, "siglip_vision_model")
    return (
        *weights,
        *llava_projector(outer, text, c.size("hidden_size")),
        *tensors("multi_modal_projector", image_newline=(text.size("hidden_size"),)),
    )


@tower("mistral", "mistral3", fixed=False)
def mistral3(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Pixtral's tower, whose patches are merged spatial_merge_size by spatial_merge_size."""
    c, weights = eyes(outer, "pixtral")
    d = c.size("hidden_size")
    merge = tensors("multi_modal_projector", norm=(d,), patch_merger=(d, d * outer.size("spatial_merge_size", 2) ** 2))
    return weights + merge + llava_projector(outer, text, d)


@tower("qwen2", "internvl", fixed=False)
def internvl(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of InternVL; SpecError for a downsample_ratio outside (0, 1]."""
    c, weights = eyes(outer, "internvl_vision", fixed=True)
    ratio = outer.real("downsample_ratio", 0.5)
    if not 0 < ratio <= 1:
        raise SpecError(f"{outer.where}: downsample_ratio must be above 0 and at most 1, got {shown(ratio)}")
    width, hidden = c.size("hidden_size") * int(1 / ratio) ** 2, text.size("hidden_size")
    return (
        *weights,
        *tensors("multi_modal_projector", norm=(2, width), linear_1=(hidden, width + 1), linear_2=(hidden, hidden + 1)),
    )


@tower("llama", "idefics3", "smolvlm", fixed=False)
def idefics3(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of Idefics 3 and SmolVLM."""
    c, weights = eyes(outer, f"{outer.model_type}_vision", fixed=True)
    return (
        *weights,
        *tensors(
            "multi_modal_projector",
            proj=(text.size("hidden_size"), c.size("hidden_size") * outer.size("scale_factor", 2) ** 2),
        ),
    )


@tower("cohere2", "aya_vision", "cohere2_vision", fixed=False)
def cohere(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Aya Vision and Command A Vision: SwiGLU projectors; only Aya's has a norm."""
    c, weights = eyes(outer, "siglip_vision_model")
    hidden, width = text.size("hidden_size"), c.size("hidden_size") * outer.size("downsample_factor", 2) ** 2
    inner = outer.size("alignment_intermediate_size", hidden)
    aya = outer.model_type == "aya_vision"
    return (
        *weights,
        *tensors(
            "multi_modal_projector",
            norm=(2 * aya, width),
            linear_1=(inner, width + 1),
            linear_2=(hidden, inner // 2 + 1),
        ),
    )


# -- towers of one family -------------------------------------------------------------------------


@tower("llama4_text", "llama4", tied="text")
def llama4(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower, adapter and projector of Llama 4."""
    c = part(outer, "vision_config", "llama4_vision_model")
    d, wide = c.size("hidden_size"), c.size("projector_output_dim")
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c)), positions=(patches(c) + 1, d), class_embedding=(d,), norms=(4, d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("num_hidden_layers")),
        *tensors(
            "vision_tower.adapter", fc1=(c.size("projector_input_dim"), c.size("intermediate_size")), fc2=(wide, wide)
        ),
        *tensors("multi_modal_projector", linear=(text.size("hidden_size"), c.size("vision_output_dim"))),
    )


@tower("mllama_text_model", "mllama")
def mllama(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Llama 3.2 Vision: tiles with gated position tables for each aspect ratio, local then gated global layers."""
    c = part(outer, "vision_config", "mllama_vision_model")
    d, inner, tiles, count = c.size("hidden_size"), c.size("intermediate_size"), c.size("max_num_tiles"), patches(c) + 1
    ratios = len(c.entries("supported_aspect_ratios") or range(8)) + 1
    layer = {"attention": (4 * d, d), "norms": (4, d), "fc1": (inner, d + 1), "fc2": (d, inner + 1)}
    return (
        *tensors(
            "vision_tower",
            patch=(d, pixels(c)),
            positions=(count, d),
            class_embedding=(d,),
            gates=(3,),
            norms=(4, d),
            tile_positions=(ratios, tiles * count * d),
            tile_embeddings=(2 * ratios, tiles * d),
        ),
        *tensors("vision_tower.layers", c.size("num_hidden_layers"), **layer),
        *tensors("vision_tower.global_layers", c.size("num_global_layers"), gates=(2,), **layer),
        *tensors("multi_modal_projector", linear=(text.size("hidden_size"), c.size("vision_output_dim") + 1)),
    )


@family("mllama_text_model")
def mllama_text(c: Config) -> Body:
    """Llama 3.2 Vision's decoder: cross_attention_layers attend to vision tokens only, and cache only those."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("intermediate_size")
    crossing = c.entries("cross_attention_layers")
    places = [3, 8, 13, 18, 23, 28, 33, 38] if crossing is None else crossing
    tokens = 0
    if c.parent is not None and not text_only(c.parent):  # every tile has its patches and one class token
        vision = part(c.parent, "vision_config", "mllama_vision_model")
        tokens = (patches(vision) + 1) * vision.size("max_num_tiles")
    a = gqa(c)
    own = (a,), attention_weights(hidden, a)
    seen = Cross(heads=a.heads, kv_heads=a.kv_heads, key_dim=a.key_dim, value_dim=a.value_dim, tokens=tokens)
    crossed = (
        (seen,),
        (*attention_weights(hidden, a, qk_norm="head", prefix="cross_attn"), vector("cross_attn.gates", 2)),
    )

    def mix(kind: Hashable) -> Part:
        return crossed if kind == "cross" else own

    # eight more rows than the vocabulary, for the image tokens
    extra = (Weight(name="embed_tokens.image", shape=(8, hidden), matmul=False),)
    return decoder(
        c,
        ["cross" if i in places else "full" for i in range(count)],
        mix,
        ["mlp"] * count,
        lambda _: mlp(hidden, inner),
        extra=extra,
    )


def qwen_merger(name: str, wide: int, out: int, norm: int, count: int = 1) -> tuple[Weight, ...]:
    """Return `count` mergers of neighbouring patches, each a norm and a two-layer MLP."""
    return tensors(f"multi_modal_projector.{name}", count, norm=(norm,), fc1=(wide, wide + 1), fc2=(out, wide + 1))


@tower("qwen2_vl_text", "qwen2_vl", tied="either", flat=True)
def qwen2_vl(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and patch merger of Qwen2-VL."""
    c = part(outer, "vision_config", "qwen2_vl_vision")
    d = c.size("embed_dim")
    inner, wide = int(d * c.real("mlp_ratio")), d * c.size("spatial_merge_size") ** 2
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels"))),
        *transformer("vision_tower.layers", d, inner, c.size("depth")),
        *qwen_merger("merger", wide, c.size("hidden_size"), 2 * d),
    )


@tower("qwen2_5_vl_text", "qwen2_5_vl", tied="either", flat=True)
def qwen2_5_vl(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and patch merger of Qwen2.5-VL."""
    c = part(outer, "vision_config", "qwen2_5_vl_vision")
    d, inner = c.size("hidden_size"), c.size("intermediate_size")
    wide = d * c.size("spatial_merge_size") ** 2
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels"))),
        *tensors(
            "vision_tower.layers",
            c.size("depth"),
            attention=(4 * d, d + 1),
            norms=(2, d),
            gate_up=(2 * inner, d + 1),
            down=(d, inner + 1),
        ),
        *qwen_merger("merger", wide, c.size("out_hidden_size"), d),
    )


@tower("qwen3_vl_text", "qwen3_vl")
@tower("qwen3_vl_moe_text", "qwen3_vl_moe")
@tower("qwen3_5_text", "qwen3_5")
@tower("qwen3_5_moe_text", "qwen3_5_moe")
def qwen3_vl(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Qwen3-VL and Qwen3.5; Qwen3-VL has a merger for each of deepstack_visual_indexes too."""
    c = part(outer, "vision_config", f"{outer.model_type}_vision")
    d, out = c.size("hidden_size"), c.size("out_hidden_size")
    wide = d * c.size("spatial_merge_size") ** 2
    stacks = len(c.entries("deepstack_visual_indexes") or ()) if outer.model_type.startswith("qwen3_vl") else 0
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c, "in_channels") + 1), positions=(c.size("num_position_embeddings"), d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("depth")),
        *qwen_merger("merger", wide, out, 2 * d),
        *qwen_merger("deepstack", wide, out, 2 * wide, stacks),
    )


@tower("glm4v_text", "glm4v", tied="either")
@tower("glm4v_moe_text", "glm4v_moe", tied="either")
@tower("glm4v_text", "glm46v", fixed=False)
def glm4v(outer: Config, text: Config) -> tuple[Weight, ...]:
    """GLM-4.1V, 4.5V and 4.6V: patches are convolved together and pass a wide MLP."""
    c = part(outer, "vision_config", "glm4v_vision" if outer.model_type == "glm46v" else f"{outer.model_type}_vision")
    d, out, inner = c.size("hidden_size"), c.size("out_hidden_size"), c.size("intermediate_size")
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels") + 1), positions=(patches(c), d), norms=(2, d)),
        *tensors(
            "vision_tower.layers",
            c.size("depth"),
            qkv=(3 * d, d + c.flag("attention_bias")),
            proj=(d, d),
            norms=(2, d),
            mlp=(3 * out, d),
        ),
        *tensors(
            "multi_modal_projector",
            downsample=(out, d * c.size("spatial_merge_size") ** 2 + 1),
            proj=(out, out),
            norm=(2, out),
            mlp=(3 * inner, out),
        ),
    )


@tower("deepseek_v3", "kimi_k25", fixed=False)
def kimi(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Kimi K2.5's MoonViT, under the class's names or the published file's.

    The latter are vt_hidden_size, init_pos_emb_height, ...
    """
    c = part(outer, "vision_config", "kimi_k25_vision")

    def size(name: str, published: str) -> int:
        return c.size(published if published in c.raw and name not in c.raw else name)

    d, inner = size("hidden_size", "vt_hidden_size"), size("intermediate_size", "vt_intermediate_size")
    rows, cols = pair(c, "merge_kernel_size")
    wide, cells = (
        d * rows * cols,
        size("pos_emb_height", "init_pos_emb_height") * size("pos_emb_width", "init_pos_emb_width"),
    )
    projected = c.size("mm_hidden_size") if "mm_hidden_size" in c.raw else outer.size("projection_hidden_size", d)
    return (
        *tensors("vision_tower", patch=(d, pixels(c) + 1), positions=(cells, d), norm=(2, d)),
        *transformer("vision_tower.layers", d, inner, size("num_hidden_layers", "vt_num_hidden_layers")),
        *tensors(
            "multi_modal_projector",
            norm=(2, projected),
            linear_1=(wide, wide + 1),
            linear_2=(text.size("hidden_size"), wide + 1),
        ),
    )


# -- Gemma 3n and 4: vision and audio -------------------------------------------------------------

#: parameters of timm's MobileNet-V5 (counted from timm 1.0.31): the only vision encoder Gemma 3n has
MOBILENET_V5 = {"mobilenetv5_300m_enc": 294_126_912}


@tower("gemma3n_text", "gemma3n")
def gemma3n(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision and audio towers of Gemma 3n and what embeds both; UnknownName for another vision encoder."""
    vision, audio, hidden = (
        part(outer, "vision_config", "gemma3n_vision"),
        part(outer, "audio_config", "gemma3n_audio"),
        text.size("hidden_size"),
    )
    encoder = vision.text("architecture", "mobilenetv5_300m_enc")
    if encoder not in MOBILENET_V5:
        raise UnknownName(
            "vision architecture", encoder, MOBILENET_V5, f"{vision.where}: known: {', '.join(MOBILENET_V5)}"
        )
    weights = tensors("vision_tower", mobilenet=(MOBILENET_V5[encoder],)) + gemma3n_audio(audio)
    for name, c in (("vision", vision), ("audio", audio)):
        d = c.size("hidden_size")
        weights += tensors(
            f"multi_modal_projector.{name}", embedding=(c.size("vocab_size"), d), norms=(2, d), projection=(hidden, d)
        )
    return weights


def conformer(d: int, dim: int, kernel: int, layers: int) -> tuple[Weight, ...]:
    """Return Conformer layers: two MLPs four times as wide, attention with relative positions, a gated convolution."""
    return tensors(
        "audio_tower.layers",
        layers,
        attention=(5 * d, d),
        per_dim_scale=(dim,),
        mlps=(2 * 2 * 4 * d, d),
        gated=(2 * d, d),
        pointwise=(d, d),
        convolution=(d, kernel),
        norms=(9, d),
    )


def gemma3n_audio(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of Gemma 3n's audio tower; SpecError where the input is too small for its kernels."""
    d, heads = c.size("hidden_size"), c.size("conf_num_attention_heads")
    kernels = grid(c, "sscp_conv_kernel_size", [[3, 3], [3, 3]])
    strides = grid(c, "sscp_conv_stride_size", [[2, 2], [2, 2]])
    first, second = pair(c, "sscp_conv_channel_size")
    width = c.size("input_feat_size")
    for kernel, stride in zip(kernels, strides, strict=True):  # one column of padding on either side
        width = (width + 2 - kernel[1]) // stride[1] + 1
    if width < 1:
        raise SpecError(f"{c.where}: input_feat_size {c.get('input_feat_size')} is too small for sscp_conv_kernel_size")
    return (
        *tensors(
            "audio_tower",
            conv_0=(first, kernels[0][0] * kernels[0][1] + 1),
            conv_1=(second, first * kernels[1][0] * kernels[1][1] + 1),
            input=(d, second * width),
        ),
        *conformer(d, d // heads, c.size("conf_conv_kernel_size"), c.size("conf_num_hidden_layers")),
    )


def grid(c: Config, name: str, default: list[list[int]]) -> list[tuple[int, int]]:
    """Return two (time, frequency) pairs."""
    value = c.entries(name, default) or default
    if len(value) != 2 or not all(isinstance(v, (list, tuple)) and len(v) == 2 for v in value):
        raise SpecError(f"{c.where}: {name} must be two pairs such as [[3, 3], [3, 3]], got {shown(value)}")
    return [(c.whole(name, v[0]), c.whole(name, v[1])) for v in value]


@tower("gemma4_text", "gemma4")
def gemma4(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Gemma 4: either tower may be missing or null (its clipping bounds are buffers, not parameters)."""
    hidden = text.size("hidden_size")
    weights: tuple[Weight, ...] = ()
    if "vision_config" in outer.raw:
        c = part(outer, "vision_config", "gemma4_vision")
        d, dim, inner = c.size("hidden_size"), c.size("head_dim"), c.size("intermediate_size")
        heads, groups = c.size("num_attention_heads"), c.size("num_key_value_heads")
        weights += tensors(
            "vision_tower",
            patch=(d, 3 * c.size("patch_size") ** 2),
            positions=(2 * c.size("position_embedding_size"), d),
        )
        weights += tensors(
            "vision_tower.layers",
            c.size("num_hidden_layers"),
            qkv=((heads + 2 * groups) * dim, d),
            o=(d, heads * dim),
            qk_norm=(2, dim),
            norms=(4, d),
            mlp=(3 * inner, d),
        )
        weights += tensors("multi_modal_projector.vision", projection=(hidden, d))
    if "audio_config" in outer.raw:
        c = part(outer, "audio_config", "gemma4_audio")
        d, heads, out = c.size("hidden_size"), c.size("num_attention_heads"), c.size("output_proj_dims")
        first, second = pair(c, "subsampling_conv_channels")
        weights += tensors(
            "audio_tower",
            conv_0=(first, 9 + 1),
            conv_1=(second, 9 * first + 1),
            input=(d, first // 4 * second),
            output=(out, d + 1),
        )
        weights += conformer(d, d // heads, c.size("conv_kernel_size"), c.size("num_hidden_layers"))
        weights += tensors("multi_modal_projector.audio", projection=(hidden, out))
    return weights
