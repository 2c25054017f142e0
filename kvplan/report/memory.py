"""`kvplan memory` in words, tables and JSON: the cache by kind of layer, the weights, a GPU's budget."""

from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.kv.budget import Budget
from kvplan.kv.layout import equation
from kvplan.planning.memory import LayerCache, Memory, Room, draft_bytes
from kvplan.report.blocks import Block, Column, Json, Page, Table, Text, notes, records, schema, sentence, table
from kvplan.report.drawings import of_budget
from kvplan.report.sources import about, brief, graph_rule, rules, whose
from kvplan.specs.line import Line
from kvplan.units import show_bytes, show_count, show_percent, show_tokens


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Layers of one kind that keep as much each. [B]"""

    count: int  #: layers of the kind
    kind: str  #: what such a layer keeps
    tokens: int | None  #: kept of one sequence, None where that is no number of tokens
    bytes_each: float | None  #: cache of one layer and batch [B]
    bytes: float  #: cache of all of them [B]


#: whose cache is counted, in words
READINGS = {
    "architecture": "as the architecture requires",
    "engine": "as a paged engine reserves it",
    "transformers": "as Hugging Face transformers holds it",
}
LAYERS = (
    Column[Layers](
        heading="layers", value=lambda x: x.count, cell=lambda x: f"{x.count}" if x.count else "", align="left"
    ),
    Column[Layers](heading="kind", value=lambda x: x.kind, align="left"),
    Column[Layers](heading="tokens kept", value=lambda x: x.tokens, show=lambda n: f"{n:,}"),
    Column[Layers](heading="bytes / layer", value=lambda x: x.bytes_each, show=show_bytes),
    Column[Layers](heading="bytes", value=lambda x: x.bytes, show=show_bytes),
)
LAYER = (
    Column[LayerCache](key="layer", value=lambda c: c.layer),
    Column[LayerCache](key="kind", value=lambda c: c.kind),
    Column[LayerCache](key="tokens", value=lambda c: c.tokens),
    Column[LayerCache](key="bytes", value=lambda c: c.bytes),
)


ROOM = (
    Column[Room](key="release", value=lambda r: r.release),
    Column[Room](key="kv_cache", value=lambda r: r.kv_cache),
    Column[Room](key="kv_tokens", value=lambda r: r.kv_tokens),
)


def page(m: Memory, explained: bool = False) -> Page:
    """Return the report of `kvplan memory`."""
    ask, model = m.ask, m.model
    sequences = "one sequence" if ask.batch == 1 else f"{ask.batch} sequences"
    what = f"{sequences} of {show_tokens(ask.context)} tokens ({READINGS[ask.reading]}; technique: {ask.technique})"
    size = f"{model.parameters / 1e9:,.2f} B parameters ({model.active_parameters / 1e9:,.2f} B active per token)"
    room: list[Block] = []
    if m.budget:
        room = [
            budget_table(m.budget),
            of_budget(m.budget),
            *stages(m.budget),
            Text(capacity(m, m.budget)),
            Text(by_release(m)),
        ]
    lines = equation(m.layout, ask.context) if explained else ()
    return Page.of(
        Text(f"{model.title} needs {show_bytes(m.total)} of KV cache for {what}.", "answer"),
        Text(sentence(m.reason), "bad"),
        table("Cache by kind of layer", LAYERS, layers(m), keys=2),
        Text(f"One more token adds {m.bytes_per_token:,.0f} B."),
        Text(sentence(staged(m))),
        Text(f"Weights: {size}, {show_bytes(m.weight_bytes)}{files(m)}."),
        Text(sentence(drafted(m))),
        (Text(f"Note: {sentence(n)}") for n in m.remarks),
        room,
        notes("KV bytes = layers x kept tokens x vectors x width x bits / 8", lines),
        notes("Sources", sources(m)),
    )


def by_release(m: Memory) -> str:
    """Return the room that the engine's releases leave for the cache, '' where one was named or all leave as much."""
    if not m.rooms:
        return ""
    shown = [(r.release, show_bytes(r.kv_cache) if r.kv_cache else "none") for r in m.rooms]
    changed = [at for at, before in zip(shown, [("", ""), *shown], strict=False) if at[1] != before[1]]
    if len(changed) < 2:
        return ""
    each, engine = ", ".join(f"{size} from {release} on" for release, size in changed), m.deployment.engine
    example = f"engine={engine.name}@{changed[0][0]}"
    return f"Room for the cache by release of {engine.title}: {each}; {example} counts by the rules of one."


def staged(m: Memory) -> str:
    """Return what each pipeline stage keeps of the cache, '' without a pipeline."""
    if len(m.stages) < 2:
        return ""
    each = ", ".join(f"{show_bytes(size)} ({count} layers)" for count, size in m.stages)
    return f"pipeline stages keep {each} of it"


def drafted(m: Memory) -> str:
    """Return what drafts tokens, '' where nothing does."""
    draft = m.deployment.draft
    if draft is None:
        return ""
    what = {"mtp": "the model's own next-token layers", "eagle3": draft.note, "model": draft.model.title}[draft.kind]
    ahead = f"{show_count(draft.drafted, 'token')} a step"
    size = f"{show_bytes(draft_bytes(m.deployment))} of weights"
    kept = f" ({draft.note})" if draft.kind == "mtp" and draft.note else ""
    return f"weights and cache include what drafts {ahead}, {what}: {size}{kept}"


def sources(m: Memory) -> Iterable[str]:
    """Yield where the model and the rules of the budget come from."""
    yield f"model: {brief(m.model.source)}"
    if m.budget:
        yield rules(m.budget.deployment.engine)
        yield from graph_rule(m.model, m.deployment)


def files(m: Memory) -> str:
    """Return what the folder's weight files hold, '' where it has none."""
    held = m.model.file_bytes
    return f"; the folder's files hold {show_bytes(held)}" if held else ""


def capacity(m: Memory, b: Budget) -> str:
    """Return how many tokens and sequences the memory left for the cache holds."""
    if b.kv_cache <= 0:
        return "No memory is left for the KV cache."
    sequences = show_count(m.sequences or 0, "sequence")
    unfreed = any(g.keep.per_head for g in m.layout.groups) and not m.deployment.compacts
    kept = (
        " A stock engine frees no block of tokens that heads evict by themselves: a sequence keeps the blocks of all."
    )
    engine = b.deployment.engine
    logged = f" ({engine.title} {engine.version} logs {b.kv_tokens:,})" if b.kv_tokens != b.whole_tokens else ""
    held = f"The KV cache holds {b.whole_tokens:,} tokens{logged}: {sequences} of {show_tokens(m.ask.context)}."
    return f"{held}{kept * unfreed}"


def layers(m: Memory) -> list[Layers]:
    """Return the cache by kind of layer; its bytes sum to the whole."""
    groups: dict[tuple[str, int, float], int] = {}
    for c in m.per_layer:
        groups[c.kind, c.tokens, c.bytes] = groups.get((c.kind, c.tokens, c.bytes), 0) + 1
    shown = [
        Layers(
            count=n, kind=kind, tokens=None if kind in ("state", "shared") else kept, bytes_each=size, bytes=size * n
        )
        for (kind, kept, size), n in groups.items()
    ]
    if m.padding > 0.5:
        shown.append(Layers(count=0, kind="padding layers", tokens=None, bytes_each=None, bytes=m.padding))
    return shown


def budget_table(b: Budget) -> Table:
    """Return a GPU's memory, line by line."""

    def amount(line: Line) -> str:
        return show_bytes(line.amount) if line.amount >= 0 else f"{show_bytes(-line.amount)} short"

    columns = (
        Column[Line](heading="per GPU", value=lambda x: x.name, align="left"),
        Column[Line](heading="bytes", value=lambda x: x.amount, cell=amount),
        Column[Line](heading="share", value=lambda x: x.amount / b.total if x.amount >= 0 else None, show=show_percent),
        Column[Line](heading="", value=lambda x: x.basis, align="left", wraps=True),
    )
    return table(
        "Memory budget of the fullest GPU",
        columns,
        b.lines,
        total=("total", show_bytes(b.total), show_percent(1.0), ""),
    )


def document(m: Memory) -> Json:
    """Return the document of `kvplan memory`."""
    model = m.model
    answer = schema(
        "memory",
        model=about(model),
        context=m.ask.context,
        batch=m.ask.batch,
        layout=m.ask.reading,
        technique=m.ask.technique,
        warnings=list(m.remarks),
        weights={
            "parameters": model.parameters,
            "active_parameters": round(model.active_parameters),
            "bytes": m.weight_bytes,
            "file_bytes": model.file_bytes,
        },
        kv={
            "attention_bytes": m.attention,
            "cross_attention_bytes": m.sum("cross"),
            "state_bytes": m.sum("state"),
            "padding_bytes": m.padding,
            "total_bytes": m.total,
            "bytes_per_token": m.bytes_per_token,
            "per_layer": records(LAYER, m.per_layer),
        },
    )
    if len(m.stages) > 1:
        answer["kv"] |= {"stages": [{"layers": layers, "bytes": size} for layers, size in m.stages]}
    if m.deployment.draft is not None:
        draft = m.deployment.draft
        answer["speculative"] = {
            "kind": draft.kind,
            "model": draft.model.name,
            "layers": len(draft.model.layers),
            "weight_bytes": draft_bytes(m.deployment),
            "drafted": draft.drafted,
            "note": draft.note,
        }
    if m.budget is not None:
        answer |= {"budget": budget(m.budget), "kv_tokens": m.budget.kv_tokens, "max_sequences": m.sequences}
        answer |= {"rooms": records(ROOM, m.rooms)} if m.rooms else {}
        answer |= {"feasible": not m.reason, "reason": m.reason, "engine": whose(m.budget.deployment.engine)}
    return answer


def stages(b: Budget) -> Iterable[Table]:
    """Yield what each pipeline stage holds, nothing without a pipeline."""
    columns = (
        Column[Budget](heading="stage", value=lambda s: s.stage + 1),
        Column[Budget](heading="layers", value=lambda s: s.layers),
        Column[Budget](heading="weights", value=lambda s: s.amounts["weights"], show=show_bytes),
        Column[Budget](heading="activations", value=lambda s: s.amounts["activations"], show=show_bytes),
        Column[Budget](heading="room for the cache", value=lambda s: max(s.kv_cache, 0.0), show=show_bytes),
        Column[Budget](heading="tokens", value=lambda s: s.kv_tokens, show=lambda n: f"{n:,}"),
    )
    if b.stages:
        yield table("Pipeline stages: the one that holds the fewest tokens binds", columns, b.stages)


def budget(b: Budget) -> Json:
    """Return a GPU's memory as a JSON object; the lines sum to the total. [B]"""
    staged = {"stages": [stage(s) for s in b.stages]} if b.stages else {}
    return {
        **amounts(b),
        "kv_tokens": b.kv_tokens,
        "lines": [{"name": line.name, "bytes": line.amount, "basis": line.basis} for line in b.lines],
        **staged,
    }


def amounts(b: Budget) -> Json:
    """Return a budget's total and its four parts, which sum to it; `cuda_graphs` is a part of `runtime`. [B]"""
    document = {"total": b.total, **{line.name: line.amount for line in b.lines}}
    if "cuda_graphs" in document:
        document["runtime"] += document["cuda_graphs"]
    return document


def stage(b: Budget) -> Json:
    """Return the memory of a pipeline stage's GPU as a JSON object. [B]"""
    return {"stage": b.stage + 1, "layers": b.layers, **amounts(b), "kv_tokens": b.kv_tokens}
