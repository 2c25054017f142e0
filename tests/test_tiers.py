"""Tiers of prefix caches: their sizes and times by hand, and what they change in a plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.api import values
from kvplan.api.confirm import simulation_of
from kvplan.api.sites import PUBLISHED
from kvplan.errors import KvplanError
from kvplan.kv import spelling
from kvplan.kv.tiers import C2C, TIERS, bandwidth
from kvplan.perf.mixture import Mixture
from kvplan.perf.prompts import PromptClass
from kvplan.perf.queueing import Wait
from kvplan.perf.token_times import Fetch, FirstToken
from kvplan.planning.confirm import ROUTER
from kvplan.planning.planned import PlannedReplica
from kvplan.planning.prompts import kept_prefixes
from kvplan.planning.reuse import found_again
from kvplan.planning.simulating.simulate import simulate
from kvplan.report.headline import answer
from kvplan.units import MONTH

DAY = "2026-11-24"


def test_a_hit_is_a_transfer_and_a_miss_a_prefill() -> None:
    """80 % of 66,840 tokens of Llama-3.1-8B are 53,512 x 131,072 B = 7.01 GB, at 51 GB/s 0.1375 s."""
    found = kvplan.techniques("llama3.1-8b", "doc-qa", techniques="fp8", tp=1, on=DAY)
    gpu, cpu, ssd, remote = found.tiers
    share = found.workload.prefix_share
    prefix = round(found.estimate.query.prompt * share) * 131_072
    assert cpu.transfer == pytest.approx(prefix / 51e9) and ssd.transfer == pytest.approx(prefix / 6e9)
    lone = found.rows[0].row.lone.ttft
    assert cpu.miss == lone and cpu.hit == pytest.approx(cpu.transfer + lone * (1 - share)) and gpu.transfer is None
    assert gpu.room < 200e9, "each tier holds what those before it do: the larger is the room, not the sum"
    assert [t.room for t in (cpu, ssd, remote)] == pytest.approx([200e9, 3e12, 20e12])
    assert gpu.found <= cpu.found <= ssd.found <= remote.found <= 1 and cpu.hit < cpu.miss
    # what computing the prefix costs, over what its bytes cost a second
    price = found.estimate.sites[0].price.price
    assert cpu.worth == pytest.approx(lone * share * price / (prefix / 1e9 * TIERS["cpu"].usd / MONTH))
    assert cpu.month == pytest.approx(200 * 0.17)


def test_prefixes_are_found_by_che_s_approximation() -> None:
    found = kvplan.techniques("llama3.1-8b", "doc-qa", techniques="fp8", tp=1, on=DAY)
    row = found.rows[0].row
    for tier in found.tiers:
        requests = tier.room / row.layout.stored(row.context)
        rate = 1 / row.query_seconds
        assert tier.found == pytest.approx(float(kept_prefixes(found.workload, room=requests, rate=rate)))


def test_no_tiers_without_shared_prefixes_and_superchips_read_faster() -> None:
    assert kvplan.techniques("llama3.1-8b", "chat", techniques="fp8", on=DAY).tiers == ()
    assert bandwidth(TIERS["cpu"], "gb200") == C2C > bandwidth(TIERS["cpu"], "h100-sxm") == 51e9
    assert bandwidth(TIERS["ssd"], "gb200") == TIERS["ssd"].bandwidth


def test_offloading_finds_more_prefixes_and_each_waits_for_its_transfer() -> None:
    asked = {"gpus": "h100", "ttft": "30s", "weights": "bf16", "on": DAY}
    first, second = (
        kvplan.recommend("doc-qa", "llama3.1-70b", techniques=name, **asked) for name in ("baseline", "offload:cpu")
    )
    plain, beside, bill = first.plan, second.plan, second.bill
    assert plain is not None and beside is not None
    assert beside.quality.drop == 0 and beside.served_by_engine
    line = next(line for line in bill.lines if line.name == "host memory")
    assert line.amount * MONTH == pytest.approx(beside.gpus * 200 * 0.17), "200 GB a GPU at 17 cents"
    assert bill.total == pytest.approx(sum(each.amount for each in bill.lines))
    assert bill.per("query") == pytest.approx(beside.usd) and "host memory" not in [x.name for x in first.bill.lines]
    assert second.usd[1] == pytest.approx(beside.usd), "the point is the middle of the range"
    kept = next(each.amount for each in bill.lines_per("query") if each.name == "host memory")
    assert beside.cached_share >= plain.cached_share and beside.usd - kept <= plain.usd * 1.001


def test_a_plan_that_offloads_says_where_prefixes_wait_and_is_called_uncompressed_by_nobody() -> None:
    names = ["baseline", "offload:cpu"]
    asked = {"gpus": "b200", "ttft": "10s", "weights": ["bf16", "fp8"], "techniques": names, "on": DAY}
    found = kvplan.recommend("doc-qa", "llama3.1-70b", queries_per_day=40_000, **asked)
    assert found.plan.technique == "offload:cpu" and "prefixes kept in host memory too" in answer(found)
    (reason,) = (line for line in found.why if line.startswith("offload:cpu costs"))
    assert "less than the best plan that keeps prefixes on its GPUs alone (uncompressed on" in reason
    assert [spelling.kept_in(name) for name in ("fp8", "fp8+offload:ssd")] == ["", "local SSD"]
    assert not spelling.keeps_all("fp8+offload:ssd")


def test_a_tier_is_a_line_of_an_estimate_that_sums() -> None:
    found = kvplan.estimate("llama3.1-8b", "32k", gpus="h100", tp=1, techniques=["offload:ssd"], on=DAY)
    plain, disk = (row.cost for row in found.rows)
    line = disk.lines[-1]
    assert [each.name for each in disk.lines] == ["prefill", "decode", "local SSD"]
    assert line.amount == pytest.approx(3000 * 0.01 / MONTH * found.rows[1].query_seconds)
    assert disk.per_query == pytest.approx(plain.per_query + line.amount)
    with pytest.raises(KvplanError, match="did you mean 'offload:cpu' or 'offload:ssd'"):
        kvplan.estimate("llama3.1-8b", "32k", gpus="h100", techniques=["offload:tape"], on=DAY)


CHAINS = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True), max_size=30)


@given(CHAINS, st.integers(0, 2000))
def test_prefixes_of_a_trace_are_found_as_by_hand(prompts: list[list[int]], room: int) -> None:
    """A list of blocks in the order of their last use, cut from its old end."""
    chains = [tuple((key, 100 * (i + 1)) for i, key in enumerate(keys)) for keys in prompts]
    found = dict.fromkeys((room, 10**9), 0)
    for size in found:
        order: list[int] = []
        for keys in prompts:
            here = next((i for i, key in enumerate(keys) if key not in order), len(keys))
            found[size] += 100 * here
            order = ([key for key in order if key not in keys] + keys)[-(size // 100) :] if size >= 100 else []
    shares, again = found_again(chains, [room])
    tokens = sum(100 * len(keys) for keys in prompts)
    assert shares[0] == pytest.approx(found[room] / found[10**9] if found[10**9] else 0.0)
    assert again == pytest.approx(found[10**9] / tokens if tokens else 0.0)


def test_a_trace_says_how_often_prefixes_are_found(tmp_path) -> None:
    """Two documents in turn, both of which fit every memory but that of a GPU whose batch fills it."""
    blocks = ([0, 1], [2, 3])
    rows = [
        f'{{"timestamp": {i}, "input_length": 1024, "output_length": 8, "hash_ids": {blocks[i % 2]}}}' for i in range(6)
    ]
    file = tmp_path / "turns.jsonl"
    file.write_text("\n".join(rows))
    found = kvplan.techniques("llama3.1-8b", "doc-qa", techniques="fp8", tp=1, trace=str(file), on=DAY)
    assert [t.by for t in found.tiers] == ["trace"] * 4 and [t.found for t in found.tiers[1:]] == [1.0] * 3
    file.write_text(rows[0].replace(', "hash_ids": [0, 1]', ""))
    with pytest.raises(KvplanError, match="names no shared blocks"):
        kvplan.techniques("llama3.1-8b", "doc-qa", techniques="fp8", tp=1, trace=str(file), on=DAY)


def test_offloading_keeps_to_the_host_memory_that_the_price_states(tmp_path: Path) -> None:
    """Nebius lets an L40S with 32 GiB: four fifths are 27.5 GB a GPU, not the 200 GB assumed where nobody says."""
    asked = {"gpus": "l40s", "ttft": "30s", "techniques": "offload:cpu", "on": DAY}
    stated = kvplan.recommend("doc-qa", "llama3.1-8b", **asked)
    mine = tmp_path / "mine.csv"
    mine.write_text("gpu,price\nl40s,1.5484\n", encoding="utf-8")
    assumed = kvplan.recommend("doc-qa", "llama3.1-8b", prices=str(mine), **asked)
    small, large = stated.site.tier("cpu"), assumed.site.tier("cpu")
    assert small.room == pytest.approx(0.8 * 32 * 2**30) and large is TIERS["cpu"]
    assert stated.plan.cached_share < assumed.plan.cached_share and stated.needs.host_room == small.room
    line, other = (next(x for x in a.bill.lines if x.name == "host memory") for a in (stated, assumed))
    assert line.amount == 0 and line.basis.startswith(
        "27 GB a GPU for prefixes, 80 % of the host memory that the GPU's"
    )
    assert other.amount > 0 and other.basis.startswith("200 GB a GPU for prefixes (assumption), at $0.17")
    (said,) = (text for text in stated.launch.missing if "host memory" in text)
    assert said.endswith("80 % of what the price of l40s states: the rest is the system's")


def test_host_memory_of_offers_and_servers(tmp_path: Path) -> None:
    """A GPU's part: as an offer has it, of two offers the smaller, of a server divided by its GPUs."""
    mine, servers = tmp_path / "mine.yaml", tmp_path / "own.yaml"
    mine.write_text(
        "source: {kind: quote, ref: us, date: 2026-01-01}\nprices:\n"
        "- {gpu: h100, price: 2 USD/h, from: 2026-01-01, host_memory: 90 GB}\n"
        "- {gpu: h100, price: 3 USD/h, from: 2026-01-01, host_memory: 60 GB}\n"
    )
    two = kvplan.estimate("llama3.1-8b", "32k", gpus="h100", prices=str(mine), techniques="offload:cpu", on=DAY)
    assert two.sites[0].cost.host_memory == 60e9 and two.sites[0].tier("cpu").room == pytest.approx(48e9)
    assert two.rows[1].cost.lines[-1].amount == 0, "the rent includes it"
    servers.write_text(
        "source: {kind: quote, ref: us, date: 2026-01-01}\n"
        "servers:\n- {gpu: h100, price: 270000 USD, gpus: 8, host_memory: 2 TB}\n"
    )
    owned = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", own=str(servers), techniques="fp8", on=DAY)
    assert owned.site.cost.host_memory == 250e9 and owned.site.tier("cpu").room == pytest.approx(200e9)
    for written, said in (("5 GB/h", "host_memory: expected"), ("5 MB", "host_memory: ")):
        mine.write_text(mine.read_text().replace("90 GB", written))
        with pytest.raises(KvplanError, match=said):
            kvplan.estimate("llama3.1-8b", "32k", gpus="h100", prices=str(mine), on=DAY)


def test_a_tier_holds_what_its_gpus_do_as_in_the_simulation() -> None:
    """Reads are written through: prefixes found are those of the larger memory, fetched those the GPUs have lost."""
    found = kvplan.recommend(
        "code-review", "llama3.1-70b", gpus="h100", weights="fp8", techniques="offload:cpu", ttft="30s", tpot="none",
        on=DAY,
    )  # fmt: skip
    plan, demand = found.plan, found.demand
    replica = PlannedReplica(demand=demand, plan=plan, site=found.site)
    room, tier = float(replica.home.room[0, 0]), float(replica.home.beside[0, 0])
    serving = plan.replicas - demand.spares
    rate = demand.waits_at[0] * demand.peak / serving
    kept = float(kept_prefixes(demand.workload, room=tier, rate=rate))
    (_, always), (again, held) = demand.workload.prefix_classes
    assert room < tier and plan.cached_share == pytest.approx(always + again * (held - always) * kept, rel=0.01)
    asked = replace(simulation_of(found, plan, values.day(DAY), PUBLISHED), router=ROUTER)
    o = simulate(asked, serving)
    assert o.hit_rate == pytest.approx(plan.cached_share, rel=0.05) and 0 < o.fetched < o.hit_rate
    assert plan.tpot == pytest.approx(o.tpot.at_percentile, rel=0.15)
    assert plan.ttft == pytest.approx(o.ttft.at_percentile, rel=0.15)


def test_a_fetched_prefix_delays_the_first_token_of_those_that_find_it_there() -> None:
    """Of three in four that find their prefix, half fetch it for 2 s: beyond 1 s are those and the 10 s of a miss."""
    classes = (PromptClass(weight=0.25, total=9, fresh=9), PromptClass(weight=0.75, total=9, fresh=1, between=1e9))
    m = Mixture(classes=classes, own=(10.0, 0.1), extra=(10.0, 0.1), service=(10.0, 0.1))
    none = Wait(chance=1e-12, mean=0.0)
    first = FirstToken(
        fixed=0.0, mixture=m, queue=none, memory=none, together=True, fetch=Fetch(share=0.5, seconds=2.0)
    )
    assert first.mean == pytest.approx(0.25 * 10 + 0.75 * 0.1 + 0.75 * 0.5 * 2)
    assert [first.beyond(t) for t in (0.05, 1.0, 3.0, 11.0)] == pytest.approx([1.0, 0.25 + 0.375, 0.25, 0.0])
    assert first.quantile(0.7) == pytest.approx(2.1, abs=0.01)
