"""What a model can be asked at all: contexts beyond its own, and input that is not text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import kvplan
from kvplan import catalog
from kvplan.api.demands import demand_of
from kvplan.errors import SpecError
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, weights
from kvplan.perf.encoder import encoding, with_images
from kvplan.perf.operators import forward
from kvplan.planning.site import Limits
from kvplan.planning.suitability import beyond, read_by
from kvplan.specs.model import AUDIO, IMAGE, TEXT, VIDEO, ModelSpec, Vision
from kvplan.specs.workload import Part, Workload

MIB = 2**20
#: what only does sums, and what plans servers, each asked for more than Llama 3's 8,192 tokens
SUMS = {
    "estimate": lambda: kvplan.estimate("llama3-8b", "16k", gpus="h100", techniques="fp8"),
    "memory": lambda: kvplan.memory("llama3-8b", "16k"),
    "memory --max-model-len": lambda: kvplan.memory("llama3-8b", "4k", gpu="h100", max_model_len="16k"),
}
QUESTIONS = {
    "load": lambda **how: kvplan.load("llama3-8b", "h100", 16000, 384, concurrency=1, **how),
    "recommend": lambda **how: kvplan.recommend("doc-qa", "llama3-8b", gpus="h100", techniques="fp8", **how),
}


# -- contexts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_context_beyond_the_models_is_refused_unless_it_is_allowed(question: str) -> None:
    with pytest.raises(SpecError, match=r"supports 8,192 tokens, not [\d,]+; write allow_long_context=True") as refusal:
        QUESTIONS[question]()
    assert "\n" not in str(refusal.value) and "llama3.1-8b, of the same shape" in str(refusal.value)
    answer = QUESTIONS[question](allow_long_context=True)
    assert any("takes RoPE scaling (YaRN) by a factor of" in line for line in answer.warnings)


@pytest.mark.parametrize("question", SUMS)
def test_sums_warn_of_a_context_beyond_the_models(question: str) -> None:
    answer = SUMS[question]()
    assert any("supports 8,192 tokens, not 16,384: the longer context takes RoPE" in line for line in answer.warnings)


def test_a_fleet_refuses_it_too(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("gpus: {h100: 8}\nworkloads: [{workload: doc-qa, model: llama3-8b, queries_per_day: 100}]\n")
    with pytest.raises(SpecError, match="doc-qa: Llama 3 8B supports 8,192 tokens, not"):
        kvplan.fleet(str(file), techniques="baseline")
    assert kvplan.fleet(str(file), techniques="baseline", allow_long_context=True) is not None


def test_within_its_context_nothing_is_said() -> None:
    assert kvplan.memory("llama3-8b", 8192).warnings == ()
    assert beyond(catalog.model("llama3-8b"), 8193) == "RoPE scaling (YaRN) by a factor of 1.01"
    assert beyond(catalog.model("llama3-8b"), 16384) == "RoPE scaling (YaRN) by a factor of 2"
    assert beyond(catalog.model("gpt2"), 2048) == "training at that length", "learned positions"


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        (None, 32768),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "yarn", "factor": 4.0}, 131072),
        ({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8192}, 32768),  # stated already
        ({"rope_type": "default"}, 32768),
        ({"type": "yarn", "factor": "4"}, 32768),
    ],
)
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_yarn_in_the_config_counts(tmp_path: Path, field: str, scaling: dict | None, longest: int) -> None:
    """As Qwen2.5's model card tells users to write: 32,768 tokens times a factor of 4."""
    raw = {**catalog.model("qwen2.5-7b").config, "max_position_embeddings": 32768, "rope_scaling": None}
    (tmp_path / "config.json").write_text(json.dumps({**raw, field: scaling}))
    assert catalog.model(str(tmp_path)).max_context == longest


# -- images ---------------------------------------------------------------------------------------


def asked(workload: str, model: str) -> tuple[ModelSpec, Workload]:
    spec = catalog.model(model)
    return spec, read_by(spec, catalog.workload(workload), catalog.all_models)


def test_a_text_only_model_is_refused_and_others_are_named() -> None:
    with pytest.raises(SpecError) as refusal:
        kvplan.recommend("video-qa", "llama3.1-8b", gpus="h100")
    text = str(refusal.value)
    assert text.startswith("model: Llama 3.1 8B does not read the video of video-qa; models that do: ")
    named = text.partition("models that do: ")[2].split(", ")
    assert len(named) == 4 and all(IMAGE in catalog.model(name).modalities for name in named)


def test_a_fleet_refuses_it_as_well(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("gpus: {h100: 8}\nworkloads: [{workload: video-qa, model: llama3.1-8b, queries_per_day: 100}]\n")
    with pytest.raises(SpecError, match="does not read the video of video-qa"):
        kvplan.fleet(str(file))


def test_what_models_read() -> None:
    for name, reads in {
        "llama3.1-8b": (TEXT,), "gemma3-1b": (TEXT,), "gemma3-27b": (TEXT, IMAGE), "gemma3n-e4b": (TEXT, IMAGE, AUDIO),
        "qwen2.5-vl-7b": (TEXT, IMAGE), "llama3.2-11b-vision": (TEXT, IMAGE),
    }.items():  # fmt: skip
        assert catalog.model(name).modalities == reads


@pytest.mark.parametrize(
    ("model", "tokens", "patches"),
    [
        ("gemma3-27b", 256, 64 * 64),  # any image is resized to 896 pixels: 64 x 64 patches, 256 tokens
        ("llama3.2-11b-vision", 4 * 1601, 4 * 40 * 40),  # 1,280 x 720 takes four tiles of 560
        ("qwen2.5-vl-7b", 46 * 26, 4 * 46 * 26),  # 28 pixels a token: 45.7 x 25.7
        ("qwen3-vl-8b", 40 * 22, 4 * 40 * 22),  # 32 pixels a token
        ("llava-1.5-7b", 24 * 24, 24 * 24),  # one square of 336 pixels: 576 tokens, as its paper says
        ("granite-vision-2b", 5 * 27 * 27, 5 * 27 * 27),  # four tiles of 384 at most, and the whole image
        ("llama4-scout", (4 * 3 + 1) * 144, (4 * 3 + 1) * 576),  # tiles of 336, and the whole image
    ],
)
def test_tokens_and_patches_of_an_image_by_model(model: str, tokens: int, patches: int) -> None:
    vision = catalog.model(model).vision
    assert vision is not None
    assert (vision.tokens(1280, 720), vision.patches(1280, 720)) == (tokens, patches)


def test_images_of_a_told_size_make_each_models_own_tokens() -> None:
    """Ten images of 1,280 x 720: 256 tokens each for Gemma 3, 1,196 for Qwen2.5-VL; two frames of a video share one."""
    plain = catalog.workload("video-qa")
    part = next(p for p in plain.parts if p.visual)
    images = replace(part, modality=IMAGE, size=(1280, 720), factors=(replace(part.factors[0], value=10, of="images"),))
    assert images.read_by(catalog.model("gemma3-27b")).tokens == 10 * 256
    assert images.read_by(catalog.model("qwen2.5-vl-7b")).tokens == 10 * 1196
    assert replace(images, modality=VIDEO).read_by(catalog.model("qwen2.5-vl-7b")).tokens == 10 * 1196 / 2
    others = tuple(p for p in plain.parts if not p.visual)
    whole = replace(plain, parts=(*others, replace(part, size=(1280, 720))))
    read = whole.read_by(catalog.model("qwen2.5-vl-7b"))
    assert read.input.mean == pytest.approx(sum(p.tokens for p in others) + 120 * 1196 / 2, rel=1e-6)


def test_cross_attention_caches_the_workloads_own_visual_tokens() -> None:
    """60 s x 2 frames x 256 tokens x 8 layers x 8 heads x (128 + 128) x 2 B = 960 MiB, not 200 of four tiles."""
    spec, video = asked("video-qa", "llama3.2-11b-vision")
    demand = demand_of(spec, video, Limits())
    assert demand.base.part("cross").stored(demand.prompt) == 960 * MIB
    assert demand.prompt == 240, "the decoder reads the text alone"
    spec, chat = asked("chat", "llama3.2-11b-vision")
    assert demand_of(spec, chat, Limits()).base.part("cross").stored(1000) == 0


def test_flops_of_encoding_an_image() -> None:
    """Gemma 3's SigLIP (27 layers, 1,152 wide, MLP of 4,304): 4,096 patches through 411 M weights, and attention."""
    spec = catalog.model("gemma3-27b")
    part = Part(name="image", factors=(), modality=IMAGE, size=(896, 896))
    layer = 4 * 1152 * 1153 + 4304 * 1153 + 1152 * 4305
    matrices = 27 * layer + 1152 * (3 * 14 * 14 + 1)
    attention = 4 * 27 * 1152 * 4096**2
    projector = 1152 * spec.hidden + 1152
    flops = 2 * matrices * 4096 + attention + 2 * projector * part_tokens(spec, part)
    assert encoding(spec, part) == pytest.approx(flops, rel=1e-9)


def part_tokens(spec: ModelSpec, part: Part) -> float:
    return part.tokens / part.images if spec.vision else 0.0


def test_a_prompt_waits_for_its_images() -> None:
    """The encoder is an operator of the prefill, in proportion to the prompt; a cached prefix brings none of it."""
    spec, video = asked("video-qa", "qwen2.5-vl-7b")
    base = with_images(kv_layout(spec, 16.0), spec, video)
    assert base.encoder_flops == sum(encoding(spec, p) for p in video.visual) > 1e14

    def encoder(prefill: float, cached: int = 0, tensor: int = 1) -> float:
        step = forward(
            spec, base, weights(spec), Parallel(tensor=tensor), decode=0.0, length=31000, prefill=prefill, prompt=30000,
            cached=cached,
        )  # fmt: skip
        return sum(o.flops for o in step if o.name == "vision encoder")

    assert encoder(30000) == pytest.approx(base.encoder_flops)
    assert encoder(7500, tensor=2) == pytest.approx(base.encoder_flops / 8)
    assert encoder(10000, cached=20000) == pytest.approx(base.encoder_flops / 3)
    assert not any(o.name == "vision encoder" for o in forward(
        spec, base, weights(spec), Parallel(), decode=1.0, length=31000))  # fmt: skip


def test_images_beside_the_prompt_are_encoded_whatever_is_cached() -> None:
    spec, video = asked("video-qa", "llama3.2-11b-vision")
    base = with_images(kv_layout(spec, 16.0), spec, video)
    step = forward(spec, base, weights(spec), Parallel(), decode=0.0, length=400, prefill=40.0, prompt=240, cached=200)
    assert sum(o.flops for o in step if o.name == "vision encoder") == pytest.approx(base.encoder_flops)


def test_a_tile_is_cut_no_finer_than_the_limit() -> None:
    vision = Vision(patch=14, side=448, merge=2, tiles=12, overview=True)
    assert [vision.grids(*size) for size in ((448, 448), (449, 448), (10_000, 10_000))] == [1, 3, 13]
    assert Vision(patch=16, merge=3, fixed=280).patches(4000, 100) == 280 * 9
