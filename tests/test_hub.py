"""Checkpoints by their name on the hub: from the local cache, or fetched when that is asked; else no connection."""

import json
import os
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

import kvplan
from kvplan import catalog
from kvplan.catalog.checkpoints import hub_files
from kvplan.catalog.checkpoints.makers import maker, maker_file
from kvplan.catalog.checkpoints.models import tensor_bytes
from kvplan.catalog.studies.marks import standing
from kvplan.errors import KvplanError, SpecError, UnknownName
from tests.test_coverage import SAID, gguf

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "models" / "qwen3-8b.yaml").read_text("utf-8"))["config"]
NAME, REVISION = "acme/Widget-9B", "0123456789abcdef0123456789abcdef01234567"
ASK = ("memory", "-m", NAME, "-c", "4k", "--json")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub that the test alone sees, and let no test open a connection."""

    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("a connection was opened")

    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "hub"


def cached(hub: Path, revision: str = REVISION, name: str = NAME, **files: object) -> Path:
    """Write a snapshot as the hub's own client does: files are links to blobs."""
    place = hub / f"models--{name.replace('/', '--')}"
    folder = place / "snapshots" / revision
    folder.mkdir(parents=True)
    (place / "blobs").mkdir(exist_ok=True)
    for n, (file, content) in enumerate({"config": CONFIG, **files}.items()):
        blob = place / "blobs" / f"{revision[:8]}{n}"
        blob.write_text(json.dumps(content), "utf-8")
        (folder / f"{file.replace('__', '.')}.json").symlink_to(blob)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(revision, "utf-8")
    return folder


class FakeHub(ModuleType):
    """A stand-in for huggingface_hub: a checkpoint that has a config and an index, and what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None):
        super().__init__("huggingface_hub")
        self.asked: list[str] = []
        self.error = error
        errors = ModuleType("huggingface_hub.errors")
        errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})  # type: ignore[attr-defined]
        self.errors = errors
        monkeypatch.setitem(sys.modules, "huggingface_hub", self)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)

    def hf_hub_download(self, name: str, file: str, cache_dir: Path) -> str:
        self.asked.append(file)
        if self.error is not None:
            raise self.error
        if file == "hf_quant_config.json":
            raise self.errors.EntryNotFoundError(file)
        if file == "config.json":
            cached(Path(cache_dir), name=name)
        return file


def test_a_cached_checkpoint_is_read_without_a_connection(home: Path, run) -> None:
    cached(home, model__safetensors__index={"metadata": {"total_size": 16_381_470_720}, "weight_map": {}})
    spec = catalog.model(NAME)
    known = catalog.model("qwen3-8b")
    assert (spec.name, spec.parameters, len(spec.layers)) == (NAME, known.parameters, len(known.layers))
    assert spec.source.ref == f"https://huggingface.co/{NAME}/blob/{REVISION}/config.json"
    assert any("16,381,470,720 B" in note for note in spec.notes)
    told = run(*ASK)
    assert told.code == 0 and json.loads(told.out)["model"]["name"] == NAME


def test_where_the_cache_is(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_files.cache() == home
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert hub_files.cache() == tmp_path / "x" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "own"))
    assert hub_files.cache() == tmp_path / "own"
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert hub_files.cache() == Path("~/.cache/huggingface/hub").expanduser()


def test_main_is_the_snapshot_and_without_it_the_newest(home: Path) -> None:
    old = cached(home, "a" * 40)
    new = cached(home, "b" * 40)
    os.utime(old, (1, 1))
    pointer = home / "models--acme--Widget-9B" / "refs" / "main"
    pointer.write_text("a" * 40, "utf-8")
    found = hub_files.snapshot(NAME)
    assert found is not None and found.folder == old
    for broken in ("../../../etc", "c" * 40, ""):
        pointer.write_text(broken, "utf-8")
        found = hub_files.snapshot(NAME)
        assert found is not None and found.folder == new


def test_the_catalogue_comes_first(home: Path) -> None:
    cached(home, name="meta-llama/Llama-3.1-8B", config={**CONFIG, "num_hidden_layers": 2})
    assert catalog.model("meta-llama/Llama-3.1-8B").name == "llama3.1-8b"


@pytest.mark.parametrize("word", ["../x", "a/../b", "acme/..", "./acme", "a/b/c", "acme/Wid get", "acme/\u00e9"])
def test_other_words_are_no_checkpoints(home: Path, word: str) -> None:
    with hub_files.online():
        assert hub_files.snapshot(word) is None


def test_offline_is_the_default_and_loads_no_client(monkeypatch: pytest.MonkeyPatch, run) -> None:
    client = FakeHub(monkeypatch)
    told = run(*ASK)
    assert told.code == 1 and "--online" in told.err and "\n" not in told.err.strip()
    assert client.asked == []
    with pytest.raises(UnknownName):
        catalog.model(NAME)


def test_online_fetches_descriptions_once_and_only_where_asked(monkeypatch: pytest.MonkeyPatch, run) -> None:
    client = FakeHub(monkeypatch)
    told = run(*ASK, "--online")
    assert told.code == 0 and json.loads(told.out)["model"]["name"] == NAME
    assert client.asked == ["config.json", "hf_quant_config.json", "model.safetensors.index.json"]
    assert run(*ASK, "--online").code == 0 and run(*ASK).code == 0, "from the cache"
    assert len(client.asked) == 3
    assert run("memory", "-m", "acme/Other-1B", "-c", "4k").code == 1, "online ends with its command"
    assert len(client.asked) == 3


def test_online_the_header_of_a_single_file_says_its_size(home: Path, monkeypatch: pytest.MonkeyPatch, run) -> None:
    client = FakeHub(monkeypatch)
    tensors = {"a": SimpleNamespace(data_offsets=(0, 600)), "b": SimpleNamespace(data_offsets=(600, 1_400))}
    headers = SimpleNamespace(files_metadata={"model.safetensors": SimpleNamespace(tensors=tensors)})
    client.get_safetensors_metadata = lambda name: headers  # type: ignore[attr-defined]
    assert run(*ASK, "--online").code == 0
    spec = catalog.model(NAME)
    assert spec.file_bytes == 1_400 and "1,400 B of tensors (the header of its file)" in spec.notes[-1]
    assert [path.name for path in home.rglob("kvplan-header.json")] == ["kvplan-header.json"]


@pytest.mark.parametrize("error", [OSError("no route to host\nand more"), ValueError(""), RuntimeError("401: gated.")])
def test_what_goes_wrong_is_one_line(monkeypatch: pytest.MonkeyPatch, run, error: Exception) -> None:
    FakeHub(monkeypatch, error)
    told = run(*ASK, "--online")
    assert told.code == 1 and told.out == ""
    assert f"{NAME}: its config.json cannot be fetched ({type(error).__name__}" in told.err
    assert "\n" not in told.err.strip() and "and more" not in told.err


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, run) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    told = run(*ASK, "--online")
    assert told.code == 1 and "pip install 'kvplan[hub]'" in told.err


@pytest.mark.parametrize(
    "index", [{}, {"metadata": None}, {"metadata": {"total_size": "x"}}, {"metadata": {"total_size": -1}}]
)
def test_an_index_without_a_size_says_nothing(home: Path, index: dict[str, Any]) -> None:
    cached(home, model__safetensors__index=index)
    assert not any("tensors" in note for note in catalog.model(NAME).notes)


def test_a_broken_config_in_the_cache_is_refused(home: Path) -> None:
    folder = cached(home)
    (folder / "config.json").resolve().write_text("{", "utf-8")
    with pytest.raises(SpecError, match=r"config\.json: line 1"):
        catalog.model(NAME)


PARAMS = {"dim": 512, "n_layers": 4, "head_dim": 64, "hidden_dim": 1024, "n_heads": 8, "n_kv_heads": 2}
PARAMS["vocab_size"] = 999


def test_a_checkpoint_without_a_config_is_read_by_what_describes_it(home: Path) -> None:
    """Mistral's own format has params.json and one file of tensors; an upload for llama.cpp has its GGUF alone."""
    folder = home / f"models--{NAME.replace('/', '--')}" / "snapshots" / REVISION
    folder.mkdir(parents=True)
    assert hub_files.snapshot(NAME) is None, "nothing that describes a model"
    (folder / "params.json").write_text(json.dumps(PARAMS), "utf-8")
    (folder / "consolidated.safetensors").write_bytes((10).to_bytes(8, "little") + b"{" + b" " * 9 + bytes(700))
    spec = catalog.model(NAME)
    assert (spec.name, len(spec.layers), spec.file_bytes) == (NAME, 4, 700)
    assert spec.source.ref == f"https://huggingface.co/{NAME}/blob/{REVISION}/params.json"
    (folder / "params.json").unlink()
    header = gguf(SAID, {"token_embd.weight": ((512, 5000), 1)})
    (folder / "widget-00001-of-00002.gguf").write_bytes(header)
    for apart in ("mmproj-widget.gguf", "widget-00002-of-00002.gguf"):
        (folder / apart).write_bytes(b"GGUF")
    spec = catalog.model(NAME)
    assert (spec.name, len(spec.layers)) == (NAME, 2)
    assert spec.source.ref.endswith("/widget-00001-of-00002.gguf")
    (folder / "widget-Q8_0.gguf").write_bytes(header)
    assert hub_files.snapshot(NAME) is None, "which of the two?"
    with pytest.raises(SpecError, match=r"holds 2 GGUF files; give one of them, as in .*widget-00001-of-00002\.gguf"):
        catalog.model(str(folder))


def test_parts_without_an_index_are_added_up_where_all_are_there(tmp_path: Path) -> None:
    for part in (1, 2):
        whole = (4).to_bytes(8, "little") + b"{}  " + bytes(500 * part)
        (tmp_path / f"model-0000{part}-of-00002.safetensors").write_bytes(whole)
        assert tensor_bytes(tmp_path) == (None if part == 1 else 1500)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes((9_999).to_bytes(8, "little") + b"{}")
    assert tensor_bytes(tmp_path) is None, "a header that is longer than its file"


def test_a_folder_counts_by_the_file_that_describes_it(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps(PARAMS), "utf-8")
    first = standing("model", [str(tmp_path)])
    (tmp_path / "params.json").write_text(json.dumps({**PARAMS, "n_layers": 5}), "utf-8")
    assert standing("model", [str(tmp_path)]) != first


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{maker: Someone, group: 32}", "one row each, in lower case"),
        ("{maker: nobody, group: 4}", "group"),
        ("{maker: nobody, cached: [fp9]}", "cached"),
        ("{maker: nobody, keeps: {fp9: [lm_head]}}", "keeps"),
        ("{group: 32}", "missing maker"),
        ("{maker: nobody, leaves: x}", "leaves"),
    ],
)
def test_a_wrong_row_of_makers_is_one_line(row: str, says: str, tmp_path: Path) -> None:
    source = 'source: {kind: quote, ref: "a card", date: 2026-11-30}'
    path = tmp_path / "makers.yaml"
    path.write_text(f"name: mine\ntitle: Mine\n{source}\nrows:\n  - {row}\n", "utf-8")
    with pytest.raises(KvplanError, match=says):
        maker_file(str(path))


def test_makers_whose_conventions_are_known_have_sources() -> None:
    made = maker_file("published")
    assert {"nvidia", "redhatai", "cyankiwi"} <= set(made) and all(one.source for one in made.values())
    assert maker("CyanKiwi/anything").group == 32 and maker("nobody/else").keeps == {}


def test_tags_of_ollamas_library_are_served_in_4_bits_unless_they_say_otherwise() -> None:
    """qwen3:32b is 18.81 GiB as llama.cpp prints it (ollama/ollama#14774)."""
    read = {
        "qwen3:32b": ("qwen3-32b", "q4-k-m"),
        "qwen2.5vl:7b": ("qwen2.5-vl-7b", "q4-k-m"),
        "gemma3:12b-it-qat": ("gemma3-12b", "q4-0"),
        "gpt-oss:20b": ("gpt-oss-20b", "mxfp4"),  # as it was published
        "llama3:8b-instruct-fp16": ("llama3-8b", ""),
        "phi4-mini:3.8b-q8_0": ("phi4-mini", "q8-0"),
        "devstral-2:123b": ("devstral2-123b", "q4-k-m"),
        "deepseek-v3:671b": ("deepseek-v3", "q4-k-m"),
        "deepseek-r1:1.5b": ("qwen2.5-1.5b", "q4-k-m"),
    }
    models = {tag: catalog.model(tag) for tag in read}
    assert {t: (m.name, m.quantization.method if m.quantization else "") for t, m in models.items()} == read
    held = kvplan.memory("qwen3:32b", "1k").to_dict()["weights"]["bytes"] / 2**30
    assert held == pytest.approx(18.81, rel=0.01)
    for tag in ("llama3.1:8b-instruct-q9_0", "llama3.1:8b-instruct-iq9_xs"):  # no width, so not the library's own
        with pytest.raises(SpecError, match="is no width of GGUF whose bits kvplan knows"):
            catalog.model(tag)
    for tag in ("ollama/qwen3:32b", "ollama.com/library/qwen3:32b", "registry.ollama.ai/library/qwen3:32b"):
        assert catalog.model(tag).quantization == models["qwen3:32b"].quantization
    assert catalog.model("qwen3:30b").name == "qwen3-30b-a3b"
    with pytest.raises(UnknownName):  # no model of that name has that size
        catalog.model("deepseek-v3:3b")
    assert "Ollama's library serves Q4_K_M" in models["qwen3:32b"].notes[0]


@pytest.mark.parametrize(
    ("name", "base", "method"),
    [
        ("bartowski/allenai_Llama-3.1-Tulu-3.1-8B-GGUF", "llama3.1-8b", ""),  # a tuner's own release before the size
        ("Locutusque/Llama-3-Hercules-5.0-8B", "llama3-8b", ""),
        ("Casual-Autopsy/L3-Umbral-Mind-RP-v3.0-8B", "llama3-8b", ""),
        ("hugging-quants/Meta-Llama-3.1-405B-BNB-NF4-BF16", "llama3.1-405b", "bnb-4bit"),  # computes in BF16
        ("lfm2.5-thinking:1.2b", "lfm2-1.2b", "q4-k-m"),  # the size after the kind
        ("nous-hermes2:34b", "yi-34b", "q4-k-m"),
        ("llama3.3", "llama3.3-70b", ""),
        ("zephyr:7b", "mistral-7b", "q4-k-m"),
        ("cogito:70b", "llama3.1-70b", "q4-k-m"),
        ("mlx-community/Qwen3-4B-Instruct-2507-4bit-g32", "qwen3-4b", "mlx"),
        ("GSAI-ML/LLaDA-1.5", "llada-8b", ""),
        ("Dream-org/Dream-Coder-v0-Instruct-7B", "dream-7b", ""),
    ],
)
def test_names_say_their_base_and_format(name: str, base: str, method: str) -> None:
    spec = catalog.model(name)
    assert (spec.name, spec.quantization.method if spec.quantization else "") == (base, method)


def test_numbers_before_a_tuners_words_are_another_family() -> None:
    for name in ("someone/Mistral-3-Foo-7B", "someone/Gemma-4-Mini-7B", "someone/Llama-3-Foo-Bar-Baz-Qux-8B"):
        with pytest.raises(UnknownName):
            catalog.model(name)
    with pytest.raises(SpecError, match="the name says weights of several widths"):
        catalog.model("Intel/Qwen3.8-27B-bpw2.8-AutoRound")
    with pytest.raises(SpecError, match="the name says weights of 2 bits, and not how they are packed"):
        catalog.model("OPEA/Qwen2-VL-72B-Instruct-int2-sym-inc")
    with pytest.raises(UnknownName, match="did you mean 'qwen3-0\\.6b' or"):  # names that begin with it come first
        catalog.model("qwen3")


def test_encoders_by_name_keep_no_cache() -> None:
    names = (
        "BAAI/bge-m3", "nomic-embed-text", "google-bert/bert-base-uncased", "intfloat/multilingual-e5-large",
        "allenai/scibert_scivocab_uncased", "answerdotai/ModernBERT-base", "microsoft/deberta-v3-base",
    )  # fmt: skip
    for name in names:
        with pytest.raises(SpecError, match="is an encoder: it reads a text once and keeps no KV cache"):
            catalog.model(name)


@pytest.mark.parametrize(
    ("name", "size"),
    [  # files on the hub and in Ollama's library: models whose embedding is their head keep it in Q6_K
        ("llama3.2:1b", 0.808e9),
        ("llama3.2:3b", 2.02e9),
        ("unsloth/Qwen3-4B-GGUF:Q4_K_M", 2.50e9),
        ("bartowski/gemma-2-27b-it-GGUF:Q4_K_M", 16.65e9),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", 5.70e9),
    ],
)
def test_files_of_known_size(name: str, size: float) -> None:
    assert kvplan.memory(name, "1k").to_dict()["weights"]["bytes"] == pytest.approx(size, rel=0.02)
