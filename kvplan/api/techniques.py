"""Every technique for one model and one workload, side by side."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from kvplan import catalog
from kvplan.api import values
from kvplan.api.demands import workload_at
from kvplan.api.losses import loss_of
from kvplan.api.sites import ENGINES, PUBLISHED, price_list, site
from kvplan.catalog.rows.traces import arrivals
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.kv.techniques import TECHNIQUES
from kvplan.planning.techniques import TechniqueSurvey, weigh
from kvplan.quality.loss import checked
from kvplan.quality.weights import unheard


def techniques(
    model: str,
    workload: str,
    *,
    techniques: str | Iterable[str] = (),
    gpu: str = "h100",
    tp: int | None = None,
    engine: str = "vllm",
    weights: str | None = None,
    quality: str | Iterable[str] = (),
    trace: str | None = None,
    profile: str = PUBLISHED,
    on: str | None = None,
) -> TechniqueSurvey:
    """Return techniques side by side for a model and a workload: bytes, step times, what serves them, what they lose.

    Times are of `gpu` at the workload's mean lengths, losses at its longest prompts that count (the percentile of its
    limits), on its own tasks, its questions seen or not as `Workload.question_seen` says. All of kvplan's techniques
    stand in it unless some are named. A `trace` file with hashes of blocks says how often prefixes are found in
    memories beside the GPU, in place of Che's approximation. Raises KvplanError for names and values that cannot be
    understood.

        >>> table = kvplan.techniques("llama3.1-8b", "doc-qa", techniques=["h2o:20%", "kvzip:25%"], on="2026-11-24")
        >>> [(r.row.technique, round(r.quality.drop, 2)) for r in table.rows[1:]]
        [('h2o:20%', 0.67), ('kvzip:25%', 0.0)]
    """
    spec = catalog.model(values.word(model, "model"))
    day = values.day(on)
    asked = workload_at(values.word(workload, "workload"), spec, None)
    names = values.technique_names(techniques, usual())
    place = site(
        catalog.gpu(values.word(gpu, "gpu")),
        spec,
        day,
        listed=price_list(None, ()),
        profile=values.word(profile, "profile"),
        parallel=values.parallel(tp, None, None),
        weights=values.given(values.weight_format, weights),
        engine=values.engine(engine, "engine", ENGINES),
        length=asked.context(1.0),
    )
    files = values.several(quality, "quality")
    tables = [checked(catalog.quality_file(word)) for word in files]
    losses = partial(loss_of, model=spec, workload=asked, context=int(asked.context(asked.slo.percentile)), own=tables)
    chains = None if trace is None else shared_blocks(values.word(trace, "trace"))
    return replace(weigh(spec, asked, place, names, losses, day, chains), warnings=unheard(files, tables, spec))


def shared_blocks(word: str) -> list[tuple[tuple[int, int], ...]]:
    """Return the shared blocks of a trace's requests; SpecError where it names none."""
    chains = [one.chain for one in arrivals(word)]
    if not any(chains):
        raise SpecError(f"{word}: names no shared blocks (hash_ids), so that nothing says which prefixes come again")
    return chains


def usual() -> tuple[str, ...]:
    """Return the techniques shown where none is named: an example of each, and the other spellings searched."""
    examples = (name for kind in spelling.plainest_first() for name in (kind.example, *kind.searched))
    return (spelling.BASELINE, *dict.fromkeys(name for name in examples if name.partition(":")[0] in TECHNIQUES))
