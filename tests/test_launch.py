"""The command that starts a plan: only options that the engine's release knows, with what the plan counts on."""

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import kvplan
from kvplan import catalog
from kvplan.api.sites import site as made_site
from kvplan.catalog.servers.launching import launch_options
from kvplan.errors import SpecError, UnknownName
from kvplan.kv import spelling
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel
from kvplan.planning.launch import HEAD, MARGIN, checkpoint, command, launch, longest, needs
from kvplan.report.blocks import Code, Page
from kvplan.report.formats import Report, Screen, render
from kvplan.report.launch import folded

ON = "2026-11-24"
ENGINES = ("vllm", "sglang", "trtllm")


@pytest.fixture(scope="module")
def answer():
    return kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="baseline", weights="bf16", on=ON)


def started(answer, engine: str, model: str = "", **changes: Any):
    """Return how a plan is started under an engine, parts of the plan changed."""
    demand = replace(answer.demand, engine=catalog.engine(engine))
    demand = replace(demand, model=catalog.model(model)) if model else demand
    found = launch(demand.engine, needs(demand, replace(answer.plan, **changes), answer.site))
    assert found is not None
    return found


def after(argv: tuple[str, ...], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_vllm_is_told_what_the_plan_counts_on(answer) -> None:
    found = started(answer, "vllm", form="fp8", technique="fp8", parallel=Parallel(tensor=2), cached_share=0.0)
    assert found.argv[:3] == ("vllm", "serve", checkpoint(answer.demand.model))
    assert after(found.argv, "--tensor-parallel-size") == "2" and "--data-parallel-size" not in found.argv
    assert after(found.argv, "--kv-cache-dtype") == after(found.argv, "--quantization") == "fp8"
    assert after(found.argv, "--gpu-memory-utilization") == f"{answer.demand.engine.utilization:g}"
    assert (after(found.argv, "--max-num-seqs"), after(found.argv, "--max-num-batched-tokens")) == ("1024", "8192")
    assert "--no-enable-prefix-caching" in found.argv and not found.missing and not found.file
    longest = answer.demand.workload.input.quantile(1.0) + answer.demand.workload.output.quantile(1.0)
    assert int(after(found.argv, "--max-model-len")) == int(longest) + MARGIN == answer.needs.tokens
    assert "--enable-prefix-caching" in started(answer, "vllm", cached_share=0.5).argv


def test_a_command_says_that_a_model_s_own_name_is_no_checkpoint(answer) -> None:
    """`vllm serve codestral-22b` finds nothing: that config was written down, not read from the hub."""
    (said,) = started(answer, "vllm", model="codestral-22b").missing
    assert said == "the command needs the checkpoint's name on the hub, or its folder, in place of codestral-22b"
    (said,) = started(answer, "vllm", model="codestral-22b", form="nvfp4").missing
    assert said == "the command needs a checkpoint with nvfp4 weights in place of codestral-22b"
    assert not started(answer, "vllm").missing


def test_a_step_takes_what_the_plan_s_times_count_with(answer) -> None:
    """From 0.28 on vLLM takes 16,384 tokens a step on GPUs of 160 GiB, 2,048 on small ones and on an A100."""
    steps = {"mi300x": 16384, "b200": 16384, "h100": 8192, "h100-pcie": 8192, "a100": 2048, "l40s": 2048}
    for name, tokens in steps.items():
        site = made_site(catalog.gpu(name), answer.demand.model, ON)
        assert answer.demand.engine.limits(site.gpu)[1] == site.calibration.chunk == tokens, name
        assert needs(answer.demand, answer.plan, site).chunk == tokens, name


def test_every_gpu_of_a_search_takes_steps_of_its_own_size() -> None:
    """A plan on an A100, whose steps take 2,048 tokens, is the same alone and beside an H100, which takes 8,192."""
    ask = {"techniques": "baseline", "weights": "bf16", "on": ON}
    both = kvplan.recommend("rag", "llama3.1-8b", gpus=["a100", "h100"], **ask)
    plans = {p.gpu: p for p in (both.plan, *both.alternatives) if p is not None}
    for gpu in ("a100-80gb-sxm", "h100-sxm"):
        alone = kvplan.recommend("rag", "llama3.1-8b", gpus=gpu, **ask).plan
        assert alone is not None and (alone.ttft, alone.tpot) == (plans[gpu].ttft, plans[gpu].tpot)


def test_sglang_is_told_the_tokens_of_all_its_ranks_which_it_divides(answer) -> None:
    ranks = {"parallel": Parallel(tensor=1, data=8), "model": "deepseek-v3"}
    assert after(started(answer, "sglang", **ranks).argv, "--chunked-prefill-size") == str(8 * 8192)
    assert after(started(answer, "vllm", **ranks).argv, "--max-num-batched-tokens") == "8192"


def test_room_for_a_chat_template_ends_at_the_model_s_context(answer) -> None:
    """A request as long as the context is still served, and one a little shorter gets what is left."""
    lengths = answer.demand.workload.input, answer.demand.workload.output
    most = int(sum(x.quantile(1.0) for x in lengths))
    for context, tokens in ((most + 1000, most + MARGIN), (most + 5, most + 5), (most, most), (None, most + MARGIN)):
        model = replace(answer.demand.model, max_context=context)
        assert longest(replace(answer.demand, model=model), answer.plan, answer.site) == (tokens, False)
    short = replace(answer.demand.model, max_context=most - 1)  # as long as the model can, not as one in a hundred is
    assert longest(replace(answer.demand, model=short), answer.plan, answer.site) == (most - 1, True)
    usual = int(sum(x.quantile(0.99) for x in lengths))
    short = replace(answer.demand.model, max_context=usual - 1)  # asked for all the same: the positions are scaled
    assert longest(replace(answer.demand, model=short), answer.plan, answer.site) == (usual, True)


def test_the_margin_gives_way_where_a_cache_holds_just_the_usual_request(answer, monkeypatch) -> None:
    usual = int(sum(x.quantile(0.99) for x in (answer.demand.workload.input, answer.demand.workload.output)))
    for room, tokens in ((usual + MARGIN, usual + MARGIN), (usual + MARGIN - 1, usual)):
        held = SimpleNamespace(sequences=lambda length, _, room=room: int(length <= room))
        monkeypatch.setattr("kvplan.planning.launch.memory_budget", lambda *_, held=held: held)
        assert longest(answer.demand, answer.plan, answer.site) == (tokens, True)


def test_attention_ranks_and_experts_are_each_engine_s_own(answer) -> None:
    ranks = {"parallel": Parallel(tensor=1, data=8), "model": "deepseek-v3"}
    vllm, sglang, trtllm = (started(answer, engine, **ranks) for engine in ENGINES)
    assert (after(vllm.argv, "--tensor-parallel-size"), after(vllm.argv, "--data-parallel-size")) == ("1", "8")
    assert "--enable-expert-parallel" in vllm.argv
    assert (after(sglang.argv, "--tp-size"), after(sglang.argv, "--attn-dp-size")) == ("8", "8")
    assert "--enable-dp-attention" not in sglang.argv and after(sglang.argv, "--ep-size") == "8"
    before = started(answer, "sglang@0.5.16", **ranks).argv  # the spelling that 0.5.22 replaces
    assert after(before, "--dp-size") == "8" and "--enable-dp-attention" in before
    assert after(trtllm.argv, "--tp_size") == after(trtllm.argv, "--ep_size") == "8"
    assert trtllm.file["enable_attention_dp"] is True and trtllm.file["enable_chunked_prefill"] is True
    assert after(trtllm.argv, "--extra_llm_api_options") == "options.yaml"
    assert "--enable-expert-parallel" not in started(answer, "vllm", parallel=Parallel(data=8)).argv  # no experts


def test_what_an_engine_cannot_be_told_is_said(answer) -> None:
    many = started(answer, "vllm", technique="mhc:4x+fp8", form="nvfp4")
    assert any("no option for mhc:4x" in line for line in many.missing)
    assert any("checkpoint with nvfp4 weights" in line for line in many.missing)
    assert after(many.argv, "--kv-cache-dtype") == "fp8" and "--quantization" not in many.argv
    assert started(answer, "trtllm", technique="fp8").file["kv_cache_config"]["dtype"] == "fp8"
    assert launch(catalog.engine("llamacpp"), answer.needs) is None


def test_a_release_knows_its_own_options_and_those_before_it() -> None:
    new, old = (catalog.engine(engine).launch for engine in ("vllm@0.21", "vllm@0.11"))
    assert new.techniques["nvfp4"] == "--kv-cache-dtype nvfp4" and "nvfp4" not in old.techniques
    # the wheel of vLLM 0.11.0 has no --kv-offloading-size, that of 0.24.0 no int4_per_token_head
    assert set(old.techniques) == {"fp8"} and old.techniques["fp8"] == "--kv-cache-dtype fp8"
    assert new.techniques["fp8"] == old.techniques["fp8"] and "offload:cpu" in new.techniques
    assert "int4:token" not in new.techniques and "int4:token" in catalog.engine("vllm").launch.techniques
    assert new.command == old.command and new.source != old.source
    spelled = [catalog.engine(f"sglang@{release}").launch.techniques["nvfp4"] for release in ("0.5.15", "0.5.16")]
    assert spelled == ["--kv-cache-dtype fp4_e2m1", "--kv-cache-dtype nvfp4"]


@pytest.mark.parametrize(("engine", "kind"), [(e, k) for e in ENGINES for k in ("mtp", "eagle3", "model")])
def test_speculative_decoding_is_asked_for_as_each_engine_spells_it(answer, engine: str, kind: str) -> None:
    """One drafted token more is verified than drafted; only TensorRT-LLM takes it from its options file."""
    known = catalog.engine(engine).launch
    asked = replace(
        needs(answer.demand, answer.plan, answer.site), draft=kind, drafted=3, draft_model="org/x" * (kind == "model")
    )
    found = command(known, engine, asked)
    told = " ".join(found.argv) + str(dict(found.file))
    name = {"mtp": "", "eagle3": HEAD, "model": "org/x"}[kind]
    assert name in told and any(HEAD in line for line in found.missing) == (kind == "eagle3")
    if engine == "vllm":
        config = json.loads(after(found.argv, "--speculative-config"))
        assert config["num_speculative_tokens"] == 3 and config.get("model", "") == name
        assert config["method"] == {"model": "draft_model"}.get(kind, kind)
    elif engine == "sglang":
        assert after(found.argv, "--speculative-num-steps") == "3"
        assert after(found.argv, "--speculative-num-draft-tokens") == "4"
    else:
        assert 3 in found.file["speculative_config"].values()


def test_a_replica_is_not_started_for_more_than_it_holds(answer) -> None:
    """An engine refuses to start where its cache cannot hold one request of the length it was started for."""
    small = replace(answer.site, gpu=replace(answer.site.gpu, memory=19e9, visible_memory=19e9))
    found = launch(answer.demand.engine, needs(answer.demand, answer.plan, small))
    assert found is not None and any("are refused" in line for line in found.missing)


def test_a_command_is_folded_for_a_shell() -> None:
    argv = ("vllm", "serve", "some model", *(f"--option-{n}" for n in range(20)))
    lines = list(folded(argv))
    assert max(map(len, lines)) < 78 and all(line.endswith(" \\") for line in lines[:-1])
    assert tuple(shlex.split("\n".join(lines).replace("\\\n", ""))) == argv


def test_a_value_too_wide_for_a_line_stands_below_its_option() -> None:
    argv = (
        "vllm",
        "serve",
        "m",
        "--config",
        '{"method":"eagle3","model":"EAGLE3-HEAD","num_speculative_tokens":5}',
        "--x",
    )
    lines = list(folded(argv))
    assert max(map(len, lines)) < 78 and all(line.endswith(" \\") for line in lines[:-1])
    assert tuple(shlex.split("\n".join(lines).replace("\\\n", ""))) == argv


@pytest.mark.parametrize("engine", ENGINES)
def test_reports_and_documents_hold_the_command(run, engine: str) -> None:
    ask = f"recommend -w chat -m llama3.1-8b -g h100 -t baseline --engine {engine} --on {ON}".split()
    doc = run(*ask, "--json").json["recommended"]["launch"]
    assert doc["argv"][0] in ("vllm", "python3", "trtllm-serve") and doc["replicas"] >= 1
    text = run(*ask).out
    assert "Start each of the" in text and doc["argv"][-1] in text


def test_templates_name_only_what_a_plan_has() -> None:
    good = {"command": "serve {model}", "tensor": "--tp {tensor}", "source": {"kind": "code", "ref": "x", "date": ON}}
    assert launch_options(good, None, "x.yaml").tensor == "--tp {tensor}"
    with pytest.raises(SpecError, match=r"no plan has \{gpus\}"):
        launch_options(good | {"tensor": "--tp {gpus}"}, None, "x.yaml")
    with pytest.raises(UnknownName):
        launch_options(good | {"tensors": "--tp {tensor}"}, None, "x.yaml")
    with pytest.raises(SpecError, match="missing command"):
        launch_options({k: v for k, v in good.items() if k != "command"}, None, "x.yaml")


@pytest.mark.parametrize(
    ("engine", "served", "refused"),
    [
        ("vllm", ["fp8"], ["nvfp4", "int4:token", "int8:token", "turboquant:4"]),
        ("vllm@0.21", ["fp8"], ["nvfp4", "int8:token", "turboquant:3"]),
        ("sglang", ["fp8", "nvfp4"], []),
        ("trtllm", ["fp8"], ["nvfp4"]),
    ],
)
def test_latents_are_stored_only_in_formats_that_the_engine_has_for_them(
    engine: str, served: list[str], refused: list[str]
) -> None:
    """VLLM's MLA backends list 16 bits and fp8; TensorRT-LLM's kernels refuse FP4 with MLA; SGLang documents both."""
    rules = catalog.engine(engine)
    latent, heads = (kv_layout(catalog.model(name), 16.0) for name in ("deepseek-v3", "llama3.1-8b"))
    assert latent.latent and not heads.latent
    for name in served:
        assert spelling.served_by(name, rules, latent) and spelling.served_by(name, rules, heads)
    for name in refused:
        assert not spelling.served_by(name, rules, latent) and spelling.served_by(name, rules, heads)
        assert not spelling.served_by(f"{name}+offload:cpu", rules, latent)


def test_a_format_that_latents_are_not_stored_in_has_no_option(answer) -> None:
    asked = replace(needs(answer.demand, answer.plan, answer.site), technique="nvfp4", latent=True)
    refused = launch(catalog.engine("vllm"), asked)
    assert "--kv-cache-dtype" not in refused.argv
    assert any("no option for nvfp4 on a latent (MLA) cache" in line for line in refused.missing)
    assert after(launch(catalog.engine("vllm"), replace(asked, latent=False)).argv, "--kv-cache-dtype") == "nvfp4"
    assert after(launch(catalog.engine("vllm"), replace(asked, technique="fp8")).argv, "--kv-cache-dtype") == "fp8"


@pytest.mark.parametrize("gpu", ["b200", "mi300x"])
def test_a_search_uses_no_format_that_the_engine_refuses_on_latents(gpu: str) -> None:
    """DeepSeek-V3 on B200 was planned with an nvfp4 cache, on MI300X with int4 a token: vLLM starts with neither."""
    found = kvplan.recommend("rag", "deepseek-v3", gpus=gpu, on=ON)
    assert found.plan.technique in ("baseline", "fp8") and found.plan.served_by_engine
    asked = kvplan.recommend("rag", "deepseek-v3", gpus=gpu, techniques="int4:token", on=ON)
    assert asked.plan is None and "does not serve it on latent (MLA) caches" in asked.lacking


def test_what_offloading_takes_of_the_host_is_said(answer) -> None:
    """No offer says how much memory its server has: 200 GB a GPU is an assumption, 372 GiB of a replica on two."""
    offloaded = started(answer, "vllm", technique="offload:cpu", parallel=Parallel(tensor=2))
    (said,) = (line for line in offloaded.missing if "host memory" in line)
    assert "372 GiB of prefixes in host memory, an assumption" in said
    assert not any("host memory" in line for line in started(answer, "vllm").missing)


def test_no_command_is_broken_by_a_narrow_terminal() -> None:
    """A shell would take `--tensor-parallel-size` and `4` on two lines for two commands."""
    line = "vllm serve meta-llama/Llama-3.1-70B --tensor-parallel-size 4 \\"
    page = Page((Code("Start", (line,), remarks=("Words of a remark still go on below, as of any other text.",)),))
    text = render(Report(page=lambda: page, document=dict), "text", Screen(width=40))
    assert f"\n  {line}\n" in text and [len(x) for x in text.splitlines() if len(x) > 40] == [len(line) + 2]
