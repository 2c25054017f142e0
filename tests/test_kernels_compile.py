"""Every kernel compiled, with no GPU, for the GPUs there are: shared memory as predicted and within limits, no spills.

What compiles follows from the kernels, Triton's release and the processor alone. So what came out is kept in
`golden/kernels` under a digest of these: while it holds, one family a generation is compiled and must come out the
same; once it does not, every kernel is. `pytest tests/test_kernels_compile.py --update-golden` compiles all of them and
writes the files anew. Binaries are kept in pytest's cache folder besides.
"""

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from kvplan.kernels.tiles import SHARED, TABLE, Shape, amd, nvidia, shared, tiles

import kvplan

#: what every kernel compiled to, a file a generation
KEPT = Path(__file__).parent / "golden" / "kernels"
#: kernels whose tiles of keys and values must arrive by 16-byte asynchronous copies
PIPELINED = {
    "decode_split_kernel",
    "quantised_split_kernel",
    "absorbed_split_kernel",
    "turned_split_kernel",
    "fused_split_kernel",
    "streaming_split_kernel",
    "prefill_kernel",
    "prefill_scores_kernel",
}
#: compiled in one process each where all is: those of a generation share what comes before assembly
GENERATIONS = ((80, 86, 89), (90,), (100,))
#: a family that is compiled whatever is kept: it has pipelined loads, matrix products, and kernels without either
ALWAYS = "decode"
#: files of the kernels' folder that nothing is compiled from
BESIDE = {"reference.py", "cases.py"}
#: their second half starts at 40 or 20 bytes, where no 16 can be loaded at once
NARROW = {"int8, D 80, 1 scale", "int4, D 80, 1 scale"}
#: columns of tensor memory of a multiprocessor, from sm_100 on
TENSOR_COLUMNS = 512


def in_triton(folder: Path, *arguments: str) -> str:
    """Return what Python prints in a process of its own: in this one triton may be interpreting."""
    env = {**os.environ, "TRITON_CACHE_DIR": str(folder)}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-W", "ignore", *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def binaries(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the folder where compiled kernels are kept."""
    cache = getattr(request.config, "cache", None)
    return tmp_path if cache is None else cache.mkdir("kvplan-triton")


def folder_of_kernels() -> Path:
    return next(Path(path) / "kernels" for path in kvplan.__path__ if (Path(path) / "kernels" / "tiles.py").is_file())


def digest() -> str:
    """Return a digest of all that decides what the kernels compile to."""
    found = hashlib.sha256(f"{version('triton')} {platform.machine()}".encode())
    for path in sorted(folder_of_kernels().glob("*.py")):
        if path.name not in BESIDE:
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def compiled(capabilities: tuple[int, ...], binaries: Path, *families: str) -> list[str]:
    """Return what kernels compile to, a line of JSON a target and family."""
    return in_triton(binaries, "-m", "kvplan.kernels.aot", ",".join(map(str, capabilities)), *families).splitlines()


#: what ALWAYS compiled to in this process of tests
ANEW: list[dict[str, Any]] = []


def always(binaries: Path) -> list[dict[str, Any]]:
    """Return what the family that is compiled whatever is kept compiles to, for all GPUs, in one process."""
    if not ANEW:
        everywhere = tuple(capability for capabilities in GENERATIONS for capability in capabilities)
        ANEW.extend(json.loads(line) for line in compiled(everywhere, binaries, ALWAYS))
    return ANEW


@pytest.mark.slow
@pytest.mark.parametrize("capabilities", GENERATIONS, ids=lambda some: "+".join(map(str, some)))
def test_every_configuration_compiles_within_a_gpus_shared_memory(
    capabilities: tuple[int, ...], binaries: Path, request: pytest.FixtureRequest
) -> None:
    path = KEPT / f"{'+'.join(map(str, capabilities))}.jsonl"
    stamp, *lines = path.read_text("utf-8").splitlines() if path.is_file() else [""]
    made_from = json.dumps({"made from": digest()})
    if stamp != made_from or request.config.getoption("--update-golden"):
        lines = compiled(capabilities, binaries)
        if request.config.getoption("--update-golden"):
            path.write_text("".join(f"{line}\n" for line in (made_from, *lines)), "utf-8")
    answers = [json.loads(line) for line in lines]
    if stamp == made_from:
        again = [answer for answer in always(binaries) if answer["capability"] in capabilities]
        kept = [answer for answer in answers if answer.get("family") == ALWAYS]
        assert [answer for answer in again if "family" in answer] == kept
    for capability in capabilities:
        check(capability, [answer for answer in answers if answer["capability"] == capability])


def check(capability: int, answers: list[dict[str, Any]]) -> None:
    """Check what all kernels compiled to for a target."""
    assert [answer["missed"] for answer in answers if "missed" in answer] == [[]]
    rows = [row for answer in answers for row in answer.get("kernels", ())]
    refused = {name: why for answer in answers for name, why in answer.get("refused", {}).items()}
    assert len(rows) > 30
    for row in rows:
        assert row["capability"] == capability
        assert row["shared"] <= SHARED[capability], row
        assert row["tensor"] <= TENSOR_COLUMNS, row
        assert row["spills"] == 0, row
        assert not row["serialised"], row
        assert row["shared"] <= row["predicted"] or not row["predicted"], row
        if row["kernel"] not in PIPELINED:
            continue
        assert row["mma"] + row["grouped"] > 0 or "4 bytes" in row["variant"], row
        if row["stages"] > 1 and row["variant"] not in NARROW:
            assert row["wide_async_loads"] > 0, row
            assert row["waited"] == 0, row
            assert row["predicted"] <= 1.4 * row["shared"] + 4096, row
    too_wide = {"R 512 each, D 128"} if SHARED[capability] < 200 << 10 else set()
    no_fp8 = {name for name in refused if "fp8" in name}
    assert set(refused) == too_wide | no_fp8
    assert bool(no_fp8) == (capability < 89)
    assert all("shared memory" in why if name in too_wide else "sm_89" in why for name, why in refused.items())


def test_a_change_of_any_kernel_compiles_all_of_them_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    shutil.copytree(folder_of_kernels(), tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(f"{__name__}.folder_of_kernels", lambda: tmp_path / "kernels")
    assert digest() == before
    for name, same in (("reference.py", True), ("tiles.py", False), ("h2o.py", False)):
        last, path = digest(), tmp_path / "kernels" / name
        path.write_text(path.read_text("utf-8") + "\n", "utf-8")
        assert (digest() == last) == same, name


#: what runs in one process, which takes as long to start as some of it to run: each a name and its program
PROGRAMS = {
    "generations": """
        import re
        from kvplan.kernels import aot
        launches = aot.decode(128, 4), aot.quantised("int8", 80, 1), aot.absorbed(256, 32, 64), aot.prefill(80)
        for capability in (80, 86, 89):
            with aot.capture(capability, sharing=False) as made:
                for launch in launches:
                    launch()
            for one in made:
                ptx = one.kernel.asm["ptx"]
                assert f".target sm_{capability}" in ptx
                print(one.shape, hash(re.sub(r"[.]target sm_[0-9]+", "", ptx)), sep="|")
    """,
    "launches": """
        import torch
        from kvplan.kernels import aot
        from kvplan.measuring.device.cuda_calls import Builder
        from kvplan.measuring.device.cuda_probes import cuda_probes
        from kvplan.measuring.device.inputs import BufferPool
        types = {
            "float32": torch.float32, "bfloat16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "int8": torch.int8,
            "int4": torch.uint8,
        }
        for capability in (80, 86, 89, 90, 100):
            pool = BufferPool({name: torch.empty(2**40, dtype=kind, device="meta") for name, kind in types.items()})
            known, launched = aot.launches(capability), set()
            builder = Builder(torch, pool, pool, "meta")
            for probe in cuda_probes(fp8=capability >= 89):
                if probe.kernel != "torch_matmul":
                    with aot.capture(capability, compiling=False) as made:
                        builder.call(probe)()
                    assert made, probe
                    launched |= {one.shape for one in made}
            print(capability, len(launched))
            for one in sorted(launched - known):
                print("unknown:", capability, dict(one))
    """,
    "refusal": """
        import torch
        from kvplan.kernels.decode_attention import decode_attention as f
        q, kv = torch.zeros(1, 8, 64), torch.zeros(1, 16, 2, 64)
        try:
            f(q, kv, kv, torch.ones(1, dtype=torch.int32))
        except ValueError as error:
            print(error)
    """,
}
#: what the programs printed, and what stopped them, by name
PRINTED: dict[str, tuple[str, str]] = {}


def printed(name: str, binaries: Path) -> str:
    """Return what a program printed: all of them run the first time, whatever becomes of one of them."""
    if not PRINTED:
        code = (
            "import contextlib, io, json, sys, textwrap, traceback\n"
            "for name, program in json.loads(sys.argv[1]).items():\n"
            "    out, error = io.StringIO(), ''\n"
            "    try:\n"
            "        with contextlib.redirect_stdout(out):\n"
            "            exec(textwrap.dedent(program), {})\n"
            "    except Exception:\n"
            "        error = traceback.format_exc()\n"
            "    print(json.dumps([name, out.getvalue(), error]))\n"
        )
        lines = in_triton(binaries, "-c", code, json.dumps(PROGRAMS)).splitlines()
        PRINTED.update({name: (out, error) for name, out, error in map(json.loads, lines)})
    out, error = PRINTED[name]
    assert not error, error
    return out


@pytest.mark.slow
def test_gpus_of_a_generation_differ_in_assembly_alone(binaries: Path) -> None:
    """What `aot` makes once for sm_80, sm_86 and sm_89 is what Triton makes for each."""
    seen: dict[str, list[str]] = {}
    for line in printed("generations", binaries).splitlines():
        shape, digest = line.split("|")
        seen.setdefault(shape, []).append(digest)
    shared_by_all = [digests for digests in seen.values() if len(digests) == 3]
    assert len(shared_by_all) > 3
    assert all(len(set(digests)) == 1 for digests in seen.values())


@pytest.mark.slow
def test_whatever_a_profile_launches_is_a_shape_that_compiles(binaries: Path) -> None:
    """Each probe of a GPU's plan, launched with memory that is not there, has a tile and constants of some variant."""
    lines = printed("launches", binaries).splitlines()
    assert [line for line in lines if line.startswith("unknown")] == []
    assert [line.split()[0] for line in lines] == ["80", "86", "89", "90", "100"]
    assert all(int(line.split()[1]) > 15 for line in lines)


@pytest.mark.parametrize("key", TABLE, ids=str)
def test_a_smaller_gpu_never_gets_a_larger_tile(key: tuple[str, float]) -> None:
    """And what it gets fits it, or it is refused; the table has no row that nothing takes."""
    taken = set()
    family, size = key
    for capability, width, heads, beside, rotated in product(
        SHARED, (16, 64, 80, 128, 192, 256, 384, 512), (1, 16, 32, 48, 128), (0, 64, 128), (False, True)
    ):
        shape = Shape(family, width, heads, size, beside, rotated)
        last = 1 << 30
        for room in (1 << 30, *sorted(set(SHARED.values()), reverse=True), 64 << 10, 48 << 10):
            try:
                config = tiles(shape, nvidia(capability, room))
            except ValueError as error:
                assert str(error)[:4] in ("head", "rank")
                break
            found = shared(shape, config, capability)
            assert found <= room
            assert found <= last
            last = found
            taken.add(config)
    assert taken == {row.config for row in TABLE[key]}


def test_what_a_gpu_can_compute_with_decides_its_fp8() -> None:
    assert nvidia(80).fp8 == nvidia(86).fp8 == ()
    assert nvidia(89).fp8 == nvidia(90).fp8 == nvidia(100).fp8 == amd("gfx950").fp8 == ("float8_e4m3fn",)
    assert amd("gfx942:sramecc+:xnack-").fp8 == ("float8_e4m3fnuz",)
    assert nvidia(77).shared == min(SHARED.values())


def kernels() -> list[tuple[str, ast.FunctionDef]]:
    """Return every function of the kernels that Triton compiles, with its file."""
    trees = {path.name: ast.parse(path.read_text("utf-8")) for path in folder_of_kernels().glob("*.py")}
    found = [(name, node) for name, tree in trees.items() for node in ast.walk(tree)]
    return [
        (name, node) for name, node in found
        if isinstance(node, ast.FunctionDef) and any("triton.jit" in ast.unparse(d) for d in node.decorator_list)
    ]  # fmt: skip


def test_masked_loads_say_what_they_load_elsewhere() -> None:
    loads = [
        (name, call) for name, kernel in kernels() for call in ast.walk(kernel)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "tl.load"
    ]  # fmt: skip
    assert len(loads) > 50
    for name, call in loads:
        given = {keyword.arg for keyword in call.keywords}
        assert ("mask" in given) == ("other" in given), f"{name}: {ast.unparse(call)}"


@pytest.mark.slow
def test_without_a_gpu_and_an_interpreter_a_launcher_says_so(binaries: Path) -> None:
    said = printed("refusal", binaries)
    assert said == "tensors on the CPU: kernels run on a GPU, or interpreted with TRITON_INTERPRET=1\n"
