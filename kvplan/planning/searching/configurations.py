"""What a search tries: every technique in every weight format on every shape that a replica may have."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, check_parallel, replica_shapes
from kvplan.planning.demand import Demand
from kvplan.planning.speculation import Drafting
from kvplan.specs.hardware import Gpu

#: a technique and a weight format, None for the checkpoint's own
Pair = tuple[str, str | None]
#: a prompt's longest part that a prefix cache may hold
MOST_CACHED = 0.98


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A technique in a weight format on one replica shape."""

    technique: str  #: in its one spelling
    form: str | None  #: weight format, None for the checkpoint's own
    parallel: Parallel  #: the ranks of one replica
    layout: KVLayout  #: what each layer keeps of a prompt and an answer
    cached: int  #: tokens of the prompt that are in the prefix cache
    drafting: Drafting | None = None  #: how it decodes speculatively, None where it does not

    @property
    def pair(self) -> Pair:
        """Its technique and its weight format."""
        return self.technique, self.form

    @property
    def drafts(self) -> bool:
        """Whether it decodes speculatively."""
        return self.drafting is not None

    @property
    def held(self) -> KVLayout:
        """What a request takes of the cache: its layout, and that of what drafts for it beside."""
        if self.drafting is None:
            return self.layout
        return self.layout.beside(self.drafting.layout(self.technique), self.layout.end)

    @property
    def name(self) -> str:
        """The configuration in a few words."""
        return f"{self.technique} {self.form or 'checkpoint'} {self.parallel}"


def configurations(
    demand: Demand, wanted: Sequence[str], node: int, left_out: Collection[Pair] = ()
) -> tuple[list[Configuration], dict[str, str]]:
    """Return every shape to try on nodes of so many GPUs, and why some techniques cannot be applied at all."""
    tried, refused = [], {}
    largest = Gpu(
        name="", title="", memory=0.0, visible_memory=0.0, bandwidth=0.0, fp16=0.0, link=0.0, gpus_per_node=node
    )
    for name in wanted:
        try:
            layout = spelling.apply(name, demand.base).with_prompt(demand.prompt)
        except Incompatible as refusal:
            refused[name] = str(refusal).removeprefix(f"{name}: ")
            continue
        cached, able = cached_tokens(demand, layout), [d for d in demand.drafting if acts_on(name, d)]
        for parallel in replica_shapes(demand.model, layout, largest):
            if parallel.pipeline > 1 or check_parallel(demand.model, parallel):
                continue
            tried += [
                Configuration(
                    technique=name, form=form, parallel=parallel, layout=layout, cached=cached, drafting=drafting
                )
                for form in demand.forms
                if (name, form) not in left_out
                for drafting in (None, *able)
            ]
    return tried, refused


def acts_on(technique: str, drafting: Drafting) -> bool:
    """Return whether a technique can act on the cache of what drafts, which an engine keeps as the model's."""
    try:
        drafting.layout(technique)
    except Incompatible:
        return False
    return True


def cached_tokens(demand: Demand, layout: KVLayout) -> int:
    """Return how many tokens of the mean prompt a prefix cache already holds."""
    shared = demand.prefix_cache and layout.shared(demand.prompt)
    return int(demand.prompt * min(demand.workload.prefix_share, MOST_CACHED)) if shared else 0
