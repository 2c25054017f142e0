"""`kvplan export`: commands with options that a release has, manifests that say the same, and loads as promised."""

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_options import FORMATS, OPTIONS

import kvplan
from kvplan import catalog
from kvplan.api.export import export, startable_engines
from kvplan.catalog.plans.handed import handed_over
from kvplan.errors import KvplanError, SpecError, UnknownName, WrongUse
from kvplan.planning.exporting import LoadPlan, client, clipped, forms, tools
from kvplan.planning.launch import Needs
from kvplan.planning.promise import GROUPS, spread, together
from kvplan.report import export as words
from kvplan.specs.workload import Lognormal, Quantiles

ON = "2026-11-24"
ONE_POD = ("kubernetes", "kserve", "leaderworkerset", "compose")


@pytest.fixture(scope="module")
def chat() -> Any:
    return kvplan.recommend("chat", "llama3.1-70b", gpus="h100", techniques="fp8", weights="fp8", on=ON)


@pytest.fixture(scope="module")
def docs() -> Any:
    return kvplan.recommend("doc-qa", "llama3.1-70b", queries_per_day=40_000, ttft="10s", gpus="b200", on=ON)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a plan as the command line does."""
    from kvplan.cli import main

    file = tmp_path_factory.mktemp("plans") / "plan.json"
    ask = f"recommend -w chat -m llama3.1-8b -g h100 -t baseline -t fp8 --on {ON} --json --save {file}"
    with pytest.raises(SystemExit) as left:
        main(ask.split())
    assert not left.value.code
    return file


def changed(plan: Any, **fields: Any) -> Any:
    """Return an answer whose server needs something else."""
    return replace(plan, needs=Needs(**{**vars(plan.needs), **fields}))


def documents(exported: Any) -> list[dict]:
    """Return the manifests as a cluster reads them."""
    return list(yaml.safe_load_all(words.text(exported)))


def containers(exported: Any) -> list[dict]:
    """Return every container of a set of manifests."""
    found: list[dict] = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            found.extend(node.get("containers", []))
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(documents(exported))
    return found


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", OPTIONS)
def test_every_option_is_one_that_the_release_has(chat, release: str) -> None:
    """Whatever a plan has: ranks, stages, experts, drafts, formats, offloading, several nodes."""
    parts = ["fp8", "nvfp4", "int8:token", "int4:token", "turboquant:3", "turboquant:4", "offload:cpu", "mhc:4x"]
    shapes: list[dict[str, Any]] = [
        {"tensor": 2, "pipeline": 2}, {"tensor": 1, "data": 8, "expert": 8}, {"prefixes": False, "share": None},
        *({"technique": part} for part in parts), *({"draft": d, "drafted": 2} for d in ("mtp", "eagle3", "model")),
    ]  # fmt: skip
    for shape in shapes:
        (argv,) = export(release, changed(chat, **shape)).commands
        used = {word for word in argv if word.startswith("-")}
        assert used <= OPTIONS[release], used - OPTIONS[release]
        if "--kv-cache-dtype" in argv and (shape.get("technique") or "fp8") != "mhc:4x":
            assert argv[argv.index("--kv-cache-dtype") + 1] in FORMATS[release]


def test_the_plan_s_own_command_is_what_recommend_prints(chat) -> None:
    (argv,) = export("vllm", chat).commands
    assert argv[: len(chat.launch.argv)] == chat.launch.argv
    assert argv[len(chat.launch.argv) :] == ("--host", "0.0.0.0", "--port", "8000")
    assert export("vllm", chat).missing == chat.launch.missing
    assert not export("vllm", chat, checkpoint="meta-llama/Llama-3.1-70B-Instruct").notes
    assert "--port 9000" in words.text(export("vllm", chat, port=9000))


def test_a_base_model_is_told_and_another_checkpoint_served_in_its_place(run, saved: Path, chat) -> None:
    plain, tuned = run("export", "vllm", saved), "meta-llama/Llama-3.1-8B-Instruct"
    assert f"is a base model, not tuned to follow instructions; --checkpoint {tuned} serves" in plain.err
    other = run("export", "vllm", saved, "--checkpoint", tuned)
    assert other.err == "" and tuned in other.out
    assert shlex.split(other.out)[3:] == shlex.split(plain.out)[3:]
    for target in tools():
        assert "me/mine" in " ".join(export(target, chat, checkpoint="me/mine").commands[0])
    (pod,) = export("k8s", chat, checkpoint="me/mine").documents[:1]
    assert "me/mine" in json.dumps(pod, default=vars) and "meta-llama" not in json.dumps(pod, default=vars)
    assert chat.launch.argv[2] == "meta-llama/Llama-3.1-70B"  # what recommend prints stays as it was planned
    for odd in ("-x", "", "a\nb", "x" * 400):
        with pytest.raises(SpecError, match="checkpoint: "):
            export("vllm", chat, checkpoint=odd)


def test_a_checkpoint_of_one_s_own_has_the_weights_it_has(chat) -> None:
    plan = changed(chat, weights="nvfp4")
    assert any("needs a checkpoint with nvfp4 weights" in line for line in export("vllm@0.11", plan).missing)
    assert not export("vllm@0.11", plan, checkpoint="me/mine-nvfp4").missing
    assert "fp8" in export("vllm", chat, checkpoint="me/mine").commands[0]  # what the engine does while it loads stays


@pytest.mark.parametrize(
    ("name", "tuned"),
    [
        ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B-Instruct"),
        ("google/gemma-2-9b", "google/gemma-2-9b-it"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"),
        ("meta-llama/Llama-3.1-70B-Instruct", ""),
        ("openai/gpt-oss-20b", ""),
        ("me/mine", ""),
    ],
)
def test_the_shelf_names_the_tuned_checkpoint_beside_a_base_one(name: str, tuned: str) -> None:
    assert catalog.tuned(name) == tuned


def test_what_an_engine_cannot_run_is_said_and_never_written(chat) -> None:
    many = export("vllm@0.11", changed(chat, technique="mhc:4x+nvfp4", weights="nvfp4", draft="model", drafted=3))
    assert "--kv-cache-dtype" not in many.commands[0] and "--speculative-config" not in many.commands[0]
    said = " ".join(many.missing)
    for lacking in (
        "no option for mhc:4x",
        "no option for nvfp4",
        "checkpoint with nvfp4",
        "speculative decoding by model",
    ):
        assert lacking in said
    assert words.document(many)["complete"] is False and words.document(export("vllm", chat))["complete"] is True


def test_a_plan_on_another_engine_says_that_it_was_not_asked(chat) -> None:
    other = export("sglang", chat)
    assert any("was not asked" in note and "engine=sglang" in note for note in other.notes)
    assert other.commands[0][other.commands[0].index("--max-running-requests") + 1] == "2048"  # SGLang's own
    older = export("vllm@0.19", chat)
    assert any("vllm@" in note for note in older.notes)


def test_a_script_with_an_options_file_runs_in_a_shell(chat, tmp_path: Path) -> None:
    """The file is written as TensorRT-LLM reads it; the command after it is one line to the shell."""
    text = words.text(export("trtllm", chat)).replace("trtllm-serve", "echo")
    done = subprocess.run(["sh", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--extra_llm_api_options options.yaml" in done.stdout and done.stdout.count("\n") == 1
    options = yaml.safe_load((tmp_path / "options.yaml").read_text("utf-8"))
    assert options["kv_cache_config"]["dtype"] == "fp8" and options["enable_chunked_prefill"] is True
    assert options["kv_cache_config"]["free_gpu_memory_fraction"] == 0.9


def test_a_replica_on_several_servers_has_a_command_for_each(chat) -> None:
    wide = changed(chat, tensor=8, pipeline=2, gpus_per_node=8)
    first, second = export("vllm", wide).commands
    assert "--headless" not in first and second[-1] == "--headless"
    assert [argv[argv.index("--node-rank") + 1] for argv in (first, second)] == ["0", "1"]
    assert "LEADER" in words.text(export("sglang", wide)) and any("LEADER" in m for m in export("sglang", wide).missing)
    for target, reason in (("trtllm", "no plain command"), ("vllm@0.11", "no plain command")):
        with pytest.raises(KvplanError, match=reason):
            export(target, wide)
    with pytest.raises(KvplanError, match="attention ranks"):
        export("vllm", changed(chat, tensor=1, data=16, gpus_per_node=8))
    with pytest.raises(KvplanError, match="gpus_per_node=2"):
        export("vllm", changed(chat, tensor=8, pipeline=1, gpus_per_node=3))


# -- manifests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("form", ["kubernetes", "kserve", "leaderworkerset"])
def test_a_pod_runs_the_plain_command_with_its_gpus_probes_and_memory(chat, engine: str, form: str) -> None:
    exported, (argv,) = export(engine, chat, as_form=form), export(engine, chat).commands
    leader = containers(exported)[0]
    assert (*leader["command"], *leader["args"]) == argv
    assert leader["resources"]["limits"] == {"nvidia.com/gpu": str(chat.plan.parallel.gpus)}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert leader[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert leader["ports"] == [{"name": "http", "containerPort": 8000}]
    assert {"name": "shm", "mountPath": "/dev/shm"} in leader["volumeMounts"]
    texts = [json.dumps(d) for d in documents(exported)]
    assert any('"medium": "Memory"' in t for t in texts)
    spec = next(d["spec"] for d in documents(exported) if d["kind"] not in ("ConfigMap", "Service"))
    count = spec["predictor"]["maxReplicas"] if form == "kserve" else spec["replicas"]
    assert count == chat.plan.replicas
    maps = [d for d in documents(exported) if d["kind"] == "ConfigMap"]
    assert len(maps) == (engine == "trtllm") == ("workingDir" in leader)
    if maps:
        assert yaml.safe_load(maps[0]["data"]["options.yaml"])["enable_chunked_prefill"] is True


def test_a_deployment_and_its_service_find_each_other(chat) -> None:
    deployment, service = documents(export("k8s", chat))
    assert documents(export("kubernetes", chat)) == [deployment, service]
    assert (deployment["kind"], deployment["apiVersion"]) == ("Deployment", "apps/v1")
    assert deployment["spec"]["replicas"] == chat.plan.replicas
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert service["spec"]["ports"][0]["targetPort"] == "http" and service["kind"] == "Service"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_a_replica_that_spans_servers_is_a_group_of_pods(chat) -> None:
    wide = changed(chat, tensor=8, pipeline=2, gpus_per_node=8)
    manifest, service = documents(export("k8s", wide))
    group = manifest["spec"]["leaderWorkerTemplate"]
    assert (manifest["kind"], group["size"], manifest["spec"]["replicas"]) == ("LeaderWorkerSet", 2, chat.plan.replicas)
    leader, worker = containers(export("k8s", wide))
    assert leader["resources"]["limits"] == worker["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert worker["args"] == [*leader["args"], "--headless"] and "readinessProbe" not in worker
    assert leader["args"][leader["args"].index("--node-rank") + 1] == "$(LWS_WORKER_INDEX)"
    assert service["spec"]["selector"]["role"] == "leader"
    for form in ("kubernetes", "kserve", "compose"):
        with pytest.raises(KvplanError, match="as_form=leaderworkerset"):
            export("vllm", wide, as_form=form)
    # servers of fewer GPUs than the usual ones
    halves = documents(export("sglang", chat, as_form="leaderworkerset", gpus_per_node=chat.plan.parallel.gpus // 2))
    assert halves[0]["spec"]["leaderWorkerTemplate"]["size"] == 2


def test_compose_gives_every_replica_gpus_and_a_port_of_its_own(chat) -> None:
    two = changed(chat, tensor=4, replicas=3, gpus_per_node=8)
    (document,) = documents(export("vllm", two, as_form="compose"))
    services = list(document["services"].values())
    ids = [s["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for s in services]
    assert ids == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]
    assert [s["ports"] for s in services] == [["8000:8000"], ["8001:8000"]]
    assert (*services[0]["entrypoint"], *services[0]["command"]) == export("vllm", two).commands[0]
    assert "/health" in services[0]["healthcheck"]["test"][-1] and services[0]["shm_size"] == "16gb"
    assert any(
        "2 of 3 replicas" in note and "2 servers" in note for note in export("vllm", two, as_form="compose").notes
    )
    (amd,) = documents(export("vllm", changed(two, vendor="amd"), as_form="compose"))
    first = next(iter(amd["services"].values()))
    assert "/dev/kfd" in first["devices"] and "rocm" in first["image"]
    (file,) = documents(export("trtllm", two, as_form="compose"))
    assert yaml.safe_load(file["configs"]["options"]["content"])["enable_chunked_prefill"] is True


def test_a_gpu_without_an_image_or_a_plugin_is_refused(chat) -> None:
    with pytest.raises(KvplanError, match=r"image=\.\.\."):
        export("sglang", changed(chat, vendor="amd"), as_form="kubernetes")
    own = export("sglang", changed(chat, vendor="amd"), as_form="kubernetes", image="mine:1")
    assert containers(own)[0]["image"] == "mine:1" and "amd.com/gpu" in containers(own)[0]["resources"]["limits"]
    with pytest.raises(KvplanError, match="no device plugin"):
        export("vllm", changed(chat, vendor="acme"), as_form="kserve", image="mine:1")


def test_prefixes_on_the_host_are_asked_for_as_memory(chat) -> None:
    asked = containers(export("vllm", changed(chat, technique="offload:cpu"), as_form="kubernetes"))[0]["resources"]
    assert asked["requests"]["memory"] == f"{int(200e9 * chat.plan.parallel.gpus / 2**30)}Gi"


# -- loads ----------------------------------------------------------------------------------------


def option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def given(argv: tuple[str, ...], name: str) -> dict[str, str]:
    """Return the fields of an option such as kind=poisson,rate=2."""
    return dict(field.split("=", 1) for field in option(argv, name).split(","))


def test_guidellm_sends_a_replica_its_share_of_the_busiest_load(docs) -> None:
    found = export("guidellm", docs, requests=200)
    (argv,) = found.commands
    w, serving = docs.demand.workload, docs.plan.replicas - docs.demand.spares
    load, data = given(argv, "--profile"), given(argv, "--data")
    assert float(load["rate"]) == pytest.approx(docs.demand.waits_at[0] * docs.demand.peak / serving, rel=1e-4)
    # a prefix is found by all requests to it but the first: the share that the plan counts with
    prefix, count = float(data["prefix_tokens"]), int(data["prefix_count"])
    assert prefix + 40 == pytest.approx(w.input.mean, rel=0.01)
    assert (1 - count / 200) * prefix / w.input.mean == pytest.approx(w.prefix_share, abs=0.01)
    labels = {w for w, before in zip(argv[1:], argv, strict=False) if before == "--label"}
    assert {"gpu=b200", f"tp={docs.plan.parallel.tensor}", "engine=vllm"} <= labels
    (hit,) = (float(label.partition("=")[2]) for label in labels if label.startswith("prefix_hit="))
    assert hit == pytest.approx(w.prefix_share, abs=0.01)
    assert [" ".join(t[:2]) for t in found.then] == ["kvplan validate", "kvplan calibrate"]


def test_aiperf_has_the_plan_s_lengths_in_groups_and_its_bursts(chat) -> None:
    (argv,) = export("aiperf", chat).commands
    pairs = [pair.rsplit(":", 1) for pair in option(argv, "--sequence-distribution").split(";")]
    assert len(pairs) == GROUPS**2 and sum(int(share) for _, share in pairs) == 100
    sizes = [[float(size.partition("|")[0]) for size in pair.split(",")] for pair, _ in pairs]
    for n, lengths in enumerate((chat.demand.workload.input, chat.demand.workload.output)):
        assert sum(size[n] for size in sizes) / len(sizes) == pytest.approx(lengths.mean, rel=0.01)
    assert option(argv, "--arrival-pattern") == "gamma"
    assert float(option(argv, "--arrival-smoothness")) == pytest.approx(1.09**-2, rel=1e-3)
    assert option(argv, "--goodput") == "time_to_first_token:500 inter_token_latency:40"
    assert any("Poisson" in line for line in export("guidellm", chat).missing)


def test_an_offline_plan_is_measured_in_a_closed_loop(chat) -> None:
    offline = replace(chat, promise=replace(chat.promise, rate=None, concurrency=48))
    assert given(export("guidellm", offline).commands[0], "--profile") == {"kind": "concurrent", "streams": "48"}
    assert option(export("aiperf", offline).commands[0], "--concurrency") == "48"


def test_what_a_result_file_does_not_say_is_told_only_where_it_differs(chat) -> None:
    from kvplan.planning.exporting.measured import columns

    plain = replace(chat.promise, pipeline=1, data=1, kv_dtype="", drafts=None, hit=0.0)
    assert [name for name, _ in columns(plain)] == ["gpu", "engine", "precision", "tp"]
    rich = dict(columns(replace(plain, pipeline=2, data=4, kv_dtype="fp8", hit=0.25)))
    assert (rich["pp"], rich["attention_dp"], rich["kv_dtype"], rich["prefix_hit"]) == ("2", "4", "fp8", "0.25")


def test_equal_lengths_are_plain_numbers() -> None:
    alike = kvplan.recommend(
        None, "llama3.1-8b", isl=1000, osl=200, rate="2/s", ttft="2s", gpus="h100", techniques="fp8", on=ON
    )
    (argv,) = export("aiperf", alike).commands
    assert (option(argv, "--isl"), option(argv, "--osl")) == ("1000", "200") and "--sequence-distribution" not in argv
    data = given(export("guidellm", alike).commands[0], "--data")
    assert (data["prompt_tokens"], data["output_tokens"], "prompt_tokens_stdev" in data) == ("1000", "200", False)
    assert "kv_dtype=fp8" in export("guidellm", alike).commands[0]


@pytest.mark.parametrize(
    "figures", [(1155.0, 1150.0, 2, 14050), (211.0, 163.0, 7, 1000), (66840.0, 14000.0, 8000, 126000)]
)
def test_a_clipped_normal_distribution_has_the_wanted_mean_and_deviation(figures) -> None:
    """Its moments by formula are those of its quantiles, clipped one by one."""
    from statistics import NormalDist, fmean, pstdev

    center, width = clipped.before_cut(*figures)
    shape, (mean, deviation, low, high) = NormalDist(center, width), figures
    drawn = [min(max(shape.inv_cdf((k + 0.5) / 20_000), low), high) for k in range(20_000)]
    assert fmean(drawn) == pytest.approx(mean, rel=2e-3) and pstdev(drawn) == pytest.approx(deviation, rel=5e-3)
    assert clipped.moments(center, width, low, high) == pytest.approx((mean, deviation), rel=1e-3)


@pytest.mark.parametrize(
    "lengths", [Lognormal(1000.0, 1800.0, 10.0, 6000.0), Quantiles(((0.0, 5.0), (0.5, 100.0), (1.0, 900.0)))]
)
def test_groups_of_lengths_have_the_mean_of_all(lengths) -> None:
    found = spread(lengths)
    assert sum(mean for mean, _ in found.groups) / GROUPS == pytest.approx(lengths.mean, rel=1e-3)
    assert found.deviation == pytest.approx(lengths.mean * lengths.squared**0.5)


def test_how_many_requests_share_a_prefix() -> None:
    assert together(1.0, 0.8) == pytest.approx(5.0) and together(0.5, 0.4) == pytest.approx(5.0)
    assert together(0.9, 0.9) is None and together(0.0, 0.0) is None


# -- the command, and what it refuses ---------------------------------------------------------------


def test_the_command_prints_what_can_be_run_and_says_the_rest_aside(run, saved: Path) -> None:
    plain = run("export", "vllm", saved)
    assert plain.code == 0 and shlex.split(plain.out.replace("\\\n", ""))[:2] == ["vllm", "serve"]
    other = run("export", "sglang", saved)
    assert (
        other.err.startswith("export: ")
        and "plans for it with --engine sglang" in other.err
        and "export:" not in other.out
    )
    document = run("export", "vllm", saved, "--as", "kubernetes", "--json").json
    assert document["command"] == "export" and document["documents"][0]["kind"] == "Deployment"
    assert document["commands"][0] == shlex.split(plain.out.replace("\\\n", ""))
    assert "- " in run("export", "vllm", saved, "--format", "md").out


def test_a_page_is_written_beside_what_can_be_run(run, saved: Path, tmp_path: Path) -> None:
    plain, page = run("export", "k8s", saved), tmp_path / "export.html"
    assert run("export", "k8s", saved, "--html", page).out == plain.out
    text = page.read_text("utf-8")
    assert "Deployment" in text and "export k8s" in text


@pytest.mark.parametrize(
    ("ask", "code", "said"),
    [
        ("export vlm PLAN", 1, "did you mean 'vllm'"),
        ("export llamacpp PLAN", 1, "no options of llama.cpp"),
        ("export vllm PLAN --as kubernets", 1, "did you mean 'kubernetes'"),
        ("export guidellm PLAN --as compose", 2, "--as: is for an engine's server, not for guidellm"),
        ("export vllm PLAN --requests 3", 2, "--requests: is for a tool that measures"),
        ("export aiperf PLAN --port 9000", 2, "--port: is for an engine's server, not for aiperf"),
        ("export vllm PLAN --image mine:1", 2, "--image: is of a container, and a plain command has none"),
        ("export vllm PLAN --as command --image mine:1", 2, "add --as compose, or leave it out"),
        ("export vllm@99 PLAN", 1, "release '99' is newer than those whose options kvplan knows, 0.11, "),
        ("export sglang@9.1 PLAN --as compose", 1, "write sglang@"),
        ("export vllm@0.1 PLAN", 1, "write vllm@0.11"),
        ("export vllm@latest PLAN", 1, "no release named 'latest'; write vllm@"),
        ("export vllm@ PLAN", 1, "engine vllm: no release named ''; write vllm@"),
        ("export vllm missing.json", 1, "missing.json"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(run, saved: Path, ask: str, code: int, said: str) -> None:
    done = run(*ask.replace("PLAN", str(saved)).split())
    assert (done.code, done.out) == (code, "") and said in done.err and done.err.count("\n") == 1


def test_a_plan_made_for_a_release_is_started_as_that_release_is(chat) -> None:
    """What was planned for 0.19 was exported with the image and options of the newest; of 0.7, no option is known."""
    newest = catalog.engine().release
    assert newest != "0.19" and export("vllm", chat).release == export("k8s", chat).release == newest
    older = changed(chat, release="0.19")
    assert export("vllm", older).release == export("k8s", older).release == "0.19"
    assert not any("was made for" in note for note in export("vllm", older).notes)
    assert any("was made for vllm@0.19" in note for note in export(f"vllm@{newest}", older).notes)
    unknown = export("vllm", changed(chat, release="0.6"))
    assert unknown.release == newest and any("was made for vllm@0.6" in note for note in unknown.notes)


def test_a_later_patch_of_the_newest_release_has_its_options(chat) -> None:
    """vllm@0.25.1 is 0.25 to kvplan; the next release is refused, since nobody knows what it dropped."""
    newest = export("vllm", chat)
    assert export(f"vllm@{newest.release}.1", chat).commands == newest.commands
    minor = int(newest.release.partition(".")[2]) + 1
    with pytest.raises(SpecError, match=f"write vllm@{newest.release}$"):
        export(f"vllm@0.{minor}", chat)


def edited(saved: Path, to: Path, path: str, value: Any) -> str:
    """Write a saved plan with one field changed, and return its name."""
    document = json.loads(saved.read_text("utf-8"))
    node, *rest = document, *path.split(".")
    for name in rest[:-1]:
        node = node[name]
    if value is None:
        del node[rest[-1]]
    else:
        node[rest[-1]] = value
    file = to / "edited.json"
    file.write_text(json.dumps(document), "utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("recommended.server", None, "recommended.server: is missing"),
        ("recommended.server.model", "--trust-remote-code", "server.model: expected a name"),
        ("recommended.server.model", "a\u202eb", "server.model: expected a name"),
        ("recommended.server.tensor", 0, "server.tensor: expected a number from 1"),
        ("recommended.server.chunk", 2.5, "server.chunk: expected a whole number"),
        ("recommended.server.prefixes", "yes", "server.prefixes: expected true or false"),
        ("recommended.server.drafted", None, "server.drafted: is missing"),
        ("recommended.promise.input", [1], "promise.input: expected an object"),
        ("recommended.promise.input.groups", [[1]], "groups: expected pairs"),
        ("recommended.promise.rate", "fast", "promise.rate: expected a number"),
    ],
)
def test_a_saved_plan_is_read_with_suspicion(saved: Path, tmp_path: Path, path: str, value: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        handed_over(edited(saved, tmp_path, path, value))


@pytest.mark.parametrize("path", ["recommended.replicas", "recommended.server.replicas"])
def test_another_count_of_replicas_is_honoured_and_said(run, saved: Path, tmp_path: Path, path: str) -> None:
    """Of two replicas, one a spare, one serves; of five, four do, each with a quarter of the load."""
    plan = json.loads(saved.read_text("utf-8"))["recommended"]
    assert (plan["replicas"], plan["spares"]) == (2, 1)
    file = edited(saved, tmp_path, path, 5)
    done = run("export", "k8s", file)
    assert next(iter(yaml.safe_load_all(done.out)))["spec"]["replicas"] == 5
    assert "edited to 5 replicas, where the plan has 2" in done.err
    told = run("export", "aiperf", file)
    rate = float(option(tuple(shlex.split(told.out.replace("\\\n", ""))), "--request-rate"))
    assert rate == pytest.approx(plan["promise"]["rate"] / 4, rel=1e-5) and "edited to 5" in told.err
    assert "its share of 4 that serve" in told.err
    assert run("export", "k8s", file, "--json").json["notes"][-1].startswith("the file was edited to 5")


def test_replicas_and_gpus_edited_together_are_honoured(saved: Path, tmp_path: Path) -> None:
    both = edited(Path(edited(saved, tmp_path, "recommended.replicas", 3)), tmp_path, "recommended.gpus", 3)
    assert handed_over(both)[0].replicas == 3
    agreed = edited(Path(both), tmp_path, "recommended.server.replicas", 3)
    assert handed_over(agreed)[0].replicas == 3
    with pytest.raises(SpecError, match="write the same count in both"):
        handed_over(edited(Path(agreed), tmp_path, "recommended.server.replicas", 4))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("gpus", 7, "recommended.gpus is 7, but its replicas take 2: edit recommended.replicas in its place"),
        ("tp", 4, "recommended.tp is 4, but recommended.server.tensor is 1"),
        ("gpu", "b200", "recommended.gpu is 'b200', but recommended.server.gpu is 'h100-sxm'"),
        ("technique", "fp8", "recommended.server.technique is"),
        ("weights", "bf16", "recommended.server.weights is None"),
        ("ttft", 3.0, "recommended.promise.ttft is"),
        ("server.tensor", 2, "recommended.tp is 1, but recommended.server.tensor is 2"),
        ("promise.gpu", "a100", "recommended.promise.gpu is 'a100'"),
        ("replicas", 0, "recommended.replicas: expected a whole number from 1, got 0"),
        ("replicas", 2.5, "recommended.replicas: expected a whole number from 1, got 2.5"),
    ],
)
def test_a_figure_edited_at_one_place_alone_is_refused(run, saved, tmp_path, name: str, value: Any, said: str) -> None:
    for target in ("k8s", "guidellm"):
        done = run("export", target, edited(saved, tmp_path, f"recommended.{name}", value))
        assert done.code == 1 and said in done.err and done.err.count("\n") == 1, done.err


def test_what_is_saved_is_what_is_read(saved: Path) -> None:
    needs, promise, edits = handed_over(str(saved))
    answer = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques=("baseline", "fp8"), on=ON)
    assert needs == answer.needs and promise == answer.promise and edits == ""
    with pytest.raises(SpecError, match="no plan"):
        export("vllm", kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", ttft="1us", on=ON))


def test_one_file_adds_a_form_or_a_tool(chat) -> None:
    assert forms() == ["command", "compose", "kserve", "kubernetes", "leaderworkerset"]
    assert tools() == ["aiperf", "guidellm"] and startable_engines() == ["sglang", "trtllm", "vllm"]
    with pytest.raises(UnknownName, match="guidellm"):
        client("guidelm", LoadPlan(promise=chat.promise, url="http://x", requests=1))
    with pytest.raises(WrongUse):
        export("aiperf", chat, gpus_per_node=4)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("server", "share", 2.5), ("server", "model", " "), ("server", "gpus_per_node", 10**400),
        ("promise", "burstiness", 0), ("promise", "hit", 2.5), ("promise", "percentile", 0), ("promise", "rate", 0),
    ],
)  # fmt: skip
def test_figures_that_no_plan_has_are_refused_by_their_name(run, tmp_path, part: str, name: str, value: object) -> None:
    ask = ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "-t", "fp8", "--on", "2026-11-24")
    file = tmp_path / "plan.json"
    assert run(*ask, "--save", str(file)).code == 0
    document = json.loads(file.read_text("utf-8"))
    document["recommended"][part][name] = value
    file.write_text(json.dumps(document), "utf-8")
    for target in ("vllm", "aiperf"):
        found = run("export", target, str(file))
        assert found.code == 1 and f"{part}.{name}: expected" in found.err and found.err.count("\n") == 1


@pytest.mark.parametrize(("form", "language"), [("command", "sh"), *((form, "yaml") for form in ONE_POD)])
def test_reports_keep_the_lines_of_what_is_exported(chat, form: str, language: str) -> None:
    """What stands in Markdown's fence, or in a page's <pre>, is what the text says, indentation included."""
    from html import unescape

    from kvplan.report.formats import html, md

    exported = export("vllm", chat, as_form=form)
    plain, page = words.text(exported).strip("\n"), words.page(exported)
    assert md.marked(page).split(f"```{language}\n")[1].split("\n```")[0] == plain
    report = html.Report(lambda: page, lambda: words.document(exported))
    shown = html.render(report, html.Screen())
    assert plain in [unescape(part.split("</code>")[0]).strip("\n") for part in shown.split("<code>")[1:]]


@pytest.mark.parametrize(
    "url", ["nonsense", "localhost:8000", "ftp://host", "http://", "http://host:99999", "http://a b"]
)
def test_what_is_no_address_is_refused(run, saved: Path, url: str) -> None:
    for tool in tools():
        found = run("export", tool, str(saved), "--url", url)
        assert (found.code, found.out) == (1, "")
        assert found.err == f"kvplan: --url: '{url}' is no address; write one like http://localhost:8000\n"
        assert run("export", tool, str(saved), "--url", "https://[::1]:8443/v1").code == 0


def test_a_checkpoint_that_is_a_path_to_nothing_is_said(run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for target in ("vllm", "guidellm"):
        found = run("export", target, str(saved), "--checkpoint", "./nosuch")
        assert found.code == 0 and "./nosuch" in found.out
        assert "there is no ./nosuch on this machine; the server must find it where it runs." in found.err
        for there in (str(tmp_path / "own"), "meta-llama/Llama-3.1-8B-Instruct"):
            assert "on this machine" not in run("export", target, str(saved), "--checkpoint", there).err
