"""Weight formats: one table of bits, widths and names, from which everything else is derived."""

from dataclasses import asdict, replace

import pytest

from kvplan import catalog, memory
from kvplan.architectures.formats import FORMATS, format_named, split_format
from kvplan.kv.replica import weights

NAMES = {name: form for form in FORMATS.values() for name in (form.name, *form.aliases)}


def test_every_name_stands_for_one_format() -> None:
    assert len(NAMES) == sum(1 + len(form.aliases) for form in FORMATS.values())
    for name, form in NAMES.items():
        assert name == name.lower()
        assert format_named(name) is format_named(name.upper().replace("-", "_")) is form
    assert format_named("fp9") is format_named("") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_model_name_is_split_from_every_name_of_a_format(name: str) -> None:
    assert split_format(f"Qwen3-32B-{name.upper()}") == ("Qwen3-32B", NAMES[name])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Qwen3-32B-GPTQ-Int4", ("Qwen3-32B", "int4")),
        ("qwen3-32b-fp8-dynamic", ("qwen3-32b", "fp8")),
        ("Qwen3_32B_w4a16_mxfp4", ("Qwen3_32B", "mxfp4")),
        ("qwen3-32b-w4a16-mxfp4", ("qwen3-32b", "mxfp4")),
        ("qwen3-32b-awq-quantized.v2", ("qwen3-32b", "int4")),
        ("qwen3-32b", None),
        ("fp8", None),
    ],
)
def test_endings_of_model_names(name: str, parts: tuple[str, str] | None) -> None:
    split = split_format(name)
    assert (split and (split[0], split[1].name)) == parts


def test_bits_and_widths() -> None:
    """Scales and zero points: 32 bits per 128 x 128, 16 per 128, 16 + 4 per 128, 8 per 32, 8 per 16."""
    assert {name: (form.bits, form.compute) for name, form in FORMATS.items()} == {
        "fp32": (32, 16), "bf16": (16, 16), "fp16": (16, 16), "fp8": (8 + 32 / 16384, 8), "int8": (8.125, 16),
        "int4": (4.15625, 16), "mxfp4": (4.25, 4), "nvfp4": (4.5, 4),
    }  # fmt: skip


@pytest.mark.parametrize("form", [form for form in FORMATS.values() if form.bits < 16])
def test_a_name_and_an_option_ask_for_the_same_weights(form) -> None:
    plain, named = catalog.model("llama3-8b"), catalog.model(f"llama3-8b-{form.name}")
    assert named.quantization == form.quantization
    assert weights(named).total == weights(plain, form.name).total < weights(plain).total


@pytest.mark.parametrize(
    ("called", "form"), [("awq", "int4"), ("GPTQ", "int4"), ("fp8_e4m3", "fp8"), ("bfloat16", "bf16")]
)
def test_an_option_takes_formats_as_checkpoints_call_them(run, called: str, form: str) -> None:
    asked = [run("memory", "-m", "llama3-8b", "-c", "1k", "--weights", word, "--json").json for word in (called, form)]
    assert asked[0] == asked[1]
    assert memory("llama3-8b", "1k", weights=called).to_dict()["weights"] == asked[1]["weights"]


def test_a_16_bit_ending_names_the_model_itself() -> None:
    named = catalog.model("llama3-8b-bf16")
    assert named.notes == (
        "'llama3-8b-bf16' is read by its name: the shape of llama3-8b, with weights of 16 bits (bfloat16)",
    )
    assert asdict(replace(named, notes=())) == asdict(catalog.model("llama3-8b"))


def test_nvfp4_leaves_attention_alone_beside_experts() -> None:
    """nvidia/MiniMax-M2.5-NVFP4 holds 112,340,238,336 B of 4-bit pairs, all of experts, and attention in full."""
    model = catalog.model("minimax-m2.5")
    held = weights(model, "nvfp4")
    experts = sum(w.parameters for _, w in model.weights() if w.split == "expert")
    attention = sum(w.parameters for name, w in model.weights() if "self_attn" in name and len(w.shape) == 2)
    assert (experts / 2, attention) == (112_340_238_336, pytest.approx(2_730_491_904, rel=1e-3))
    other = model.parameters - experts
    assert held.total == pytest.approx(experts * 4.5 / 8 + other * 2, rel=1e-3)
    dense = catalog.model("qwen3-32b")
    assert weights(dense, "nvfp4").total < 0.36 * weights(dense, "bf16").total
