"""Every data file: read, named after itself, sourced, with units that make sense."""

from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from kvplan import catalog
from kvplan.catalog.fields import read_source
from kvplan.catalog.files import read_yaml
from kvplan.catalog.hardware.instances import instance_file
from kvplan.catalog.servers.collected import collection_of, collections
from kvplan.catalog.servers.scripted import benchmark_file, benchmarks
from kvplan.catalog.shelves import names
from kvplan.errors import KvplanError, SpecError, UnknownName
from kvplan.specs.recipes import Setting, recipe_of
from kvplan.specs.source import KINDS

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "models").glob("*.yaml"), *(ROOT / "profiles").rglob("*.yaml")])


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_file_is_named_after_itself_sourced_and_has_no_key_twice(path: Path) -> None:
    raw = read_yaml(path.read_text("utf-8"), path.name, typed=False)
    assert raw["name"] == path.stem
    source = read_source(raw["source"], path.name)
    assert source.kind in KINDS and len(source.ref) > 10
    assert date(2022, 1, 1) <= date.fromisoformat(source.date) <= date(2026, 12, 31)


def test_at_least_45_models_and_the_named_gpus() -> None:
    assert len(catalog.names("models")) >= 45
    wanted = (
        "a100-40gb-sxm a100-80gb-sxm h100-sxm h100-pcie h100-nvl h200 b200 gb200 l4 l40s a10g rtx-4090 t4 mi300x "
        "mi325x rtx-3060 rtx-4060-ti-16gb rtx-5060-ti-16gb rx-7900-xtx rtx-2080-ti rtx-4070 rtx-4070-ti "
        "rtx-4070-ti-super rtx-4080-super rtx-5070 titan-rtx p40 rtx-a4000 rtx-a4500 rtx-4500-ada rtx-5000-ada "
        "rtx-pro-4000 rtx-pro-6000-max-q r9700 rx-9070-xt gaudi2 ryzen-ai-max-395 jetson-agx-orin"
    )
    assert set(wanted.split()) <= set(catalog.names("gpus"))


@pytest.mark.parametrize(
    ("word", "name", "memory", "bandwidth"),
    [  # as their makers sell them
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx-4070-ti-super", 16e9, 672e9),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-max-q", 96e9, 1792e9),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000", 96e9, 1792e9),
        ("NVIDIA RTX A4500", "rtx-a4500", 20e9, 640e9),
        ("Tesla P40", "p40", 24e9, 347.1e9),
        ("strix-halo", "ryzen-ai-max-395", 128e9, 256e9),
        ("orin", "jetson-agx-orin", 64e9, 204.8e9),
    ],
)
def test_gpus_under_the_names_that_drivers_and_people_use(
    word: str, name: str, memory: float, bandwidth: float
) -> None:
    gpu = catalog.gpu(word)
    assert (gpu.name, gpu.memory, gpu.bandwidth) == (name, memory, bandwidth)


@pytest.mark.parametrize("kind", ["models", "gpus"])
def test_aliases_are_unique_and_lead_home(kind: str) -> None:
    seen: dict[str, str] = {}
    for name in catalog.names(kind):
        raw = yaml.safe_load(catalog.shelf(kind).joinpath(f"{name}.yaml").read_text("utf-8"))
        for alias in [name, *raw.get("aliases", []), *raw.get("derived", [])]:
            key = str(alias).lower()
            assert seen.setdefault(key, name) == name, f"{alias} stands in {seen[key]} and {name}"
            assert catalog.resolve(kind, str(alias), kind) == name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("meta-llama/Meta-Llama-3-70B", "llama3-70b"),
        ("Meta-Llama-3-70B-Instruct", "llama3-70b"),
        ("meta-llama/Llama-3.1-70B", "llama3.1-70b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("Qwen/Qwen3.5-397B-A17B", "qwen3.5-397b"),
        ("MiniMaxAI/MiniMax-M2.5", "minimax-m2.5"),
        ("moonshotai/Kimi-K2.5", "kimi-k2.5"),
        ("EleutherAI/gpt-j-6b", "gptj-6b"),
        ("huggyllama/llama-65b", "llama-65b"),
        ("lmsys/vicuna-13b-v1.5", "llama2-13b"),
        ("tiiuae/falcon-180B-chat", "falcon-180b"),
        ("CohereForAI/c4ai-command-r-plus", "command-r-plus-104b"),
    ],
)
def test_hub_ids_resolve(word: str, name: str) -> None:
    assert catalog.model(word).name == name


def test_a_name_may_end_in_a_weight_format() -> None:
    fp4 = catalog.model("nvidia/Qwen3-32B-NVFP4")
    assert fp4.name == "qwen3-32b" and fp4.quantization is not None and fp4.quantization.bits == 4.5


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("h200_sxm", "h200"), ("H200-SXM-141GB", "h200"), ("H100-SXM-80GB", "h100-sxm"), ("B200-SXM-180GB", "b200"),
        ("A100-SXM-80GB", "a100-80gb-sxm"), ("L40S", "l40s"), ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H200", "h200"), ("gb200", "gb200"), ("b300_sxm", "b300"),
        ("gh200", "gh200-96gb"), ("gh200_144gb", "gh200-144gb"), ("NVIDIA GH200 144G HBM3e", "gh200-144gb"),
        ("NVIDIA H200 NVL", "h200-nvl"), ("A6000", "rtx-a6000"), ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
    ],
)  # fmt: skip
def test_measurement_and_nvml_spellings_resolve(word: str, name: str) -> None:
    assert catalog.gpu(word).name == name


@pytest.mark.parametrize("name", catalog.names("gpus"))
def test_gpu_figures_are_dense_and_plausible(name: str) -> None:
    gpu = catalog.gpu(name)
    assert 0.85 < gpu.visible_memory / gpu.memory < 1.08  # sold in 10^9, built in 2^30
    assert 1e11 < gpu.bandwidth < 1e13 and 1e13 < gpu.rate(16) < 3e15  # an A2 has 18 TFLOP/s
    assert gpu.fp8 is None or gpu.fp8 <= 2.1 * gpu.rate(16)
    assert set(gpu.sources) >= {"memory", "visible_memory", "bandwidth", "fp16", "link", "power"}


def own_gpu(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(("memory: 24 GB", "bandwidth: 500 GB/s", *lines)), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("line", "rate", "why"),
    [
        ("fp16: 80 TFLOP/s", 80e12, None),
        ("bf16: 80 TFLOP/s", 80e12, "fp16 as bf16"),
        ("fp8: 200 TFLOP/s", 100e12, "fp16 half of fp8"),
        ("int8: 200 TFLOP/s", 100e12, "fp16 half of int8"),
        ("fp4: 200 TFLOP/s", 50e12, "fp16 a quarter of fp4"),
        ("fp32: 20 TFLOP/s", 20e12, "fp16 as fp32"),
    ],
)
def test_a_gpu_of_ones_own_needs_memory_bandwidth_and_one_rate(
    tmp_path: Path, line: str, rate: float, why: str
) -> None:
    gpu = catalog.gpu(own_gpu(tmp_path, line))
    assert (gpu.name, gpu.memory, gpu.visible_memory, gpu.rate(16), gpu.link) == ("mine", 24e9, 24e9, rate, 32e9)
    assert gpu.sources["memory"].ref.endswith("mine.yaml") and gpu.sources["link"].kind == "assumption"
    assumed = ("visible_memory as sold", why, "link PCIe 4.0 x16, 32 GB/s one way", "link_kind PCIe 4.0 x16")
    assert gpu.assumed == tuple(said for said in assumed if said)


def test_a_report_says_what_was_assumed_of_a_gpu(run, tmp_path: Path) -> None:
    word = own_gpu(tmp_path, "fp8: 200 TFLOP/s")
    told = run("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", word, "-t", "fp8")
    assert told.code == 0 and "assumed: visible_memory as sold; fp16 half of fp8; link PCIe 4.0" in " ".join(
        told.out.split()
    )
    assert catalog.gpu("h200").assumed == ()


def test_a_gpu_whose_file_gives_no_16_bit_rate_is_not_said_to_lack_bf16(run, tmp_path: Path) -> None:
    asked = ("load", "-m", "llama3.1-8b", "--isl", "1000", "--osl", "100", "--concurrency", "1", "-g")
    for line in ("fp8: 200 TFLOP/s", "int8: 200 TFLOP/s"):
        told = run(*asked, own_gpu(tmp_path, line))
        assert told.code == 0 and "has no bf16" not in told.out and "fp16 half of" in " ".join(told.out.split())
    assert "has no bf16" in " ".join(run(*asked, own_gpu(tmp_path, "fp16: 100 TFLOP/s")).out.split())


@pytest.mark.parametrize(
    ("lines", "missing"), [((), "a rate"), (("memory: 0 GB",), "stands twice"), (("link: 1 GB/s",), "a rate")]
)
def test_a_gpu_without_a_rate_is_refused(tmp_path: Path, lines: tuple[str, ...], missing: str) -> None:
    with pytest.raises(SpecError, match=missing):
        catalog.gpu(own_gpu(tmp_path, *lines))


@pytest.mark.parametrize(
    ("word", "visible", "bandwidth"),
    [
        ("rtx-3090", 23.58, 936e9), ("gb10", 121.69, 273e9), ("rtx-3080", 9.78, 760e9),
        ("NVIDIA GeForce RTX 5080", 15.48, 960e9),
        ("rtx_5070_ti", 15.48, 896e9), ("L20", 44.4, 864e9), ("h20-3e", 139.8, 4.8e12), ("A16", 14.75, 200e9),
        ("A2", 14.75, 200e9), ("Quadro RTX 8000", 47.46, 672e9), ("rtx-pro-5000", 47.49, 1344e9),
        ("rtx-pro-4500", 31.66, 896e9), ("MI250", 63.98, 1.6e12), ("mi250x", 63.98, 1.6e12), ("mi210", 63.98, 1.6e12),
        ("gaudi3", 119.21, 3.67e12), ("jetson-thor", 121.69, 273e9), ("ascend_910b2", 64, 1.6e12),
        ("ascend_910c", 128, 3.2e12),
    ],
)  # fmt: skip
def test_gpus_people_have(word: str, visible: float, bandwidth: float) -> None:
    gpu = catalog.gpu(word)
    assert gpu.visible_memory / 2**30 == pytest.approx(visible, abs=0.01) and gpu.bandwidth == bandwidth


def test_prices_name_gpus_and_their_ranges_do_not_overlap() -> None:
    spans: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    for p in catalog.prices():
        assert p.gpu in catalog.names("gpus") and 0 < p.price * 3600 < 100
        assert date.fromisoformat(p.start) and (p.end is None or p.start < p.end)
        spans.setdefault((p.provider, p.gpu, p.term, p.note), []).append((p.start, p.end or "9999"))
    for found in spans.values():
        found.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(found))


def test_a_past_price_and_no_price() -> None:
    offers = catalog.offers("h100-sxm", "2026-11-23")
    assert len(offers) > 2 and [p.price for p in offers] == sorted(p.price for p in offers)
    assert catalog.offers("h100-sxm", "2001-01-01") == ()


def test_no_data_file_names_a_machine_or_a_workplace() -> None:
    for path in FILES:
        text = path.read_text("utf-8")
        assert not any(place in text for place in ("/work/", "/tmp/", "/root/")), path


def test_catalogue_and_files_mean_the_same(tmp_path: Path) -> None:
    """A name, its YAML by path, and its config.json by file and folder give one model."""
    import json

    source = ROOT / "models" / "qwen3-30b-a3b.yaml"
    config = yaml.safe_load(source.read_text("utf-8"))["config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = [catalog.model(w) for w in ("qwen3-30b-a3b", str(source), str(tmp_path / "config.json"), str(tmp_path))]
    assert len({m.parameters for m in found}) == 1 and len({m.layers for m in found}) == 1


def test_instances_of_clouds_are_their_gpus_and_other_accelerators_say_what_is_missing() -> None:
    named = {
        "p5.48xlarge": "h100-sxm", "p5en.48xlarge": "h200", "p4de.24xlarge": "a100-80gb-sxm", "g6e.12xlarge": "l40s",
        "g5.xlarge": "a10g", "p6-b200.48xlarge": "b200", "a3-highgpu-8g": "h100-sxm", "a3-ultragpu-8g": "h200",
        "g2-standard-12": "l4", "Standard_ND96isr_H100_v5": "h100-sxm", "ND_H100_v5": "h100-sxm",
        "Standard_NC24ads_A100_v4": "a100-80gb-pcie", "ND96asr_v4": "a100-40gb-sxm", "NC40ads_H100_v5": "h100-nvl",
        "H100-80G": "h100-sxm", "Intel Arc Pro B60": "arc-pro-b60", "NVIDIA H100 80GB HBM3": "h100-sxm",
    }  # fmt: skip
    assert {word: catalog.gpu(word).name for word in named} == named
    for word in ("TPU v5e", "v5p", "Trainium2", "trn2.48xlarge", "inf2.48xlarge", "Apple M4 Max", "M2 Ultra"):
        with pytest.raises(SpecError, match="give a file with its memory, bandwidth and one rate"):
            catalog.gpu(word)
    with pytest.raises(SpecError, match="'8xH100' is 8 GPUs in one name; give gpu=h100-sxm"):
        catalog.gpu("8xH100")
    with pytest.raises(UnknownName):  # a memory that no such card has
        catalog.gpu("H100 48GB")


def test_collections_say_which_rows_find_their_prompts_again() -> None:
    accel, iog, own = collections()
    assert collection_of({"source": "FreedomIntelligence/AccelMark@5797fc4"}) is accel and accel.in_process
    assert collection_of({"note": "sharegpt; 200 prompts only"}) is iog and not iog.in_process and iog.prompts == 200
    assert collection_of({"source": "elsewhere", "note": None}) is None
    assert accel.finds("suite_A", 1.0, holds=False) and not accel.finds("suite_D", 1.0, holds=True)
    assert [iog.finds("", rate, holds) for rate, holds in ((16.0, True), (32.0, True), (16.0, False))] == [
        True, False, False,
    ]  # fmt: skip
    assert [one.own_runs for one in (accel, iog, own)] == [False, False, True]


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"date": "", "sweep": "Qwen_Qwen3-32B"}, True),
        ({"date": None, "sweep": "Qwen_Qwen3-32B"}, True),
        ({"date": " ", "sweep": "Qwen_Qwen3-32B"}, True),
        ({"date": "2025-11-02", "sweep": "Qwen_Qwen3-32B"}, False),
        ({"sweep": "Qwen_Qwen3-32B"}, False),  # a file without days says nothing by that
        ({"date": "", "sweep": "20251102"}, False),
        ({"date": ""}, False),
    ],
)
def test_runs_of_those_who_collected_rows_have_no_day_and_are_called_by_a_model(
    values: dict[str, object], theirs: bool
) -> None:
    assert collections()[-1].has(values) is theirs


def test_recipes_of_published_scripts_are_of_gpus_and_engines_of_the_shelf() -> None:
    (made,) = benchmarks()
    gpus = [catalog.gpu(name) for name in names("gpus")]
    assert {word for one in made.recipes for word in one.architectures} <= {one.architecture for one in gpus}
    assert (made.collection, made.unnamed, made.begun, made.warmed) == ("InferenceX", True, "2025-08-12", "2026-01-21")
    held = Setting(
        engine="trtllm", gpu="b200", architecture="blackwell", model_type="deepseek_v3", bits=8.0, tensor=8, ranks=1,
        lengths=(1024.0, 1024.0), concurrency=64.0, day="2026-02-05",
    )  # fmt: skip
    recipe = recipe_of(held, made.recipes)
    assert recipe is not None and (recipe.hold, recipe.scripts) == (40.0, "dsr1_fp8_b200_trt.sh")
    assert recipe.tokens(1024.0, 64.0) == 8192 and recipe.tokens(8192.0, 64.0) == 8192 + 64 + 96
    assert recipe_of(held, ()) is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{engine: vllm}", "missing scripts"),
        ("{scripts: a.sh}", "missing engine"),
        ("{scripts: a.sh, engine: vlm}", r"rows\[0\]: engine: must be one of"),
        ("{scripts: a.sh, engine: vllm, gpus: [b2000]}", "gpus: must be one of"),
        ("{scripts: a.sh, engine: vllm, gpus: b200}", "gpus: expected a list"),
        ("{scripts: a.sh, engine: vllm, many: 0}", "many: must be from 1 to 100,000"),
        ("{scripts: a.sh, engine: vllm, tensor: 1.5}", "tensor: must be a whole number from 1 to 1,000"),
        ("{scripts: a.sh, engine: vllm, formats: [5]}", "formats: expected two numbers"),
        ("{scripts: a.sh, engine: vllm, formats: [8, 5]}", "formats: expected a width above the first"),
        ("{scripts: a.sh, engine: vllm, lengths: 1024}", "lengths: expected a list"),
        ("{scripts: a.sh, engine: vllm, since: 2026-02, until: 2026-01-01}", "since: expected a date"),
        ("{scripts: a.sh, engine: vllm, since: 2026-02-01, until: 2026-02-01}", "until: expected a day after"),
        ("{scripts: a.sh, engine: vllm, decoding: perhaps}", "decoding: must be yes or no"),
        ("{scripts: a.sh, engine: vllm, bugdet: 8192}", "bugdet"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(row: str, says: str, tmp_path: Path) -> None:
    source = 'source: {kind: code, ref: "a script", date: 2026-11-30}\ncollection: Mine\nbegun: 2026-01-01\n'
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ntitle: Mine\n{source}warmed: 2026-01-01\nrows:\n  - {row}\n", "utf-8")
    with pytest.raises(KvplanError, match=says) as refused:
        benchmark_file(str(path))
    assert "\n" not in str(refused.value) and "mine.yaml" in str(refused.value)


def test_benchmarks_of_ones_own_add_the_margin_to_those_that_count_requests(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        'name: mine\nsource: {kind: code, ref: "a script", date: 2026-11-30}\ncollection: Mine\nbegun: 2026-01-01\n'
        "warmed: 2026-01-01\nmargin: 10\nrows:\n  - {scripts: a.sh, engine: vllm, prompts: 1, decoding: yes}\n"
        "  - {scripts: a.sh, engine: vllm, prompts: 2, decoding: no}\n",
        "utf-8",
    )
    made = benchmark_file(str(path))
    assert [one.tokens(100.0, 4.0) for one in made.recipes] == [114.0, 200.0] and not made.unnamed


def test_the_share_beside_a_tower_falls_with_its_size() -> None:
    """ViT-L 0.95; twice its layers a tenth less of that, and never under 0.8 or over 1.05 of it."""
    cut = catalog.engine("sglang").vision
    assert cut is not None
    shares = [cut.factor(24, 1024), cut.factor(48, 1024), cut.factor(240, 1024), cut.factor(1, 64)]
    assert shares == pytest.approx([0.95, 0.95 * 0.9, 0.95 * 0.8, 0.95 * 1.05])
    assert catalog.engine("vllm").vision is None


def test_instances_hold_gpus_of_the_shelf_and_sizes_that_no_cloud_has_are_refused() -> None:
    rows = [one for name in names("instances") for one in instance_file(name)]
    assert {one.gpu for one in rows} <= set(names("gpus")) and len({one.name.lower() for one in rows}) == len(rows)
    assert {one.name: one.count for one in rows if one.name.startswith("p5")} == {
        "p5.4xlarge": 1, "p5.48xlarge": 8, "p5e.48xlarge": 8, "p5en.48xlarge": 8,
    }  # fmt: skip
    for word, gpu in (
        ("ml.g5.2xlarge", "a10g"), ("BM.GPU.MI300X.8", "mi300x"), ("gpu_8x_h100_sxm5", "h100-sxm"),
        ("gr6.8xlarge", "l4"),
        ("a3-edgegpu-8g", "h100-sxm"), ("Standard_ND128isr_NDR_GB200_v6", "gb200"), ("a4x-maxgpu-4g-metal", "gb300"),
    ):  # fmt: skip
        assert catalog.gpu(word).name == gpu, word
    for word, nearest in (
        ("p5.24xlarge", "p5.4xlarge, with 1 GPU;"), ("p4d.48xlarge", "p4d.24xlarge, with 8 GPUs;"),
        ("g7e.xlarge", "g7e.2xlarge"), ("g2-standard-10", "g2-standard-8, with 1 GPU"),
        ("a2-highgpu-3g", "a2-highgpu-2g"),
        ("Standard_NC30ads_H100_v5", "NC40ads_H100_v5, with 1 GPU"), ("BM.GPU.H100.4", "BM.GPU.H100.8"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=f"knows no such size of that instance; nearest: {nearest}"):
            catalog.gpu(word)
