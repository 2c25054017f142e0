"""Against other projects, where they are installed: the evaluation harness runs over us, kvpress scores as we do."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", minversion="5.20")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
def test_the_harness_runs_a_task_of_ones_own_offline(tmp_path: Path, monkeypatch) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    from compress_families import write_folder
    from lm_eval.tasks import TaskManager

    from kvplan.compress.harness import CompressedLM

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    write_folder(tmp_path / "my-model")
    context = "The old captain looked at the river before lunch. " * 10
    rows = [{"q": f"{context}The secret number of Anna is", "choices": ["1", "2"], "gold": i % 2} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "t.yaml").write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/d.jsonl}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    manager = TaskManager(include_path=str(tmp_path))
    scores = {}
    for technique in ("baseline", "h2o:100%", "streaming:2,8"):
        model = CompressedLM(str(tmp_path / "my-model"), technique=technique)
        done = lm_eval.simple_evaluate(model=model, tasks=["mine"], task_manager=manager, bootstrap_iters=10)
        scores[technique] = done["results"]["mine"]["acc,none"]
        model.close()
    assert scores["baseline"] == scores["h2o:100%"] == 0.5  # the same question, half of the answers right


def test_log_likelihoods_are_those_of_the_plain_model(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from types import SimpleNamespace

    from compress_families import write_folder

    from kvplan.compress.harness import CompressedLM

    write_folder(tmp_path / "my-model")
    model = CompressedLM(str(tmp_path / "my-model"))
    pairs = [("The old captain looked at", " the river"), ("", "The river"), ("My neighbour ", "painted")]
    found = model.loglikelihood([SimpleNamespace(args=pair) for pair in pairs])
    for (context, continuation), (likely, greedy) in zip(pairs, found, strict=True):
        before = model.tokenizer(context.rstrip(), add_special_tokens=False).input_ids or [1]
        whole = before + model.tokenizer(continuation, add_special_tokens=False).input_ids
        logits = torch.log_softmax(model.network(torch.tensor([whole])).logits[0].float(), -1)
        each = [float(logits[i - 1, whole[i]]) for i in range(len(before), len(whole))]
        assert likely == pytest.approx(sum(each), abs=1e-4)
        assert greedy == all(int(logits[i - 1].argmax()) == whole[i] for i in range(len(before), len(whole)))
    text = "The old captain looked at the river before lunch."
    (rolled,) = model.loglikelihood_rolling([SimpleNamespace(args=(text,))])
    ids = [1, *model.tokenizer(text, add_special_tokens=False).input_ids]
    logits = torch.log_softmax(model.network(torch.tensor([ids])).logits[0].float(), -1)
    assert rolled == pytest.approx(sum(float(logits[i - 1, ids[i]]) for i in range(1, len(ids))), abs=1e-3)
    told = {"until": ["river"], "max_gen_toks": 6, "do_sample": False}
    (said,) = model.generate_until([SimpleNamespace(args=("The old captain", told))])
    plain = model.network.generate(
        torch.tensor([model.tokenizer("The old captain", add_special_tokens=False).input_ids]),
        max_new_tokens=6, do_sample=False, pad_token_id=0,
    )  # fmt: skip
    assert model.tokenizer.decode(plain[0, 3:]).startswith(said.strip())
    model.close()


@pytest.mark.parametrize("share", [0.4, 0.5])
def test_snapkv_keeps_the_positions_that_kvpress_ranks_first(share: float) -> None:
    kvpress = pytest.importorskip("kvpress")
    from compress_families import texts, tiny

    from kvplan.compress import hooks
    from kvplan.compress.caches import running

    model, spec = tiny("llama")
    ids, _ = texts(0, length=400)
    press = kvpress.SnapKVPress(window_size=64, kernel_size=5)
    seen = {}

    def look(module, args, kwargs):
        seen[module.layer_idx] = (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0], kwargs)

    with torch.no_grad():
        hung = [m.register_forward_pre_hook(look, with_kwargs=True) for m in hooks.attention_modules(model).values()]
        plain = model(ids, use_cache=True)
        for hook in hung:
            hook.remove()
        whole = (plain.get("cache") or plain.past_key_values).layers
        with running(model, spec, f"snapkv:{round(100 * share)}%") as under:
            cache = under.cache()
            model(ids, **{hooks.cache_name(model): cache})
        for place, module in hooks.attention_modules(model).items():
            hidden, kwargs = seen[place]
            keys, values = whole[place].keys, whole[place].values
            scores = press.score(module, hidden, keys, values, None, kwargs)
            kept = scores.topk(int(400 * share), -1).indices.sort(-1).values
            wanted = keys.gather(2, kept[..., None].expand(-1, -1, -1, keys.shape[-1]))
            ours = cache.layers[place].parts[0][0]
            same = sum(any(torch.equal(a, b) for b in wanted[0, h]) for h in range(2) for a in ours[0, h])
            assert ours.shape[2] == int(400 * share) and same == 2 * int(400 * share)
