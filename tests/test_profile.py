"""`kvplan profile`: its course on a virtual clock, its fit on made-up rows, its command on this machine's CPU."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from processes import PATIENCE, gone, python, until

from kvplan.catalog.rows.samples import SampleLog, read_samples
from kvplan.catalog.rows.tables import write_profile
from kvplan.measuring import samples
from kvplan.measuring.device import course as profiling
from kvplan.measuring.device import probes
from kvplan.measuring.device.course import COLUMNS, Course, Sample, TooLarge, begin, measure
from kvplan.measuring.linear import fit_group, number
from kvplan.report.progress import bar


class Clock:
    """A clock that only sampling moves. [s]"""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """A device that takes 5 us + bytes at 20 GB/s + flops at 80 GFLOP/s, and 3 ms of the clock a sample."""

    gpu, engine = "a made-up device", "fake-1"

    def __init__(self, clock: Clock, stop_after: int | None = None, states: tuple[str, ...] = ("",)) -> None:
        self.clock, self.stop_after, self.states, self.count = clock, stop_after, states, 0

    def sample(self, probe: probes.Probe) -> Sample:
        if self.count == self.stop_after:
            raise KeyboardInterrupt
        if probe.moved > 3e7:
            raise TooLarge("no room")
        self.count += 1
        self.clock.now += 3e-3
        noise = 1 + 0.02 * ((self.count * 7919) % 13) / 13
        state = self.states[self.count % len(self.states)]
        seconds = (5e-6 + probe.moved / 20e9 + probe.flops / 80e9) * noise * (9.0 if state else 1.0)
        return Sample(time=seconds, wall=3e-3, repeats=4, state=state)


def small_plan() -> list[probes.Probe]:
    return probes.plan(
        [
            *(probes.copying(2**p) for p in range(14, 24)),
            *(p for p in probes.cpu_probes() if p.group == "decode mha float32"),
        ]
    )


LOGS: list[SampleLog] = []


@pytest.fixture(autouse=True)
def closed_logs():
    yield
    while LOGS:
        LOGS.pop().close()


def course(path: Path, fake: Fake, budget: float) -> Course:
    log = SampleLog(str(path), COLUMNS)
    LOGS.append(log)
    return Course(fake, log, fake.clock, fake.clock.now + budget, anchors=probes.CPU_ANCHORS)


def test_a_plan_starts_with_a_grid_over_every_group() -> None:
    plan = probes.plan(probes.cpu_probes())
    groups = {p.group for p in plan}
    assert len({p.key for p in plan}) == len(plan) > 250
    assert {p.group for p in plan[: len(groups)]} == groups
    copies = [p.sizes["elements"] for p in plan if p.group == "copy"]
    assert set(copies[:2]) == {min(copies), max(copies)}


def test_shapes_settle_and_one_that_does_not_fit_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    shapes = begin(small_plan(), [])
    assert measure(course(path, Fake(Clock()), 60), shapes)
    rows = read_samples(str(path), COLUMNS)
    assert sum(row["state"] == profiling.TOO_LARGE for row in rows) == sum(s.probe.moved > 3e7 for s in shapes) > 0
    assert all(len(s.times) >= profiling.ROUNDS for s in shapes if not s.dropped)
    assert samples.fit(rows, "minimum")["groups"]["copy"]["held_out"]["mean"] < 0.02


@pytest.mark.parametrize("budget", [0.05, 0.4, 1.0, 3.0])
def test_a_budget_is_kept_and_used(tmp_path: Path, budget: float) -> None:
    clock = Clock()
    assert not measure(course(tmp_path / "rows.csv", Fake(clock), budget), begin(small_plan(), [])) or budget > 2
    assert 100 < clock.now <= 100 + budget
    if budget in (0.4, 1.0):
        assert clock.now > 100 + budget - 0.01


def test_samples_come_in_random_but_fixed_order(tmp_path: Path) -> None:
    orders = []
    for name in ("a", "b"):
        measure(course(tmp_path / name, Fake(Clock()), 60), begin(small_plan(), []))
        orders.append([profiling.key_of(row) for row in read_samples(str(tmp_path / name), COLUMNS)])
    assert orders[0] == orders[1]
    assert orders[0][2:40] != orders[0][40:78]


@pytest.mark.parametrize("stop", [3, 150, 260])
def test_a_stop_loses_nothing_but_the_sample_in_flight_and_resume_finishes(tmp_path: Path, stop: int) -> None:
    path, fake = tmp_path / "rows.csv", Fake(Clock(), stop_after=stop)
    first = course(path, fake, 60)
    with pytest.raises(KeyboardInterrupt):
        measure(first, begin(small_plan(), []))
    kept = read_samples(str(path), COLUMNS)
    assert sum(bool(row["latency_us"]) for row in kept) == first.taken

    path.write_text(path.read_text() + "copy,copy,a made")  # cut off while writing
    before = read_samples(str(path), COLUMNS)
    assert before == kept
    shapes = begin(small_plan(), before)
    assert measure(course(path, Fake(Clock()), 60), shapes)
    rows = read_samples(str(path), COLUMNS)
    assert rows[: len(kept)] == kept
    assert all(s.done for s in shapes)

    again = course(path, Fake(Clock()), 60)
    assert measure(again, begin(small_plan(), rows))
    assert again.taken == 0


def test_throttled_samples_are_kept_on_record_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    fake = Fake(Clock(), states=("", profiling.THROTTLED, "", profiling.SHARED))
    measure(course(path, fake, 60), begin(small_plan(), []))
    rows = read_samples(str(path), COLUMNS)
    found = samples.fit(rows, "median")
    assert found["samples"]["states"][profiling.THROTTLED] > 50
    assert found["samples"]["contended"]
    assert found["groups"]["copy"]["held_out"]["mean"] < 0.05


def test_known_coefficients_come_back_and_the_unidentified_are_named() -> None:
    rows = [
        {"time": 2e-5 + moved / 1e10 + flops / 5e11, "bytes": moved, "flops": flops, "weights": 0.0}
        for moved in (1e5, 1e6, 1e7, 5e7)
        for flops in (1e6, 1e8, 3e9)
    ]
    rows[5]["time"] *= 3  # an outlier moves nothing
    found = fit_group(rows)
    assert found is not None
    values = {name: number(name, text) for name, text in found["coefficients"].items()}
    assert values == pytest.approx({"start": 2e-5, "bandwidth": 1e10, "rate": 5e11}, rel=1e-3)
    only_bytes = fit_group([{**row, "time": 1e-5 + row["bytes"] / 1e10} for row in rows])
    assert only_bytes is not None
    assert only_bytes["not_identified"] == ["rate"]
    assert fit_group(rows[:5]) is None


def test_intervals_cover_what_they_promise() -> None:
    import numpy as np

    inside, dice = [], np.random.default_rng(3)
    for _ in range(30):
        moved = 10 ** dice.uniform(5, 8, 50)
        times = (1e-5 + moved / 1e10) * np.exp(dice.standard_t(4, 50) * 0.05)
        rows = [{"time": t, "bytes": b, "flops": 0.0, "weights": 0.0} for t, b in zip(times, moved, strict=True)]
        found = fit_group(rows[:30])
        assert found is not None
        start, bandwidth = (number(name, found["coefficients"][name]) for name in ("start", "bandwidth"))
        ratio = times[30:] / (start + moved[30:] / bandwidth)
        inside += list((found["interval"][0] <= ratio) & (ratio <= found["interval"][1]))
    assert 0.74 < np.mean(inside) < 0.88


@pytest.mark.slow
def test_the_command_measures_this_cpu(run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    profile, rows = tmp_path / "mine.yaml", tmp_path / "mine.csv"
    for budget in (5, 15, 45, 135):  # on a busy machine opening the device alone may take the first
        found = run("profile", "--device", "cpu", "--budget", f"{budget}s", "-o", profile, "--resume", "--json")
        if found.code == 0:
            break
        assert "--budget" in found.err
    assert found.code == 0, found.err
    assert found.json["device"]["kind"] == "cpu"
    document = yaml.safe_load(profile.read_text("utf-8"))
    assert document["tier"] == "measured here"
    assert "says nothing about a GPU" in document["title"]
    again = run("calibrate", rows, "-o", tmp_path / "again.yaml", "--name", "mine")
    assert again.code == 0, again.err
    assert (tmp_path / "again.yaml").read_text("utf-8") == profile.read_text("utf-8")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "mine.csv").write_bytes(rows.read_bytes())
    found = run("calibrate", tmp_path / "alone" / "mine.csv", "-o", tmp_path / "alone.yaml", "--json")
    assert found.code == 0, found.err
    alone = yaml.safe_load((tmp_path / "alone.yaml").read_text("utf-8"))
    assert alone["groups"] == document["groups"]
    assert "device" not in alone
    assert run("calibrate", rows, rows, "-o", tmp_path / "x.yaml").code == 1
    refused = run("predict", rows, "-o", tmp_path / "out.csv", "--profile", profile)
    assert refused.code == 1


def test_a_budget_that_opening_the_device_takes_is_said_with_one_that_is_enough(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    now = count(100.0, 2.5)  # whoever asks for the time is told that 2.5 s have passed
    monkeypatch.setattr(
        importlib.import_module("kvplan.api.profile"), "time", SimpleNamespace(monotonic=lambda: next(now))
    )
    refused = run("profile", "--device", "cpu", "--budget", "2s", "-o", tmp_path / "mine.yaml")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "no sample was taken: opening the device took" in refused.err
    assert re.search(r"too much of 2.0 s; write --budget \d+s\n$", refused.err)
    assert not (tmp_path / "mine.yaml").exists()


def test_errors_are_one_line(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    assert run("profile", "--budget", "soon").code == 1
    assert "2s" in run("profile", "--budget", "0.1s").err
    if not torch.cuda.is_available():
        refused = run("profile", "--device", "cuda", "-o", tmp_path / "x.yaml")
        assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert run("profile", "--device", "cpu", "-o", tmp_path / "x.csv").code == 1
    monkeypatch.setitem(sys.modules, "torch", None)
    refused = run("profile", "--device", "cpu")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "pip install 'kvplan[profile]'" in refused.err


@pytest.mark.parametrize("counts", [True, False])
def test_energy_is_said_to_be_measured_where_the_device_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    from contextlib import contextmanager
    from types import SimpleNamespace

    from kvplan.api import profile as api
    from kvplan.measuring.device import machine as device

    fake = SimpleNamespace(remark="", energy=counts, more=dict, close=lambda: None)
    monkeypatch.setattr(device, "find", lambda *_: fake)
    monkeypatch.setattr(device, "kind", lambda _: "cpu")
    for name, stands_in in (("measure", None), ("must_hold_samples", None), ("finish", {}), ("prepare", ())):
        monkeypatch.setattr(api, name, lambda *_, answer=stands_in: answer)
    said: list[str] = []

    @contextmanager
    def bar(clock, deadline):
        yield lambda share, text: said.append(text)

    api.profile("cpu", output=str(tmp_path / "mine.yaml"), watch=api.Watch(bar))
    assert said[-1] == "fitting" and ("measuring energy" in said) is counts


def test_files_are_checked_before_anything_is_measured_and_the_hint_repeats_the_options(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kvplan.measuring.device import machine as device

    monkeypatch.setattr(device, "torch_module", lambda: 1 / 0)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "folder.csv").mkdir()
    for words in (("-o", tmp_path / "no" / "x.yaml"), ("-o", tmp_path / "folder.yaml"),
                  ("-o", tmp_path / "x.yaml", "--rows", tmp_path / "folder.csv")):  # fmt: skip
        refused = run("profile", "--device", "cpu", *words)
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert "cannot be written" in refused.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "folder.yaml"]

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "torch_module", interrupted)
    words = ("--budget", "90s", "--processes", "2", "-o", tmp_path / "my profile.yaml", "--json")
    stopped = run("profile", *words)
    assert stopped.code == 130
    assert stopped.err == (
        "kvplan: stopped; nothing is measured yet; start with: kvplan profile --budget 90s --processes 2 "
        f"-o '{tmp_path}/my profile.yaml' --resume --json\n"
    )


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_a_kill_keeps_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for sent, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        rows = tmp_path / f"{code}.csv"
        words = ["profile", "--device", "cpu", "--budget", "10min", "-o", str(rows.with_suffix(".yaml"))]
        words += ["--processes", "2"]
        with python("-m", "kvplan", *words, stderr=subprocess.PIPE) as started:
            assert until(lambda rows=rows: rows.exists() and rows.read_bytes().count(b"\n") > 50)
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
            assert len(children) >= 2
            started.send_signal(sent)
            said = started.communicate(timeout=PATIENCE)[1]
        assert started.returncode == code, said
        assert len(read_samples(str(rows), COLUMNS)) >= 49
        assert not rows.with_suffix(".yaml").exists()
        assert gone(children), f"left running: {children}"
        assert sent == signal.SIGKILL or (said.count("\n") == 1 and "--processes 2 -o" in said and "--resume" in said)


@pytest.mark.slow
def test_a_gpus_samples_become_kernels_that_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the ways to split a cache the first alone is tried: choosing between them is what test_fit is about."""
    from kvplan import catalog
    from kvplan.measuring.device.cuda_probes import cuda_probes
    from kvplan.measuring.device.ranks import all_reduce_probes
    from kvplan.measuring.kernels.choices import CHOICES
    from kvplan.perf.kernel_profile import KernelCall, Predictor, read_profile
    from kvplan.specs.source import Source

    class H200(Fake):
        gpu, engine = "NVIDIA H200", "kvplan-0.1.0"

        def sample(self, probe: probes.Probe) -> Sample:
            self.clock.now += 3e-3
            return Sample(time=6e-6 + probe.moved / 4e12 + probe.flops / 7e14, wall=3e-3, repeats=4)

    usual = {name: values[:1] for name, values in CHOICES["decode_attention"].items()}
    monkeypatch.setitem(CHOICES, "decode_attention", usual)
    quantised = {f"decode {kept}" for kept in ("fp8", "int8", "int4")}
    techniques = {"decode paged", "decode h2o", "decode streaming cache", "decode mhc fused", "decode mhc absorbed fp8"}
    wanted = {"decode bfloat16", "bandwidth read", *quantised, *techniques}
    among = [f"all_reduce of {n}" for n in (2, 4, 8)]
    reduced = list(all_reduce_probes("nccl", "nccl-2.27.3", 8))
    wanted |= set(among)
    plan = probes.plan([*(p for p in cuda_probes(True) if p.group in wanted and p.moved < 8e9), *reduced])
    measure(course(tmp_path / "rows.csv", H200(Clock()), 60), begin(plan, []))
    taken = read_samples(str(tmp_path / "rows.csv"), COLUMNS)
    fitted = samples.refit(taken)
    assert (fitted["estimate"], set(fitted["groups"])) == ("median", wanted)
    kernels = fitted["kernels"]
    attention = kernels["h200"]["kvplan"]["decode_attention"]
    assert set(attention) == {
        *(f"triton_decode bfloat16 {kept}" for kept in ("bfloat16", "fp8", "int8", "int4")),
        *("triton_paged bfloat16 bfloat16", "triton_h2o bfloat16 bfloat16", "triton_streaming_cache bfloat16 bfloat16"),
        *("triton_fused bfloat16 bfloat16", "triton_absorbed_mhc bfloat16 fp8"),
    }
    tree = json.loads(json.dumps(kernels), parse_int=str, parse_float=str)
    raw = {"name": "mine", "title": "mine", "tier": "measured here", "kernels": tree}
    source = Source(kind="measured", ref="here", date="2026-11-23")
    sizes = {"batch": 16, "q_heads": 32, "kv_heads": 8, "head_dim": 128, "kv_len": 8192}
    shape = KernelCall(
        kind="decode_attention", gpu="h200", engine="kvplan", version="kvplan-0.1.0", kernel="triton_decode",
        dtypes=("bfloat16", "bfloat16"), sizes=sizes,
    )  # fmt: skip
    found = Predictor([read_profile(raw, source, "mine")], catalog.gpu).predict(shape)
    assert (found.tier, found.note) == ("measured here", "")
    assert found.time == pytest.approx(6e-6 + 16 * 8 * 128 * 8192 * 4 / 4e12, rel=0.1)
    shape = KernelCall(
        kind="all_reduce", gpu="h200", engine="nccl", version="nccl-2.27.3", kernel="all_reduce",
        dtypes=("bfloat16",), sizes={"n_gpus": 4, "message_size": 2**24},
    )  # fmt: skip
    found = Predictor([read_profile(raw, source, "mine")], catalog.gpu).predict(shape)
    assert (found.tier, found.note) == ("measured here", "")
    assert found.time == pytest.approx(6e-6 + 2**25 * 1.5 / 4e12, rel=0.1)


def test_a_gpus_plan_knows_every_technique_from_its_first_turn() -> None:
    from kvplan.measuring.device.cuda_probes import cuda_probes

    plan = probes.plan(cuda_probes(True))
    assert len({p.key for p in plan}) == len(plan)
    groups = {p.group for p in plan}
    assert {p.group for p in plan[: len(groups)]} == groups
    older = {p.group for p in cuda_probes(False)}
    assert groups - older == {"gemm fp8", "decode fp8", "decode mhc absorbed fp8"}
    sized = {p.group: p for p in plan if p.sizes.get("batch") == 16 and p.sizes.get("kv_len") in (8192, 4096)}
    assert len([g for g in sized if g.startswith("decode")]) == 13


@pytest.mark.parametrize("budget", [1.0, 3.0])
def test_a_short_budget_still_measures_every_group_of_a_gpu(tmp_path: Path, budget: float) -> None:
    from kvplan.measuring.device.cuda_probes import cuda_probes

    class Gpu(Fake):
        gpu, engine = "NVIDIA H200", "kvplan-0.1.0"

        def sample(self, probe: probes.Probe) -> Sample:
            self.clock.now += 3e-3
            return Sample(time=6e-6 + probe.moved / 4e12 + probe.flops / 7e14, wall=3e-3, repeats=4)

    plan = probes.plan(cuda_probes(True))
    measure(course(tmp_path / "rows.csv", Gpu(Clock()), budget), begin(plan, []))
    shapes: dict[str, set[tuple[str, ...]]] = {}
    for row in read_samples(str(tmp_path / "rows.csv"), COLUMNS):
        shapes.setdefault(row["group"], set()).add(profiling.key_of(row))
    assert {p.group for p in plan} <= set(shapes)
    if budget > 2:
        assert min(len(found) for group, found in shapes.items() if group not in ("anchor", "gemv bfloat16")) >= 9


def test_probes_count_what_the_kernels_say_they_move() -> None:
    pytest.importorskip("triton")
    from kvplan.kernels import decode_attention, h2o, latent_decode, prefill_attention, quantised_decode, streaming

    from kvplan.measuring.device.cuda_probes import cuda_probes

    def wanted(p: probes.Probe) -> tuple[float, float] | None:
        s = p.sizes
        b, hq, h, d, t, rank = (s.get(n, 0) for n in ("batch", "q_heads", "kv_heads", "head_dim", "kv_len", "rank"))
        plain = (b, hq, h, d, t)
        if p.kernel == "triton_decode" and p.kv_dtype != "bfloat16":
            return quantised_decode.traffic(p.kv_dtype, *plain)
        if p.kernel == "triton_absorbed_mhc" and p.kv_dtype == "fp8":
            moved, flops = latent_decode.absorbed_traffic(b, hq, rank, t)
            return moved - b * t * rank, flops
        makers = {
            "triton_decode": lambda: decode_attention.traffic(*plain),
            "triton_paged": lambda: decode_attention.traffic(*plain),
            "triton_h2o": lambda: h2o.traffic(*plain),
            "triton_streaming_absolute": lambda: streaming.traffic(*plain, mode="absolute"),
            "triton_streaming_cache": lambda: streaming.traffic(*plain, mode="cache"),
            "triton_absorbed": lambda: latent_decode.absorbed_traffic(b, hq, 512, t, 64),
            "triton_absorbed_mhc": lambda: latent_decode.absorbed_traffic(b, hq, rank, t),
            "triton_fused": lambda: latent_decode.fused_traffic(b, hq, h, 128, rank, rank, t),
            "triton_reconstruct": lambda: latent_decode.reconstruct_traffic(b, hq, h, 128, rank, rank, t),
            "triton_prefill": lambda: prefill_attention.traffic(b, hq, h, d, s["isl"]),
        }
        return makers[p.kernel]() if p.kernel in makers else None

    compared = {p.kernel: (p, w) for p in cuda_probes(True) if (w := wanted(p)) is not None}
    assert len(compared) == 10
    for probe in cuda_probes(True):
        if (found := wanted(probe)) is not None:
            assert (probe.moved, probe.flops) == pytest.approx(found, rel=0.02), probe


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")
def test_every_operator_of_a_gpus_plan_runs_in_the_interpreter() -> None:
    """The calls a GPU is timed on, on small shapes: fp8 products need a GPU."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    from kvplan.kernels.common import INTERPRETED

    from kvplan.measuring.device.cuda_calls import Builder, pool_of
    from kvplan.measuring.device.cuda_probes import cuda_probes

    if not INTERPRETED:
        pytest.skip("triton was imported before TRITON_INTERPRET was set")
    builder = Builder(torch, pool_of(torch, "cpu", 2**26), pool_of(torch, "cpu", 2**26), "cpu")
    small = {"batch": 2, "kv_len": 40, "isl": 33, "m": 8, "n": 128, "k": 64, "elements": 5000}
    seen = {}
    for probe in cuda_probes(True):
        if probe.dtype != "fp8":
            seen.setdefault(probe.group, probe)
    assert len(seen) == 19
    for probe in seen.values():
        sizes = {name: small.get(name, size) for name, size in probe.sizes.items()}
        if probe.kind == "prefill_attention":  # a program a head and block of the prompt: most of the work
            sizes |= {"q_heads": 8, "kv_heads": 2}
        call = builder.call(type(probe)(**{**vars(probe), "sizes": sizes}))
        if probe.kind not in ("copy", "read", "write"):
            call()


def recorded(folder: Path, name: str, speed: float = 1.0) -> Path:
    """Write a profile and its samples as the command does, of a made-up CPU that moves 20 GB/s times `speed`."""

    class Cpu(Fake):
        gpu, engine = "CPU of nobody", "torch-0"

        def sample(self, probe: probes.Probe) -> Sample:
            found = super().sample(probe)
            return Sample(time=found.time / speed, wall=found.wall, repeats=4)

    path = folder / f"{name}.csv"
    wanted = {"copy", "gemm float32", "decode mha float32"}
    plan = probes.plan(p for p in probes.cpu_probes() if p.group in wanted)
    measure(course(path, Cpu(Clock()), 60), begin(plan, []))
    source = {"kind": "measured", "ref": "here", "date": "2026-11-23"}
    heading = {"name": name, "title": f"{name} of nobody", "source": source, "tier": "measured here", "rows": path.name}
    write_profile(str(path.with_suffix(".yaml")), {**heading, **samples.refit(read_samples(str(path), COLUMNS))}, "x")
    return path.with_suffix(".yaml")


def test_a_profile_is_shown_with_meanings_charts_and_a_roofline(run, tmp_path: Path) -> None:
    mine = recorded(tmp_path, "mine")
    shown = run("show", "profile", mine)
    assert shown.code == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= 100
    for said in ("80 % of it", "fitted against measured", "Roofline", "bytes read and written a second"):
        assert said in shown.out
    copied = next(line for line in shown.out.splitlines() if line.startswith("copy"))
    assert "start" in copied
    document = run("show", "profile", mine, "--json").json["profiles"][0]
    group = next(g for g in document["groups"] if g["group"] == "copy")
    assert group["coefficients"]["bandwidth"]["value"] == pytest.approx(20e9, rel=0.05)
    low, high = group["spread"]["bandwidth"]
    assert low <= group["coefficients"]["bandwidth"]["value"] <= high
    rows = samples.reduce(read_samples(str(tmp_path / "mine.csv"), COLUMNS), "minimum")
    copies = [row for row in rows if row["group"] == "copy"]
    fitted = yaml.safe_load(mine.read_text("utf-8"))["groups"]["copy"]["coefficients"]
    assert all(samples.predicted(row, fitted) == pytest.approx(row["time"], rel=0.1) for row in copies)

    (tmp_path / "mine.csv").unlink()
    assert "no charts" in run("show", "profile", mine).out


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys, terminal: bool) -> None:
    for name, value in {"FORCE_COLOR": "1" if terminal else "", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    times = iter((10.0, 40.0, 40.0))
    with bar(lambda: next(times), deadline=100.0) as report:
        report(0.25, "copy")
    said = capsys.readouterr().err
    assert all(word in said for word in ("60.0 s left", "25%", "copy")) if terminal else not said


def test_two_profiles_are_compared_and_odd_ones_refused(run, tmp_path: Path) -> None:
    one, two = recorded(tmp_path, "one"), recorded(tmp_path, "two", speed=2.0)
    shown = run("show", "profile", one, two)
    assert shown.code == 0, shown.err
    bandwidth = next(line for line in shown.out.splitlines() if line.split()[:1] == ["bandwidth"])
    assert float(bandwidth.split()[-1]) == pytest.approx(2.0, rel=0.03)
    for words in ((one, "h200"), ("h200", one), (one, "--kernels", "gemm")):
        refused = run("show", "profile", *words)
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert "profile one has no kernels" in refused.err
    one.write_text(one.read_text("utf-8").replace("coefficients:", "coefficient:"))
    refused = run("show", "profile", one)
    assert (refused.code, refused.err.count("\n")) == (1, 1)


def gpu_day():
    spec = importlib.util.spec_from_file_location("gpu_day", Path(__file__).parent.parent / "benchmarks" / "gpu_day.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_gpu_day_keeps_the_rest_when_a_part_fails(tmp_path: Path, capsys) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a GPU would do the work")
    from kvplan.measuring.device.cuda_probes import cuda_probes

    day = gpu_day()
    assert max(sum(day.PARTS.values()), sum(day.MORE.values())) <= day.TOTAL <= 570
    timed = [p for p in cuda_probes(True) if day.is_technique(p)]
    every = {p.kernel for p in cuda_probes(True) if p.kind == "decode_attention"} - {"triton_decode"}
    assert {p.kernel for p in timed} == every
    assert len(timed) < 20
    assert day.main(["--out", str(tmp_path / "new"), "--parts", "bandwidth"]) == 1
    summary = (tmp_path / "new" / "summary.txt").read_text("utf-8")
    assert "bandwidth" in summary
    assert "torch sees no CUDA device" in summary
    with pytest.raises(SystemExit):
        day.main(["--out", str(tmp_path), "--parts", "bandwith"])
    assert "no part named" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        day.main(["--out", str(tmp_path), "--dry"])


def test_gpu_day_stops_a_part_that_takes_too_long_and_all_it_started(tmp_path: Path) -> None:
    day, pid = gpu_day(), tmp_path / "pid"
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(3600)"
    )
    for limit in (2.0, 5.0, 20.0, 60.0):  # until it is enough for two processes to start
        said, _ = day.run_part([sys.executable, "-c", code], limit, patience=0.1)
        assert said == f"stopped after {limit:.0f} s; what it had written is kept"
        if pid.exists() and pid.read_text():
            break
    assert pid.read_text() and gone([pid.read_text()])


@pytest.mark.slow
def test_gpu_day_runs_dry_from_end_to_end(tmp_path: Path) -> None:
    """Every part but the profile, through workers, in Triton's interpreter: a slip would cost a GPU's day."""
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    from kvplan.measuring.device.nvml import Replay

    path = str(Path(__file__).parent.parent / "benchmarks" / "gpu_day.py")
    parts = "correctness,compile,bandwidth,kernels,trace"
    words = ["--device", "cpu", "--dry", "--out", str(tmp_path), "--parts", parts]
    done = subprocess.run([sys.executable, path, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    day = gpu_day()
    cases, compiled = day.read(tmp_path / "correctness.csv"), day.read(tmp_path / "compile.csv")
    assert len(cases) >= 4
    assert all(case["passed"] == "1" for case in cases), cases
    assert {row["said"] for row in compiled if "fp8" not in row["group"]} == {""}
    rows = day.read(tmp_path / "kernels.csv")
    assert {"read", "copy", "torch sdpa"} <= {row["operator"] for row in rows}
    assert all(float(row["time_us"]) > 0 for row in rows if "fp8" not in row["operator"]), rows
    assert {"torch sum", "torch copy"} <= {row["operator"] for row in rows[:4]}
    assert all(row["of_read"] for row in rows[4:] if row["time_us"])
    assert len(day.read(tmp_path / "bandwidth.csv")) == 3
    summary = (tmp_path / "summary.txt").read_text("utf-8")
    assert summary.count("done") == 5
    assert day.DRY in summary and day.DRY in done.stdout

    recorded, now = day.read(tmp_path / "nvml_trace.csv"), [0.0]
    assert [phase for phase in day.PHASES if any(row["phase"] == phase for row in recorded)] == list(day.PHASES)
    meter = Replay(recorded, lambda: now[0])
    for row in (recorded[0], recorded[len(recorded) // 2], recorded[-1]):
        now[0] = float(row["at"]) - float(recorded[0]["at"]) + 1e-9
        found = meter.read()
        assert (found.energy, found.power, found.sm_clock) == (float(row["energy_j"]), 100.0, 1e9)
    assert meter.device == "dry run (replayed)"


@pytest.mark.slow
def test_gpu_days_second_run_is_dry_from_end_to_end(tmp_path: Path) -> None:
    """Real shapes, tiles that are tried, and a model that is served: small, interpreted, and on a CPU."""
    for name in ("torch", "triton", "transformers"):
        pytest.importorskip(name)
    day = gpu_day()
    path = str(Path(__file__).parent.parent / "benchmarks" / "gpu_day.py")
    words = ["--device", "cpu", "--dry", "--out", str(tmp_path), "--parts", ",".join(day.MORE)]
    done = subprocess.run([sys.executable, path, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(case["passed"] == "1" for case in day.read(tmp_path / "real.csv"))
    tuned = day.read(tmp_path / "tune.csv")
    assert {row["said"] for row in tuned} == {""} and len({row["operator"] for row in tuned}) > 5
    served = day.read(tmp_path / "server.csv")
    assert {row["said"] for row in served} == {""}
    assert {row["technique"] for row in served} >= {"recorded", "baseline", "fp8", "int8"}
    assert all(float(row["tpot_s"]) > 0 for row in served)
    assert all(row["predicted_tpot_s"] for row in served if row["batch"] == "1")


def test_gpu_day_tries_the_tiles_that_the_table_has_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    torch = pytest.importorskip("torch")
    from kvplan.kernels import common

    from kvplan.measuring.device.cuda_calls import Builder
    from kvplan.measuring.device.inputs import BufferPool

    day, asked = gpu_day(), []

    def tile_for(shape, tensor) -> None:
        asked.append(common.tiles(shape, common.nvidia(90)))
        raise StopIteration

    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "int8": torch.int8,
             "int4": torch.uint8}  # fmt: skip
    pool = BufferPool({name: torch.empty(2**40, dtype=kind, device="meta") for name, kind in types.items()})
    for name in ("decode_attention", "quantised_decode", "latent_decode", "streaming", "prefill_attention"):
        module = __import__(f"kvplan.kernels.{name}", fromlist=["tile_for"])
        monkeypatch.setattr(module, "tile_for", tile_for)
    monkeypatch.setattr(common, "INTERPRETED", True)
    for probe, tried in day.tunings():
        with pytest.raises(StopIteration):
            Builder(torch, pool, pool, "meta").call(probe)()
        assert tried[0].config == asked[-1], probe
        assert len({day.spelled(one) for one in tried}) == len(tried)


def test_gpu_day_judges_the_bars() -> None:
    day = gpu_day()
    shape = "batch=16 q_heads=32 kv_heads=8 head_dim=128 kv_len=8192"

    def row(operator: str, time: float, where: str = shape, moved: float = 1e9, flops: float = 0.0) -> dict[str, str]:
        yard = {"read": 5e12, "copy": 4e12}
        return {n: str(v) for n, v in day.measured(lambda: time * 1e-6, operator, where, moved, flops, yard).items()}

    rows = [
        row("copy", 250, "elements=1"), row("torch_matmul bfloat16", 100, "m=1 n=1 k=1", flops=7e10),
        row("triton_decode bfloat16", 270), row("torch sdpa", 280), row("triton_decode int8", 300, moved=5e8),
        row("triton_h2o bfloat16", 300), row("triton_fused grouped", 200, shape + " rank=128"),
        row("triton_absorbed bfloat16", 1000, shape, flops=4e11),
        row("triton_prefill bfloat16", 100, "batch=1 isl=8192", flops=5e10),
    ]  # fmt: skip
    lines = {line[:50].strip(): line[50:].split() for line in day.judged(rows)}
    assert lines["GQA bf16, of copy, contiguous"] == ["93%", "to", "93%,", "asked", "90%:", "met"]
    assert lines["GQA bf16, speed against torch SDPA"][-1] == "met"
    assert lines["int8 and fp8, of bf16's bytes/s"] == ["45%", "to", "45%,", "asked", "75%:", "MISSED"]
    assert lines["H2O, speed against plain decode"] == ["90%", "to", "90%,", "asked", "91%:", "MISSED"]
    assert lines["fused grouped MHC at 4x, speed against GQA"][0] == "135%"
    assert lines["absorbed latent, of its roofline, to 32 heads"] == ["57%", "to", "57%,", "asked", "70%:", "MISSED"]
    assert lines["prefill, of the measured GEMM rate"] == ["71%", "to", "71%,", "asked", "60%:", "met"]
    tried = [row(name, time) | {"tried": words} for name, time, words in (
        ("copy", 1, ""), ("triton_h2o", 300, "a"), ("triton_h2o", 200, "b"))]  # fmt: skip
    assert day.fastest(tried) == [f"{'triton_h2o':34}b (50.0 % faster than a)  {shape}"]


def test_gpu_day_tables_hold_what_was_measured_and_what_failed(tmp_path: Path) -> None:
    day = gpu_day()

    def taking(name: str) -> float:
        return 1e-3 if name == "ours" else 1 / 0

    yard = {"read": 5e12, "copy": 4e12}
    rows = [day.measured(lambda n=n: taking(n), n, "b=1", 4e9, 1e12, yard) for n in ("ours", "theirs")]
    day.write(tmp_path / "kernels.csv", rows)
    case = {"case": "x", "passed": "1", "error": "1e-7", "tolerance": 1e-5, "seconds": 0.1, "said": ""}
    day.write(tmp_path / "correctness.csv", [case, {**case, "case": "y", "passed": "0"}])
    lines = day.figures(tmp_path)
    assert lines[0] == "kernels right: 1 of 2 cases"
    assert "  wrong: y" in lines[1]
    assert any(line.split()[:6] == ["ours", "1000", "4000", "80%", "100%", "1000"] for line in lines)
    assert any("ZeroDivisionError" in line for line in lines)


# -- the example ----------------------------------------------------------------------------------


def test_the_example_is_what_its_samples_give_and_has_the_stated_errors(run, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    example = root / "profiles" / "examples" / "cpu-2core.yaml"
    again = tmp_path / "cpu-2core.yaml"
    assert run("calibrate", str(example.with_suffix(".csv")), "-o", str(again)).code == 0
    assert again.read_text("utf-8") == example.read_text("utf-8")
    (shown,) = run("show", "profile", str(example), "--json").json["profiles"]
    means = [g["held_out"]["mean"] for g in shown["groups"]]
    page = " ".join((root / "docs" / "profiling.md").read_text("utf-8").split())
    assert f"{100 * max(means):.0f} % and an interval" in page and f"{shown['samples']['taken']:,} samples" in page
    assert f"is {100 * sum(means) / len(means):.1f} % on average" in page
