"""What kernels say of GPUs without measured servers."""

from math import exp, log

import pytest
from serving_rows import entries, servers

from kvplan import catalog
from kvplan.api.calibrate import of_kernels
from kvplan.api.kernel_profiles import known, predictor
from kvplan.measuring.kernels.shares import EXPERT_KERNELS, LEAST, LINKS, MOST, REFERENCES, kernel_factors, shares
from kvplan.measuring.serving.problem import start_of
from kvplan.specs.calibration import ALL
from kvplan.specs.identity import Identity


def test_a_perfect_kernel_reaches_all_of_the_datasheet() -> None:
    gpu = catalog.gpu("h200")

    def time(shape) -> float:
        s = shape.sizes
        if shape.kind == "gemm":
            memory, compute = 2 * s["n"] * s["k"] / gpu.bandwidth, 2 * s["m"] * s["n"] * s["k"] / gpu.wide
            return compute if s["m"] > 1000 else memory
        heads = s["q_heads"] * s["head_dim"]
        if shape.kind == "prefill_attention":
            return 4 * heads * s["isl"] ** 2 / 2 / gpu.wide
        return 2 * 2 * s["batch"] * s["kv_heads"] * s["head_dim"] * s["kv_len"] / gpu.bandwidth

    assert shares(gpu, time) == pytest.approx({"weights": 1.0, "rate16": 1.0, "cache": 1.0, "prompt": 1.0})


def test_factors_are_for_architectures_without_servers_only() -> None:
    gpus = [catalog.gpu(name) for found in known(()) for name in found.kernels]
    found = kernel_factors(predictor(()), gpus, ["h100-sxm", "h200", "b200"])
    assert set(found) == {"ampere", "ada"}
    assert all(LEAST <= f <= MOST for factors in found.values() for f in factors.values())
    assert found["ampere"]["rate16"] > 1 > found["ada"]["rate16"]  # A100 multiplies nearer its datasheet, L40S farther
    assert kernel_factors(predictor(()), gpus, []) == {}


def test_the_shipped_profile_uses_them_on_gpus_without_servers() -> None:
    profile = catalog.serving_profile()
    told, plain = profile.moves["kernels"]["ampere"], catalog.gpu("mi300x").architecture
    assert plain not in profile.moves["kernels"]
    known_as, unknown = (Identity(gpu="nonesuch", engine="vllm", architecture=a) for a in ("ampere", ""))
    levels = ("architectures", "platforms")
    share = [
        profile.moved(who)["cache"]
        - sum(profile.moves.get(level, {}).get(who.members()[level], {}).get("cache", 0.0) for level in levels)
        for who in (known_as, unknown)
    ]
    assert share[0] - share[1] == pytest.approx(told["cache"])


def test_the_shipped_factors_are_those_of_the_shipped_kernels() -> None:
    gpus = [catalog.gpu(name) for found in known(()) for name in found.kernels]
    profile = catalog.serving_profile()
    found = {**kernel_factors(predictor(()), gpus, REFERENCES), **EXPERT_KERNELS}
    links = {who: {"link": share / 0.5} for who, share in LINKS.items()}
    found = {who: {**found.get(who, {}), **links.get(who, {})} for who in {*found, *links}}
    shipped = {who: {t: exp(m) for t, m in moves.items()} for who, moves in profile.moves["kernels"].items()}
    assert set(shipped) == set(found)
    for who, factors in found.items():
        assert shipped[who] == pytest.approx(factors, rel=1e-3)


def edited(tmp_path, name: str, factor: float):
    """Write a shipped profile of kernels with its products' rates and bandwidths multiplied."""
    import yaml

    from kvplan.catalog.shelves import shipped
    from kvplan.units import parse

    raw = yaml.safe_load(shipped("calibrations", name))
    for engines in raw["kernels"].values():
        for kinds in engines.values():
            for entry in kinds.get("gemm", {}).values():
                found = entry["all"]["coefficients"]
                for coefficient, unit in (("bandwidth", "B/s"), ("rate", "FLOP/s"), ("operand_bandwidth", "B/s")):
                    if coefficient in found:
                        found[coefficient] = f"{parse(found[coefficient], unit) * factor:.6g} {unit}"
    path = tmp_path / f"times-{factor:g}.yaml"  # a process reads a profile once
    path.write_text(yaml.safe_dump(raw), "utf-8")
    return path


@pytest.mark.parametrize("gpu", ["l40s", "h100-sxm"])
def test_a_profile_of_kernels_of_ones_own_moves_a_plan(run, tmp_path, gpu: str) -> None:
    """The published kernels change nothing; products half as fast make prompts and steps slower."""

    def row(*profile: object) -> dict:
        asked = ("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", gpu, "--tp", "1", "--on", "2026-11-23", "--json")
        return next(r for r in run(*asked, *profile).json["rows"] if r["technique"] == "baseline")

    plain = row()
    same = row("--profile", edited(tmp_path, gpu, 1.0))
    assert same["ttft"] == pytest.approx(plain["ttft"], rel=1e-3) and same["tpot"] == pytest.approx(
        plain["tpot"], rel=1e-3
    )
    slow = row("--profile", edited(tmp_path, gpu, 0.5))
    assert slow["ttft"] > 1.3 * plain["ttft"] and slow["tpot"] > 1.1 * plain["tpot"]


def test_a_profile_without_products_is_refused_in_one_line(run, tmp_path) -> None:
    path = tmp_path / "cpu.yaml"
    path.write_text("name: cpu\ntitle: x\nsource: {kind: measured, ref: here, date: 2026-11-23}\ntier: measured here\n")
    said = run("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", "h100", "--profile", path)
    assert said.code == 1 and "holds neither servers nor kernels of a GPU" in said.err


@pytest.mark.slow
def test_energy_a_profile_measured_is_that_of_the_plan(run, tmp_path) -> None:
    """Twice the watts, at work and waiting, are twice the joules of the same plan."""
    import yaml

    def joules(watts: int) -> float:
        path = edited(tmp_path, "h100-sxm", 1 + watts / 1e9)
        raw = yaml.safe_load(path.read_text("utf-8"))
        power = {"power": f"{watts} W"}
        raw["energy"] = {"idle": f"{watts / 5:g} W", "gemm": power, "copy": dict(power)}
        path = tmp_path / f"watts-{watts}.yaml"
        path.write_text(yaml.safe_dump(raw), "utf-8")
        asked = ("recommend", "-w", "rag", "-m", "llama3.1-8b", "-g", "h100-sxm", "--on", "2026-11-23", "--json")
        return run(*asked, "--profile", path).json["recommended"]["joules_per_query"]

    assert joules(600) == pytest.approx(2 * joules(300), rel=1e-6)


def test_a_plans_energy_by_part_is_what_its_seconds_draw(run) -> None:
    """The parts of a query draw 75 % of 700 W on an H100 where nothing was measured."""
    asked = ("recommend", "-w", "rag", "-m", "llama3.1-8b", "-g", "h100-sxm", "--on", "2026-11-23", "--json")
    found = run(*asked).json["recommended"]
    drawn = {line["name"]: line["joules_per_query"] for line in found["energy"]}
    waiting = sum(drawn.get(name, 0.0) for name in ("idle", "spares", "unused"))
    used = sum(drawn.values()) - waiting
    assert used == pytest.approx(found["gpu_seconds_per_query"] * 0.75 * 700, rel=1e-6)
    assert waiting > 0 and used + waiting == pytest.approx(found["joules_per_query"])


def test_experts_begin_where_their_kernels_are_in_a_number_format() -> None:
    """A gpt-oss's 4-bit experts are unpacked on an H200, at 0.84 of the mean bandwidth, native on a B200, at 1.26."""
    rows = servers([*entries("gpt-oss-120b", "h200", "vllm")[:1], *entries("gpt-oss-120b", "b200", "vllm")[:1]], False)
    place = [term.name for term in ALL].index("experts")
    found = [start_of(row, None, of_kernels())[place] for row in rows]
    assert found == pytest.approx([log(0.84), log(1.26)])


def test_links_begin_at_what_collectives_of_long_prompts_reach_there() -> None:
    """Of the prior's half, 0.677 on Hopper and 0.502 on Blackwell, whose links are twice as wide."""
    rows = servers([*entries("gpt-oss-120b", "h200", "vllm")[:1], *entries("gpt-oss-120b", "b200", "vllm")[:1]], False)
    place = [term.name for term in ALL].index("link")
    found = [start_of(row, None, of_kernels())[place] for row in rows]
    assert found == pytest.approx([log(0.677 / 0.5), log(0.502 / 0.5)])
    assert "weights" in of_kernels()["ampere"]  # beside what other kernels say of it
