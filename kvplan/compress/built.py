"""Which techniques run on real models, and why others do not: the rule, the width and the reason of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import PreTrainedModel

from kvplan.compress import hooks
from kvplan.compress.forms import Basis, Bits, Float4, Float8, Integers, Recent
from kvplan.compress.layers import LayerPlan
from kvplan.compress.rotation import Angles
from kvplan.compress.rules import (
    AdaptiveWindow,
    Chance,
    ChunkWindow,
    HeavyHitters,
    ObservationWindow,
    PageReads,
    Places,
    Repeated,
    RetrievalHeads,
    Rule,
)
from kvplan.errors import Incompatible
from kvplan.kv.layout import Group
from kvplan.specs.model import ModelSpec

#: a control beside techniques: drops as many tokens as h2o, by chance
CONTROL = "random"
#: bases of keys and of values of each layer that stores latents
Latents = Mapping[int, tuple[Basis, Basis]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a technique's spelling leaves open."""

    #: learned for this model and technique; None: not yet, where only refusals are asked for
    latents: Latents | None = field(default_factory=dict)
    #: StreamingLLM: whether positions are places inside the cache or those in the text; None: inside where it is known
    #: how the model rotates keys
    inside: bool | None = None
    #: DuoAttention: layer -> stored heads that keep all; None: found in each prompt
    heads: Mapping[int, tuple[int, ...]] | None = None
    absorb: bool = True  #: MHC: whether values are read as latents, where the model's attention lets itself be replaced
    seed: int = 0  #: of the control that drops by chance


#: what stands where nothing is said besides
UNSAID = Settings()


def _streaming(argument: str, group: Group, settings: Settings, angles: Angles | None) -> Rule:
    """Return the rule of 'streaming:S,W'; the planner's layout holds their sum."""
    sinks = int(argument.partition(",")[0])
    inside = angles is not None if settings.inside is None else settings.inside
    return Places(sinks, (group.keep.budget or 0) - sinks, inside=inside)


def _duo(argument: str, group: Group, settings: Settings, angles: Angles | None) -> Rule:
    """Return the rule of 'duo:P%', refused where that is no whole number of the heads that a layer stores."""
    share = group.keep.share or 1
    if (share * group.vectors).denominator != 1:
        some = f"{group.vectors} heads that a layer stores" if group.vectors > 1 else "the one vector of a layer"
        raise Incompatible(f"duo: {argument} of {some} is no whole number of heads")
    return RetrievalHeads(share=float(share))


#: which tokens, and how elements are written, by the technique's name
RULES: dict[str, Callable[[str, Group, Settings, Angles | None], Rule]] = {
    "h2o": lambda _argument, _group, _settings, _angles: HeavyHitters(),
    CONTROL: lambda _argument, _group, settings, _angles: Chance(torch.Generator().manual_seed(settings.seed)),
    "snapkv": lambda _argument, _group, _settings, _angles: ObservationWindow(),
    "pyramidkv": lambda _argument, _group, _settings, _angles: ObservationWindow(),
    "adakv": lambda _argument, _group, _settings, _angles: AdaptiveWindow(),
    "duo": _duo,
    "chunkkv": lambda _argument, _group, _settings, _angles: ChunkWindow(),
    "kvzip": lambda _argument, _group, _settings, _angles: Repeated(),
    "quest": lambda _argument, group, _settings, _angles: PageReads(group.reads or 0),
    "streaming": _streaming,
    "window": lambda _argument, group, _settings, _angles: Places(0, group.keep.budget, inside=False),
}
BITS: dict[str, Callable[[], Bits]] = {
    "fp8": Float8,
    "nvfp4": Float4,
    "int8": partial(Integers, 8),
    "int4": partial(Integers, 4),
    "int8:token": partial(Integers, 8, 0),
    "int4:token": partial(Integers, 4, 0),
    "kivi:4": partial(Recent, 4, True),
    "kivi:2": partial(Recent, 2, True),
}
#: how values are written, where not as keys are
VALUE_BITS: dict[str, Callable[[], Bits]] = {"kivi:4": partial(Recent, 4, False), "kivi:2": partial(Recent, 2, False)}
#: why others do not
UNBUILT = {
    "r1kv": "it evicts from answers of thousands of tokens, longer than any task asks for",
    "shadowkv": "values would be fetched from the host's memory by a kernel",
    "turboquant": "vectors would be rotated and looked up by a kernel",
    "offload": "where a prefix waits changes no answer",
    "dsa": "its index is learned while the model is trained",
    "cla": "layers share what they store by training",
    "yoco": "layers share what they store by training",
}
#: techniques whose heads hold different numbers of tokens
UNEVEN = ("adakv", "duo")
#: techniques that run on real models
BUILT = ("gqa", "mqa", "mhc", *(name for name in RULES if name != CONTROL), "fp8", "int8", "int4", "nvfp4", "kivi")


# -- what cannot run ---------------------------------------------------------------------------------


def refuse(model: PreTrainedModel, spec: ModelSpec, parts: Mapping[str, str], plans: Mapping[int, LayerPlan]) -> None:
    """Refuse what cannot run on this model, with the reason."""
    choosing = [name for name in RULES if name in parts]
    found = (*_by_biases(model, spec, choosing, plans), *_clashes(parts, choosing),
             *_by_model(model, spec, parts, choosing, plans))  # fmt: skip
    if reason := next((why for holds, why in found if holds), ""):
        raise Incompatible(reason)


def _turns(plans: Mapping[int, LayerPlan]) -> bool:
    """Whether keys are rotated anew: to places inside the cache, or behind a latent."""
    return _inside(plans) or any(plan.form.needs_turn for plan in plans.values())


def _inside(plans: Mapping[int, LayerPlan]) -> bool:
    """Whether positions are places inside the cache."""
    return any(isinstance(plan.rule, Places) and plan.rule.inside for plan in plans.values())


def _by_biases(
    model: PreTrainedModel, spec: ModelSpec, choosing: Sequence[str], plans: Mapping[int, LayerPlan]
) -> Iterator[tuple[bool, str]]:
    """Yield whether biases of positions are in the way, and that in words."""
    biased = getattr(model.config.get_text_config(), "alibi", False)
    first = choosing[0] if choosing else "mhc"
    shifted = f"{first}: {spec.title} adds ALiBi biases, which dropped tokens shift"
    yield biased and bool(choosing or _turns(plans)), shifted


def _clashes(parts: Mapping[str, str], choosing: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """Yield whether techniques exclude each other, and why; those `choosing` choose tokens."""
    first = choosing[0] if choosing else ""
    others = any(name != "quest" for name in choosing)
    scaled = f"kivi: 32 tokens share the scales of their keys, so {first} cannot drop one of them"
    yield "kivi" in parts and others, scaled
    uneven = any(name in parts for name in UNEVEN)
    together = f"{first}: heads differ in length, and latents are of heads together; leave mhc out"
    yield "mhc" in parts and uneven, together
    yield len(choosing) > 1, f"{' and '.join(choosing)} both choose tokens; run one of them"
    pooled = any(name in parts for name in ("gqa", "mqa", "mhc"))
    bounds = "quest: bounds of pages are taken of keys as they are stored; leave gqa, mqa and mhc out"
    yield "quest" in parts and pooled, bounds


def _by_model(
    model: PreTrainedModel, spec: ModelSpec, parts: Mapping[str, str], choosing: Sequence[str],
    plans: Mapping[int, LayerPlan],
) -> Iterator[tuple[bool, str]]:  # fmt: skip
    """Yield whether the model's layers, rotation or attention are in the way, and how."""
    text = model.config.get_text_config()
    scaled = getattr(text, "rope_parameters", None) or {}
    kind = scaled.get("rope_type", "default") if isinstance(scaled, dict) else "default"
    twice = f"the text is read twice, which the sliding or recurrent layers of {spec.title} would store twice"
    yield "kvzip" in parts and len(plans) < len(spec.layers), f"kvzip: {twice}"
    turns = _turns(plans)
    moving = f"keys of {spec.title} are rotated by angles that change with the length ({kind} RoPE)"
    yield turns and kind in ("dynamic", "longrope"), moving
    other = "; positions of the text need no rotation: positions=text" if _inside(plans) else ""
    unknown = any(plan.angles is None for plan in plans.values())
    yield turns and unknown, f"how {spec.title} rotates keys is not known here{other}"
    name = text._attn_implementation
    untaken = f"attention implementation {name} cannot be taken over; load the model with sdpa or eager"
    yield bool(choosing) and hooks.takes_functions(model) and not hooks.base(model), untaken
