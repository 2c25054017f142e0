"""A CUDA device that fails in every way we know of: the profile finishes, says what failed, and resumes."""

import multiprocessing
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import fake_cuda  # noqa: E402

from kvplan.catalog.rows.samples import read_samples  # noqa: E402
from kvplan.measuring.device import course as profiling  # noqa: E402
from kvplan.measuring.device import cuda, cuda_calls, cuda_timer, probes, worker  # noqa: E402
from kvplan.measuring.device import machine as device  # noqa: E402
from kvplan.measuring.device.course import COLUMNS, Failed, TooLarge, reason  # noqa: E402
from kvplan.measuring.device.cuda_probes import cuda_probes  # noqa: E402

#: one operator that is never told to fail, and six that are
GROUPS = ("decode bfloat16", "decode h2o", "decode mhc fused", "decode mhc reconstruct", "prefill bfloat16",
          "decode streaming cache", "bandwidth read")  # fmt: skip


def small(fp8: bool) -> list[probes.Probe]:
    """Return the smallest shapes of each group: twelve of one that never fails, four of the others."""
    found = []
    for group in GROUPS:
        mine = sorted((p for p in cuda_probes(fp8) if p.group == group), key=lambda p: (p.moved, p.key))
        found += mine[: 12 if group == GROUPS[0] else 4]
    return found


ANCHORS = (probes.copying(2**20, group=probes.ANCHOR), probes.product_of(64, 512, 512, "bfloat16", probes.ANCHOR))


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork processes that measure from one that has loaded torch: loading it anew is most of what these tests take."""
    multiprocessing.set_forkserver_preload(["torch", "triton", "kvplan.measuring.device.cuda"])
    monkeypatch.setattr(worker, "get_context", lambda _: multiprocessing.get_context("forkserver"))


@pytest.fixture
def profiled(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs `kvplan profile --device cuda` on a made-up device with these faults."""
    monkeypatch.setattr(device, "torch_module", lambda: fake_cuda.Torch(fake_cuda.Device({}, 2**30)))
    monkeypatch.setattr(cuda, "cuda_probes", small)
    monkeypatch.setattr(cuda, "CUDA_ANCHORS", ANCHORS)
    monkeypatch.setattr(worker, "ANSWER", 15.0)
    (tmp_path / "faults").mkdir()

    def call(faults: dict[str, str], *words: str, **more: Any) -> Any:
        made = partial(fake_cuda.open_timer, faults=faults, **{"folder": tmp_path / "faults", **more})
        monkeypatch.setattr(cuda, "open_timer", made)
        return run("profile", "--device", "cuda", "--budget", "600s", "-o", tmp_path / "mine.yaml", *words)

    return call


def samples(path: Path) -> list[dict[str, str]]:
    return read_samples(str(path), COLUMNS)


def failed(rows: list[dict[str, str]]) -> dict[str, str]:
    """Return state and reason of the shapes that failed, by kernel; one shape each."""
    found = [r for r in rows if r["state"] in profiling.SKIPPED]
    assert len({r["kernel"] for r in found}) == len(found)
    return {r["kernel"]: f"{r['state']}: {r['reasons']}" for r in found}


@pytest.mark.slow
def test_a_kernel_that_fails_costs_one_shape_and_resume_tries_only_that_again(profiled, tmp_path: Path) -> None:
    faults = {
        "h2o_decode": "resources", "fused_decode": "compile", "reconstruct_decode": "ptxas",
        "prefill_attention": "memory", "streaming_decode": "launch",
    }  # fmt: skip
    found = profiled(faults)
    assert found.code == 0, found.err
    before = samples(tmp_path / "mine.csv")
    said = failed(before)
    for kernel, words in {
        "triton_h2o": "failed: OutOfResources: out of resource: shared memory, Required: 180224, Hardware limit",
        "triton_fused": "shape mismatch", "triton_reconstruct": "bad [/red]  [31mthing".replace("  ", " "),
        "triton_prefill": "out of memory: CUDA out of memory. Tried to allocate 20.00 GiB.",
        "triton_streaming_cache": "failed: CUDA error: invalid configuration argument",
    }.items():  # fmt: skip
        assert words in said.pop(kernel)
        assert words in " ".join(found.out.split())
    assert not said
    document = yaml.safe_load((tmp_path / "mine.yaml").read_text("utf-8"))
    assert [entry["shapes"] for entry in document["failures"]] == [1] * 5
    assert "decode bfloat16" in document["groups"]
    assert "5 shapes could not be measured; resuming kvplan profile tries again" in found.out

    again = profiled({}, "--resume")
    assert again.code == 0, again.err
    new = [row for row in samples(tmp_path / "mine.csv")[len(before) :] if row["group"] != probes.ANCHOR]
    tried = {profiling.key_of(row) for row in before if row["state"] in profiling.SKIPPED}
    assert {profiling.key_of(row) for row in new} == tried
    assert not failed(new)
    document = yaml.safe_load((tmp_path / "mine.yaml").read_text("utf-8"))
    assert document["failures"] == []


@pytest.mark.slow
def test_a_fault_that_takes_the_process_along_costs_one_shape_and_a_fresh_one_goes_on(profiled, tmp_path: Path) -> None:
    faults = {
        "h2o_decode": "sticky", "fused_decode": "kill", "reconstruct_decode": "segv", "prefill_attention": "hang",
        "streaming_decode": "capture",
    }  # fmt: skip
    found = profiled(faults)
    assert found.code == 0, found.err
    rows = samples(tmp_path / "mine.csv")
    assert failed(rows) == {
        "triton_h2o": "failed: CUDA error: an illegal memory access was encountered",
        "triton_fused": "failed: was killed by SIGKILL",
        "triton_reconstruct": "failed: was killed by SIGSEGV",
        "triton_prefill": "failed: did not answer within 15.0 s",
        "triton_streaming_cache": f"failed: {fake_cuda.CAPTURING}",
    }
    for group in GROUPS:
        shapes = {profiling.key_of(row) for row in rows if row["group"] == group and row["latency_us"]}
        assert len(shapes) == {"decode bfloat16": 12, "bandwidth read": 4}.get(group, 3)


def test_a_device_that_is_gone_ends_the_run_with_what_was_measured(profiled, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(worker, "LOSSES", 3)
    kernels = ("h2o_decode", "fused_decode", "reconstruct_decode", "streaming_decode", "decode_attention")
    found = profiled(dict.fromkeys((*kernels, "prefill_attention", "read_probe"), "sticky"), folder=None)
    assert found.code == 1
    assert "the device was lost 3 times in a row" in found.err
    assert f"kvplan profile --device cuda --budget 600s -o {tmp_path / 'mine.yaml'} --resume" in found.err
    assert "illegal memory access" in found.err.splitlines()[-1]


def test_energy_degrades_with_a_reason_where_memory_holds_no_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "open_timer", partial(fake_cuda.open_timer, counts=True))
    found = cuda.cuda_device(frozenset())
    try:
        assert found.energy and timer(counts=True).about()["energy"] and not timer().about()["energy"]
        assert found.more() == {
            "energy_note": "no energy: 134,217,728 elements of float32 are more than the pool holds"
        }
    finally:
        found.close()


@pytest.mark.usefixtures("real_launcher")
def test_energy_is_joules_above_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_timer, "CUDA_ANCHORS", ANCHORS)
    monkeypatch.setattr(cuda_timer, "window", partial(cuda_timer.window, length=0.05))
    found = timer(counts=True).energy()["energy"]
    for name, probe in zip(("copy", "gemm"), ANCHORS, strict=True):
        took = 4e-6 + probe.moved / 2e12
        said = found[name]["joules_per_byte" if name == "copy" else "joules_per_flop"]
        assert said == pytest.approx(500 * took / (probe.moved if name == "copy" else probe.flops), rel=0.05)
    with pytest.raises(Failed, match="this device is made up"):
        timer().energy()


def test_shapes_larger_than_the_free_memory_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "open_timer", fake_cuda.open_timer)
    found = cuda.cuda_device(frozenset())
    try:
        count = len(list(cuda_probes(True))) - len(found.probes)
        assert count > 0
        assert f"left out: {count} shapes larger than 314.57 MB of free memory" in found.remark
        assert max(p.moved for p in found.probes) < 600 * 2**20 / 2
        with pytest.raises(TooLarge, match="more than the pool holds"):
            found.timer.sample(cuda.CUDA_ANCHORS[0])
        assert found.timer.sample(found.probes[0]).repeats > 1
    finally:
        found.close()


def timer(**more: Any) -> cuda_timer.CudaTimer:
    return fake_cuda.open_timer(frozenset(), **more)


@pytest.fixture
def real_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_calls, "launcher", cuda_calls.launcher)  # restored afterwards


@pytest.mark.usefixtures("real_launcher")
def test_graphs_share_one_pool_that_outlives_them() -> None:
    clock = timer()
    probe = small(True)[0]
    for _ in range(3):  # dropped each time: a pool is gone with its last graph
        assert clock.seconds(partial(clock.builder.call, probe)) > 4e-6
    clock.sample(probe)
    assert list(clock.torch.cuda.device.pools.values()) == [2]
    clock.release()
    assert list(clock.torch.cuda.device.pools.values()) == [1]
    assert clock.sample(probe).time == pytest.approx(clock.sample(probe).time)


@pytest.mark.usefixtures("real_launcher")
def test_recordings_go_when_memory_runs_short() -> None:
    clock = timer()
    for probe in small(True)[:6]:
        clock.sample(probe)
    assert len(clock.recordings) == 1  # of 80 GB only 0.6 GB are free
    clock.torch.cuda.device.free = 40 * 2**30
    for probe in small(True)[:6]:
        clock.sample(probe)
    assert len(clock.recordings) == 6


@pytest.mark.usefixtures("real_launcher")
def test_an_out_of_memory_that_giving_back_cures_is_none() -> None:
    clock = timer()
    one, other = small(True)[:2]
    clock.sample(one)
    plain, cleared = clock.builder.call, []

    def short(probe: probes.Probe) -> Any:
        if clock.recordings or not cleared:
            cleared.append(1)
            clock.torch.cuda.device.fail("memory")
        return plain(probe)

    clock.torch.cuda.device.free = 40 * 2**30
    clock.builder.call = short  # type: ignore[method-assign]
    assert clock.sample(other).time > 0
    assert cleared == [1]


@pytest.mark.usefixtures("real_launcher")
def test_every_operator_of_the_plan_is_captured_within_the_rules() -> None:
    clock = timer(free=900 * 2**20)
    seen = {}
    for probe in sorted(cuda_probes(True), key=lambda p: p.moved):
        seen.setdefault((probe.group, probe.kernel), probe)
    assert len(seen) == 20
    for probe in seen.values():
        found = clock.sample(probe)
        assert found.time > 4e-6
        assert 1 <= found.repeats <= cuda_timer.MOST_REPEATS


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"hip": "6.3", "major": 9, "minor": 4, "gcnArchName": "gfx942:sramecc+"}, "gfx942 has e4m3fnuz"),
        ({"major": 8, "minor": 6}, "it needs compute capability 8.9, this GPU has 8.6"),
        ({"hip": "7.0", "major": 9, "minor": 5, "gcnArchName": "gfx950"}, ""),
        ({}, ""),
    ],
)
@pytest.mark.usefixtures("real_launcher")
def test_fp8_is_left_out_where_it_is_another(more: dict[str, Any], words: str) -> None:
    about = timer(**more).about()
    assert about["fp8"] == (not words)
    assert words in about["remark"]
    assert ("hip" in about["facts"]) == ("hip" in more)


@pytest.mark.usefixtures("real_launcher")
def test_inputs_hold_no_nan_in_any_type_and_outputs_leave_them_alone() -> None:
    pool = cuda_calls.pool_of(torch, "cpu", 2**24)
    for name in ("float32", "bfloat16", "fp8"):
        assert torch.isfinite(pool.cut(name, 2**20).float()).all()
    clock = timer()
    kept = clock.builder.pool.buffers["int8"].clone()
    for kind in ("copy", "write"):
        clock.builder.call(next(p for p in cuda_probes(True) if p.kind == kind))
    clock.builder.outputs.buffers["float32"].fill_(3.0)
    assert torch.equal(clock.builder.pool.buffers["int8"], kept)


def test_a_reason_is_one_line_of_what_was_raised_first() -> None:
    try:
        try:
            raise torch.AcceleratorError(fake_cuda.ILLEGAL)
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
    except RuntimeError as error:
        assert reason(error) == "CUDA error: an illegal memory access was encountered"
    assert reason(ValueError("a\x1b[31m\nb" + "c" * 1000 + "end")).startswith("ValueError: a [31m bccc")
    assert len(reason(ValueError("c" * 1000))) == profiling.LONGEST
    assert reason(MemoryError()) == "MemoryError"


def test_one_gpu_and_a_build_without_nccl_need_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda.Torch(fake_cuda.Device({}, 2**30))
    fake.cuda.nccl.version = lambda: 1 / 0
    monkeypatch.setattr(device, "torch_module", lambda: fake)
    monkeypatch.setattr(cuda, "open_timer", fake_cuda.open_timer)
    device.find("cuda").close()
    fake.cuda.device_count = lambda: 2
    found = device.find("cuda")
    found.close()
    assert "no all-reduce: torch has no NCCL" in found.remark
    fake.cuda.nccl.version = lambda: (2, 27, 3)
    fake.distributed.is_nccl_available = lambda: True
    assert device.nccl(fake) == "nccl-2.27.3"


def test_a_process_that_does_not_start_says_why() -> None:
    with pytest.raises(worker.Lost, match="no device today"):
        worker.Worker(fake_cuda.broken).ask("anything")
    with pytest.raises(worker.Lost, match="killed by SIGKILL"):
        worker.Worker(signal.raise_signal, signal.SIGKILL).ask("anything")
