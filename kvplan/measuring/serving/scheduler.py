"""How the scheduler of a row's server was set: as the row says, else as published serving benchmarks ran it."""

from typing import Any

from kvplan.catalog.servers.collected import collections
from kvplan.catalog.servers.scripted import benchmarks
from kvplan.kv.replica import Parallel
from kvplan.measuring.serving.raw_row import RawRow
from kvplan.measuring.serving.row_formats import weight_bits
from kvplan.measuring.serving.rows import CLOSED
from kvplan.specs.eras import day_of, eras_of
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.recipes import Benchmark, Setting, recipe_of

#: fields of a row and the columns of how its scheduler was set: SGLang's flag, TensorRT-LLM's option, vLLM's name
SCHEDULER = {
    "recv_interval": "scheduler_recv_interval",
    "hold": "batch_wait_timeout_iters",
    "chunk": "max_num_batched_tokens",
}
#: what each is called where it is assumed
ASSUMED = {**SCHEDULER, "waves": "requests a slot"}
UNWARMED = "no requests were sent to warm the server up, as published benchmarks did before they had that"
#: columns that published benchmarks leave empty: a row that names a source, or counts lengths or requests, is another's
ELSEWHERE = ("source", "lengths", "requests", "mean_lengths")


def published(entry: RawRow, engine: str) -> Benchmark | None:
    """Return the published serving benchmarks whose scripts took a row, None where none did.

    So are those that name no source and count no requests, and those collected from one; not those that whoever
    collected them took, nor those of a day before there were such scripts. These close their loops, and ran no release
    of a past era: their first are vLLM 0.10, SGLang 0.4.7 and TensorRT-LLM 1.1.
    """
    if eras_of(engine, entry.text("engine_version")):
        return None
    if not (entry.text("arrival") or CLOSED).lower().startswith(CLOSED):
        return None
    day, unnamed = day_of_run(entry), not (of_collectors(entry) or any(map(entry.text, ELSEWHERE)))
    known = (one for one in benchmarks() if (one.unnamed if unnamed else one.collection in entry.text("source")))
    return next((one for one in known if not "" < day < one.begun), None)


def of_oneself(entry: RawRow, engine: str) -> bool:
    """Return whether a row is of a server of whoever reads it: no published run, with source, day or sweep."""
    if entry.text("source") or of_collectors(entry):
        return False
    return published(entry, engine) is None or not (day_of_run(entry) or entry.text("sweep"))


def of_collectors(entry: RawRow) -> bool:
    """Return whether a run was taken by those who collected the rows, with lengths as they are stated."""
    return any(one.own_runs and one.has(entry.values) for one in collections())


def day_of_run(entry: RawRow) -> str:
    """Return the day of a row's run, '' where neither its columns nor its release or note say."""
    return day_of(entry.text("date")) or day_of(entry.text("note")) or day_of(entry.text("engine_version"))


def scheduler_of(
    entry: RawRow, model: ModelSpec, gpu: Gpu, engine: str, parallel: Parallel, weight_format: str | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return how the scheduler was set, as fields of a row, in decode steps and tokens, and what was assumed.

    Where a row does not say, as published serving benchmarks ran it, if it is of them.
    """
    none = {"hold": 0.0}  # 0 holds no prompt: the engine's default
    stated = {name: entry.size(column, none.get(name)) for name, column in SCHEDULER.items() if entry.text(column)}
    benchmark = published(entry, engine)
    if benchmark is None:
        return stated, ()
    lengths, concurrency = (entry.size("isl"), entry.size("osl")), entry.size("concurrency", 1.0)
    day = day_of_run(entry)
    unwarmed = {"cold": 1.0} if "" < day < benchmark.warmed else {}
    words = [UNWARMED] if unwarmed else []
    who = Setting(
        engine=engine, gpu=gpu.name, architecture=gpu.architecture, model_type=model.model_type,
        bits=weight_bits(model, weight_format), tensor=parallel.tensor, ranks=parallel.data, lengths=lengths,
        concurrency=concurrency, day=day,
    )  # fmt: skip
    recipe = recipe_of(who, benchmark.recipes)
    if not recipe:
        return {**unwarmed, **stated}, tuple(words)
    usual = {
        "chunk": recipe.tokens(lengths[0], concurrency),
        "recv_interval": recipe.many if concurrency >= recipe.crowd else recipe.few,
        "hold": recipe.hold,
        "waves": recipe.waves,
    }
    said = {*stated, *(["waves"] if entry.text("requests") else [])}
    assumed = {name: steps for name, steps in usual.items() if steps > 1.0 and name not in said}
    words += [f"{ASSUMED[name]} taken as {n:,.0f}, as published benchmarks set it" for name, n in assumed.items()]
    return {**unwarmed, **assumed, **stated}, tuple(words)
