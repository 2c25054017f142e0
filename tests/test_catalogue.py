"""Every file of models/ reads, and counts as many parameters as the class transformers builds from its config."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvplan.architectures.config import SYNONYMS
from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.kv.model_cache import kv_layout
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

#: the safe loader, in C where PyYAML has it: every worker reads all files
SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FILES = {path.stem: path for path in sorted((Path(__file__).parents[1] / "models").glob("*.yaml"))}

#: model types transformers has no class for
CLASSLESS = {
    "nemotron-nas", "deepseek", "kimi_k3", "kimi_vl", "bailing_moe_v2", "mimo", "plain", "baichuan", "chatglm",
    "qwen", "rwkv6", "rwkv7", "grok-1", "phi3_v", "hunyuan", "bailing_moe", "solar",
    "minicpm", "mimo_v2", "internvl_chat", "jais", "minicpmv", "internlm", "llada", "Dream",
}  # fmt: skip

#: files compared by their language model alone, and why
TEXT_ALONE = {"gemma3n-e4b": "its vision tower needs timm"}
#: files of a type that transformers configures and builds only as a part of another model, or for a later generation
PARTS = {"step-3.5-flash", "ling-2.6-flash"}
#: files whose towers are not counted, which a note says
TOWERLESS = {
    "exaone4.5-33b", "voxtral-mini-3b", "muse-glimmer-30b", "muse-spark-816b", "molmo2-8b", "dots3-note",
    "glm-5.3-flash", "hy4-770b", "inkling-2-mini", "voxtral-small-24b", "qwen2-audio-7b", "qwen3.8-flash-next",
}  # fmt: skip


@cache
def load(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = yaml.load(FILES[name].read_text("utf-8"), SAFE)
    return entry


def read(name: str, config: dict[str, Any]) -> ModelSpec:
    return read_model(
        config,
        name=name,
        place=f"models/{name}.yaml",
        source=Source(kind="config", ref=name, date="2026-11-23"),
        classes=class_defaults(),
    )


def on_meta(config: dict[str, Any]) -> int:
    """Return the parameters of the model transformers builds from a config.json."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", minversion="5.23")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    stated = copy.deepcopy(config)
    stated["model_type"] = SYNONYMS.get(stated["model_type"], stated["model_type"])
    # neither holds parameters; the longrope factors are left out of our files, and a quantised class packs its weights
    stated.pop("rope_scaling", None)
    stated.pop("quantization_config", None)
    if "attn_type_list" in stated:  # MiniMax-Text-01's own spelling, which transformers does not read
        stated["layer_types"] = [
            "full_attention" if softmax else "linear_attention" for softmax in stated.pop("attn_type_list")
        ]
    loaded = CONFIG_MAPPING[stated["model_type"]].from_dict(stated)
    autos = (
        transformers.AutoModelForImageTextToText,
        transformers.AutoModelForSeq2SeqLM,
        transformers.AutoModelForSpeechSeq2Seq,
        transformers.AutoModelForCausalLM,
    )
    auto = next(a for a in autos if type(loaded) in a._model_mapping)
    with torch.device("meta"):
        count = sum(p.numel() for p in auto.from_config(loaded).parameters())
    if loaded.model_type == "longcat_flash":  # see test_transformers: experts that do nothing, in no file
        count -= loaded.num_layers * loaded.zero_expert_num * 2 * loaded.expert_ffn_hidden_size * loaded.hidden_size
    return count


@pytest.mark.parametrize("name", FILES)
def test_file_reads(name: str) -> None:
    entry = load(name)
    optional = {"derived", "longer", "releases", "unseen", "uploads"}
    assert set(entry) - optional == {"name", "title", "aliases", "source", "config"}
    assert entry["name"] == name
    assert all(isinstance(alias, str) for alias in entry["aliases"])
    assert {"kind", "ref", "date"} <= set(entry["source"])
    spec = read(name, entry["config"])
    assert 0 < spec.active_parameters <= spec.parameters
    assert kv_layout(spec, 16).stored(4096) > 0


def test_names_and_aliases_are_unique() -> None:
    files = {name: load(name) for name in FILES}
    said = [
        spelling.lower() for name, raw in files.items() for spelling in (name, *raw["aliases"], *raw.get("derived", ()))
    ]
    assert sorted({s for s in said if said.count(s) > 1}) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [name for name in FILES if load(name)["config"]["model_type"] not in CLASSLESS and name not in PARTS]
)
def test_parameters_equal_the_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda _: None)  # only the first values: they are counted
    config = load(name)["config"]
    if name in TOWERLESS:
        model = read(name, config)
        assert any("weights of its other parts are not counted" in note for note in model.notes)
        assert model.parameters < on_meta(config) < 1.2 * model.parameters
        return
    if name in TEXT_ALONE:
        config = {**config["text_config"], "tie_word_embeddings": True}
    assert read(name, config).parameters == on_meta(config)


def test_classless_types_have_no_class() -> None:
    """A type that transformers learns to read must leave CLASSLESS."""
    pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    assert not any(SYNONYMS.get(model_type, model_type) in CONFIG_MAPPING for model_type in CLASSLESS)
    assert {load(name)["config"]["model_type"] for name in FILES} >= CLASSLESS
