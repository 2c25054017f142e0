"""An engine on a GPU and how it is run: the options that change what a budget of memory says."""

from dataclasses import dataclass, field, replace

from kvplan.kv.layout import KVLayout
from kvplan.kv.paging import Paging, paging
from kvplan.kv.replica import Parallel
from kvplan.kv.runners import caches, flashes, own_share, rules_for
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What drafts tokens for a model to verify: its own next-token layers, a head (EAGLE), or a smaller model."""

    kind: str  #: mtp, eagle3 or model
    model: ModelSpec  #: its layers, and tensors outside them that it does not share with the model it drafts for
    form: str | None = None  #: format of its weights, None for its checkpoint's
    note: str = ""  #: what is assumed of it
    drafted: int = 1  #: tokens drafted for a step [token]


@dataclass(frozen=True, kw_only=True)
class Running:
    """Options of an engine that change how a GPU's memory is used."""

    graphs: bool = True  #: whether memory is set aside for CUDA graphs, where the engine does so
    compiles: bool = True  #: whether the engine compiles the model as it starts, as without a compile cache
    profiles_images: bool = True  #: whether the profiling run encodes the largest image, where the engine does so
    flashinfer: bool = False  #: whether FlashInfer samples, where the engine leaves it to what is installed
    #: whether prefixes are cached, which pins more pages of recurrent states; None: as the engine does for the model
    prefix_caching: bool | None = None
    hybrid: bool = True  #: whether layers that see a window free what they no longer see
    context_ranks: int = 1  #: GPUs of a tensor-parallel group that divide a request's tokens (decode context parallel)
    kv_bytes: float | None = None  #: fixed size of the cache on a GPU, whatever the share [B]
    offloaded: float = 0.0  #: weights that a GPU leaves in the host's memory [B]


@dataclass(frozen=True, kw_only=True)
class Deployment(Running):
    """An engine on a GPU and how it is run. None leaves a choice to the engine (or, for weights, to the checkpoint)."""

    engine: Engine  #: whose rules divide the memory
    gpu: Gpu | None = None  #: None where no budget is asked for
    parallel: Parallel = field(default_factory=Parallel)  #: how the replica is spread
    weights: str | None = None  #: weight format, one of FORMATS
    utilization: float | None = None  #: share of the GPU's memory that the engine may use, of 1
    block_size: int | None = None  #: tokens of a page [token]
    max_num_seqs: int | None = None  #: sequences of one step
    max_num_batched_tokens: int | None = None  #: tokens of one step [token]
    compacts: bool = False  #: whether the engine frees what techniques evict head by head; stock engines do not
    draft: Draft | None = None  #: what drafts tokens

    @property
    def use(self) -> float:
        """Share of the memory that the engine takes, its default where none is set, of 1."""
        if self.utilization is not None:
            return self.utilization
        return self.engine.share(self.gpu, self.parallel.tensor, self.parallel.pipeline)

    @property
    def limits(self) -> tuple[int, int]:
        """Sequences and tokens of one engine step."""
        sequences, tokens = self.engine.limits(self.gpu)
        return self.max_num_seqs or sequences, self.max_num_batched_tokens or tokens

    def serving(self, model: ModelSpec, length: int) -> "Deployment":
        """Return what a model is served with: its runner's rules, and the step of an engine that cuts no prompts."""
        whole = self.engine.window_share is not None and not any(
            m in model.model_type for m in self.engine.window_models
        )
        caching = caches(self.engine, model, self.prefix_caching)
        rules = rules_for(self.engine, model, caching, flashes(self.engine, self.gpu))
        if self.flashinfer and rules.flashinfer_bytes_per_logit:
            rules = replace(rules, sampler_bytes_per_logit=rules.flashinfer_bytes_per_logit)
        served = replace(self, engine=rules, hybrid=self.hybrid and not whole, prefix_caching=caching)
        if self.utilization is None and self.gpu is not None and self.engine.reserve is not None:
            share = own_share(self.engine, model, self.gpu, self.parallel.tensor, self.parallel.pipeline)
            served = replace(served, utilization=share)
        step = self.limits[1]
        if self.max_num_batched_tokens is not None or (uncut := self.engine.uncut(step, length)) == step:
            return served
        return replace(served, max_num_batched_tokens=uncut)

    def pages(self, layout: KVLayout) -> Paging:
        """Return how the engine pages a layout on one GPU."""
        ahead = self.limits[1] * self.engine.steps_ahead
        return paging(
            layout, self.engine, self.parallel.tensor, self.block_size, ahead, self.compacts,
            state_pages=1 if self.prefix_caching is False else self.engine.state_pages,
            ranks=self.context_ranks, hybrid=self.hybrid, drafted=self.draft.drafted if self.draft else 0,
            even=self.engine.capacity == "even",
        )  # fmt: skip
