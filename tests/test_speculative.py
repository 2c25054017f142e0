"""Speculative decoding as a dimension of the search: what it yields, takes and rests on, and what engines refuse."""

from dataclasses import replace

import pytest
from test_recommend import asked

import kvplan
from kvplan import catalog
from kvplan.api.memory import drafting
from kvplan.api.questions import draftings_of
from kvplan.catalog.servers.drafts import draft_file
from kvplan.errors import Incompatible, SpecError, UnknownName
from kvplan.kv.replica import weights
from kvplan.planning.searching.configurations import configurations
from kvplan.planning.searching.fitting import rooms
from kvplan.planning.speculation import accepted_share, draftings, not_started, share_of, yielded

ON = "2026-11-24"
CHAT = {"workload": "chat", "gpus": "h200", "techniques": "baseline", "weights": "fp8", "on": ON}
DEEPSEEK = ("recommend", "-w", "chat", "-m", "deepseek-v3", "-g", "h200", "-t", "baseline", "--on", ON)


@pytest.mark.parametrize(
    ("rate", "count", "tokens"), [(0.85, 1, 1.85), (0.5, 2, 1.75), (0.71, 7, 3.226), (0.0, 4, 1.0)]
)
def test_a_step_yields_what_is_accepted_in_a_row_and_one_token_more(rate: float, count: int, tokens: float) -> None:
    assert yielded(rate, count) == pytest.approx(tokens, abs=1e-3)


def test_the_share_taken_is_the_median_of_what_is_published_of_the_nearest_models() -> None:
    def share(name: str, kind: str) -> tuple[float, str]:
        return accepted_share(catalog.model(name), kind, catalog.acceptances())

    heads = sorted(share_of(t, k) for t, k in ((3.20, 7), (3.26, 7), (4.66, 7), (2.60, 3)))
    assert share("llama3.1-70b", "eagle3")[0] == pytest.approx((heads[1] + heads[2]) / 2)  # of its family
    assert share("llama3.1-8b", "eagle3")[0] == pytest.approx((share_of(3.20, 7) + share_of(2.60, 3)) / 2)  # its own
    assert share("qwen3-32b", "eagle3") == share("qwen3-14b", "eagle3")
    assert share("deepseek-v3", "mtp")[0] == pytest.approx(0.85)
    assert "other models" in share("falcon-40b", "eagle3")[1]
    assert share("llama3.1-70b", "model")[1].startswith("an assumption, as EAGLE-3 heads: the median of 4 published")
    for name in catalog.names("models"):
        for kind in ("eagle3", "mtp", "model"):
            assert 0.3 < share(name, kind)[0] < 0.95


@pytest.mark.parametrize(("tokens", "drafted"), [(1.85, 1), (3.2, 7), (1.0, 4), (2.99, 3)])
def test_the_share_accepted_is_that_at_which_a_step_yields_as_many(tokens: float, drafted: int) -> None:
    assert yielded(share_of(tokens, drafted), drafted) == pytest.approx(tokens, abs=1e-9)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{draft: medusa, model: a, family: a, drafted: 1, tokens: 1.5, task: t}", "draft"),
        ("{draft: mtp, model: a, family: a, drafted: 1, tokens: 2.5, task: t}", "1 drafted tokens yield less than 2"),
        ("{draft: mtp, model: a, drafted: 1, tokens: 1.5, task: t}", "family"),
    ],
)
def test_a_wrong_row_of_drafts_is_one_line(row: str, says: str, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"name: mine\ntitle: t\nsource: {{kind: paper, ref: r, date: 2026-11-29}}\nrows:\n  - {row}\n", "utf-8"
    )
    with pytest.raises(SpecError, match=says):
        draft_file(str(path))
    path.write_text("name: mine\nsource: {kind: paper, ref: r, date: 2026-11-29}\nclaims: []\n", "utf-8")
    with pytest.raises(UnknownName, match="claims"):
        draft_file(str(path))


def test_next_token_layers_draft_one_each_and_heads_several_numbers_of_tokens() -> None:
    deepseek, llama = catalog.model("deepseek-v3"), catalog.model("llama3.1-8b")
    assert [d.drafted for d in draftings_of("mtp", deepseek)] == [1]
    assert [d.drafted for d in draftings_of("eagle3", llama)] == [1, 2, 3, 5]
    assert [(d.drafted, d.accepted) for d in draftings_of("eagle3:4=2.4", llama)] == [(4, 2.4)]
    assert [d.drafted for d in draftings_of("eagle3=2.4", llama)] == [2]  # as `load --speculative 2.4` has it
    with pytest.raises(Incompatible, match="no next-token layers"):
        draftings_of("mtp", llama)
    for word in ("eagle3:0", "eagle3:3=0.5", "eagle3:3=", "eagle3:1=2.5"):
        with pytest.raises(SpecError, match="speculative: "):
            draftings_of(word, llama)


@pytest.mark.parametrize("kind", ["eagle3", "llama3.1-8b"])
def test_weights_and_cache_of_the_draft_count_in_memory(kind: str) -> None:
    """Requests on two H200 are those of the room that the draft's weights leave, each with the draft's cache beside."""
    demand = asked("chat", "llama3.1-70b", forms=("fp8",))
    way = draftings(demand.model, drafting(kind, demand.model, None), 3, None, catalog.acceptances())
    demand = replace(demand, drafting=way)
    shapes, _ = configurations(demand, ["baseline"], 8)
    held = rooms(demand, shapes, [catalog.gpu("h200")])[0][:, 0]
    fits = {s.drafts: float(n) for s, n in zip(shapes, held, strict=True) if s.parallel.tensor == 2}
    length = int(demand.prompt + demand.output)
    each, more = (layout.stored(length) / 2 for layout in (demand.base, way[0].layout("baseline")))
    room = fits[False] * each - weights(way[0].draft.model, None).total / 2
    assert fits[True] == pytest.approx(room / (each + more), rel=0.02)
    assert fits[True] < fits[False]


def test_drafting_further_ahead_takes_more_pages_of_recurrent_states() -> None:
    """A hybrid's states take a page for every drafted token; a model without states takes the same however many."""

    def most(model: str, count: int) -> float:
        demand = asked("chat", model, forms=("fp8",))
        way = draftings(demand.model, drafting("eagle3", demand.model, None), count, None, catalog.acceptances())
        demand = replace(demand, drafting=way)
        shapes = [s for s in configurations(demand, ["baseline"], 8)[0] if s.drafts and s.parallel.gpus == 2]
        return float(rooms(demand, shapes, [catalog.gpu("h200")])[0].max())

    assert most("qwen3.5-27b", 1) > 1.2 * most("qwen3.5-27b", 5) > 0
    assert most("qwen3-32b", 1) == most("qwen3-32b", 5) > 0


def test_it_is_tried_beside_decoding_without_and_never_raises_the_cost() -> None:
    ask = {**CHAT, "gpus": "b200"}
    plain = kvplan.recommend(model="llama3.1-70b", **ask)
    more = kvplan.recommend(model="llama3.1-70b", speculative="eagle3", **ask)
    assert plain.plan.drafting is None and not plain.demand.drafting
    assert more.tried > 4 * plain.tried
    assert more.plan.usd < plain.plan.usd and more.plan.drafting is not None
    assert any("With speculative decoding (EAGLE-3) a query costs" in line for line in more.why)
    bad = kvplan.recommend(model="llama3.1-70b", speculative="eagle3:16=1.01", **ask)
    assert bad.plan == replace(plain.plan, slo_probability=bad.plan.slo_probability)
    assert any("was tried and does not lower the cost" in line for line in bad.why)


@pytest.mark.parametrize(
    ("engine", "model", "kind", "reason"),
    [
        ("vllm", "llama3.1-70b", "eagle3", ""),
        ("vllm", "deepseek-v3", "eagle3", "starts EAGLE-3 for llama, qwen"),
        ("vllm", "deepseek-v3", "mtp", ""),
        ("vllm@0.11", "llama3.1-70b", "llama3.1-8b", "does not start with a draft model"),
        ("vllm", "llama3.1-70b", "llama3.1-8b", ""),
        ("sglang", "llama3.1-70b", "qwen3-0.6b", "needs the same vocabulary"),
        ("sglang", "deepseek-v3", "eagle3", ""),
        ("trtllm", "qwen3-32b", "eagle3", "starts EAGLE-3 for llama, not for qwen3"),
        ("trtllm", "deepseek-v3", "mtp", ""),
        ("trtllm", "glm-4.5", "mtp", "starts MTP for deepseek"),
    ],
)
def test_what_an_engine_would_refuse_to_start_is_told(engine: str, model: str, kind: str, reason: str) -> None:
    spec = catalog.model(model)
    refusal = not_started(catalog.engine(engine), spec, drafting(kind, spec, None))
    assert (reason in refusal) if reason else not refusal


def test_a_plan_that_would_not_start_is_not_given_and_the_reader_is_told(run) -> None:
    document = run(*DEEPSEEK, "--speculative", "eagle3", "--json").json
    assert set(document["recommended"]["speculative"].values()) == {None}
    assert any("planned without speculative decoding: vLLM" in line for line in document["warnings"])


def test_what_it_rests_on_is_said(run) -> None:
    document = run(*DEEPSEEK, "--speculative", "mtp", "--json").json
    used = document["recommended"]["speculative"]
    assert not any("not counted" in line for line in document["warnings"])  # its next-token layer is
    assert (used["draft"], used["tokens_drafted"]) == ("mtp:1", 1)
    assert used["tokens_per_step"] == pytest.approx(1.85)
    assert "85 %" in used["basis"] and "arXiv 2412.19437" in used["basis"]
    text = " ".join(run(*DEEPSEEK, "--speculative", "mtp").out.split())
    assert "MTP drafting 1 token; a step yields 1.85 on average" in text
