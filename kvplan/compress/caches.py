"""A model under a technique: which layer does what, caches for `generate()`, and the bytes they hold.

with running(model, "mhc:4x+h2o:20%") as under:
model.generate(ids, past_key_values=under.cache())
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from kvplan.architectures.reader import DTYPE_BITS
from kvplan.compress import hooks
from kvplan.compress.forms import (
    AsIs,
    Basis,
    Bits,
    Float4,
    Float8,
    Form,
    Integers,
    LatentForm,
    PooledHeads,
    Recent,
    Whole,
)
from kvplan.compress.layers import CompressedLayer, LayerPlan
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
from kvplan.kv import spelling
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.specs.model import ModelSpec

#: a control beside techniques: drops as many tokens as h2o, by chance
CONTROL = "random"
#: tokens of a prompt that are read again at once
AGAIN = 2048
#: kinds of layer whose cache is compressed; of the model's own sliding ones vectors and bits, never tokens
WHOLE, SLIDING = ("full", "latent"), ("sliding", "chunked")
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


class CompressedCache(Cache):  # type: ignore[misc]
    """A transformers cache whose layers store less."""

    @property
    def stored(self) -> int:
        """Bytes held of vectors, scales and scores. [B]"""
        return sum(stored(layer) for layer in self.layers)

    @property
    def beside(self) -> int:
        """Bytes held of positions, which the planner does not reckon. [B]"""
        return sum(layer.beside for layer in self.layers if isinstance(layer, CompressedLayer))


def stored(layer: object) -> int:
    """Return the bytes a layer of any cache holds: each tensor's own memory. [B]"""
    if isinstance(layer, CompressedLayer):
        return layer.stored
    tensors = [v for v in vars(layer).values() if isinstance(v, torch.Tensor)]
    for name in ("conv_states", "recurrent_states"):
        held = getattr(layer, name, None)
        tensors += [t for t in (held.values() if isinstance(held, dict) else ()) if isinstance(t, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors if t.dim() > 1)


@dataclass(frozen=True, kw_only=True)
class Under:
    """A model that runs under a technique."""

    technique: str  #: in its one spelling
    model: PreTrainedModel  #: the model, hooks hung in
    plans: Mapping[int, LayerPlan]  #: of the layers that are compressed
    left: Mapping[int, str]  #: the other layers, and why they are left as they are
    layout: KVLayout  #: the planner's cache of a sequence
    before: KVLayout  #: the same without the technique

    def cache(self) -> CompressedCache:
        """Return an empty cache."""
        layers = list(DynamicCache(config=self.model.config).layers)
        for place, plan in self.plans.items():
            layers[place] = CompressedLayer(plan)
        return CompressedCache(layers=layers)

    def finish(self, ids: torch.Tensor, cache: CompressedCache) -> None:
        """Let techniques that choose after the prompt do so: KVzip has the model read it again, watched."""
        layers = [x for x in cache.layers if isinstance(x, CompressedLayer) and isinstance(x.plan.rule, Repeated)]
        if not layers:
            return
        for part in ids.split(AGAIN, 1):
            for layer in layers:
                layer.repeating = True
            with torch.no_grad():
                self.model(part, **{hooks.cache_name(self.model): cache}, use_cache=True, logits_to_keep=1)
        for layer in layers:
            layer.finish()

    def planned(self, length: int, batch: int = 1, prompt: int | None = None) -> float:
        """Return the bytes the planner reckons `batch` sequences hold, all of them prompt unless told otherwise. [B]"""
        layout = self.layout.with_prompt(length if prompt is None else prompt)
        return batch * sum(size for *_, size in layout.per_layer(length))


@contextmanager
def running(
    model: PreTrainedModel, spec: ModelSpec, technique: str, settings: Settings = Settings()
) -> Iterator[Under]:
    """Run a model under a technique; Incompatible says why it cannot. As before afterwards."""
    angles = rotations(model)
    under = planned(model, spec, technique, settings, angles)
    attends = any(plan.rule is not None or absorbed(plan) for plan in under.plans.values())
    with hooks.hung(model, angles, drops=attends):
        yield under


def absorbed(plan: LayerPlan) -> bool:
    """Whether a layer's attention is over latents of values."""
    return isinstance(plan.form, LatentForm) and plan.form.absorbed


def rotations(model: PreTrainedModel) -> dict[int, Angles]:
    """Return layer -> angles of positions, one for all layers that rotate alike; layers not understood are left out."""
    shared: dict[object, Angles | None] = {}
    by_layer: dict[int, Angles] = {}
    for place, module in hooks.attention_modules(model).items():
        key = getattr(module, "layer_type", None)
        if key not in shared:
            shared[key] = hooks.rotates(module)
        if (angles := shared[key]) is not None:
            by_layer[place] = angles
    return by_layer


def spec_bits(model: PreTrainedModel) -> float:
    """Return the bits of an element of the model's own cache."""
    return DTYPE_BITS[str(model.dtype).removeprefix("torch.")]


def planned(
    model: PreTrainedModel, spec: ModelSpec, technique: str, settings: Settings, angles: Mapping[int, Angles]
) -> Under:
    """Return what each layer does under a technique, by the planner's own layout."""
    name = technique.replace(CONTROL, "h2o") if technique.startswith(f"{CONTROL}:") else technique
    parts = {kind.name: argument for kind, argument in spelling.parts(name)}
    if "absorbed" in parts.get("mhc", "").split(":"):
        raise Incompatible("mhc: keys are rotated behind the latent, so the absorbed form needs a retrained model")
    unknown = [n for n in parts if n not in BUILT]
    if unknown:
        why = UNBUILT.get(unknown[0], "nobody wrote it")
        raise Incompatible(f"{unknown[0]}: not run on real models yet: {why}; those that are: {', '.join(BUILT)}")
    before = kv_layout(spec, spec_bits(model), reading="transformers")
    after = spelling.apply(name, before)
    if technique.startswith(f"{CONTROL}:"):
        parts = {CONTROL: parts.pop("h2o"), **parts}
    plans: dict[int, LayerPlan] = {}
    left: dict[int, str] = {}
    old_of, new_of = _by_layer(before), _by_layer(after)
    usual = DynamicCache(config=model.config).layers
    for place in sorted(new_of):
        old, new = old_of[place], new_of[place]
        if type(usual[place]) not in (DynamicLayer, DynamicSlidingWindowLayer):
            left[place] = "its own kind of cache stays as it is"
            continue
        plan = _plan(place, old, new, parts, settings, angles.get(place) if old.kind != "latent" else None)
        if isinstance(plan, str):
            left[place] = plan
        elif plan is not None:
            plans[place] = plan
    if "pyramidkv" in parts:
        falling = [place for place, plan in plans.items() if plan.rule is not None]
        plans |= {p: replace(plans[p], steep=(i, len(falling))) for i, p in enumerate(falling)}
    if "duo" in parts and settings.heads is not None:
        plans |= {p: _with_heads(p, plan, settings.heads) for p, plan in plans.items()}
    if "mhc" in parts and settings.absorb and hooks.absorbs(model) and "reconstruct" not in parts["mhc"].split(":"):
        plans = {p: replace(x, form=replace(x.form, absorbed=True)) if isinstance(x.form, LatentForm) else x
                 for p, x in plans.items()}  # fmt: skip
    refuse(model, spec, parts, plans)
    layout = replace(after, groups=tuple(g for g in _kept(before, after, plans)))
    canonical = technique if technique.startswith(f"{CONTROL}:") else spelling.canonical(name)
    return Under(technique=canonical, model=model, plans=plans, left=left, layout=layout, before=before)


def _with_heads(place: int, plan: LayerPlan, heads: Mapping[int, tuple[int, ...]]) -> LayerPlan:
    """Return a layer's plan with the heads that keep all, where the technique has some."""
    rule = plan.rule
    if not isinstance(rule, RetrievalHeads):
        return plan
    if place not in heads:
        raise Incompatible(f"duo: no heads are named for layer {place}; name those that keep all for every layer")
    return replace(plan, rule=replace(rule, heads=tuple(heads[place])))


def _by_layer(layout: KVLayout) -> dict[int, Group]:
    """Return layer -> the group of its attention cache."""
    return {i: g for g in layout.groups for i in g.layers if g.kind in (*WHOLE, *SLIDING)}


def _kept(before: KVLayout, after: KVLayout, plans: Mapping[int, LayerPlan]) -> Iterator[Group]:
    """Yield the planner's groups: those of compressed layers under the technique, the others as they were."""
    indexed = {i for g in before.groups if g.kind == "index" for i in g.layers}
    for layout, wanted in ((after, True), (before, False)):
        for g in layout.groups:
            kinds = g.kind in (*WHOLE, *SLIDING)
            own = g.kind == "index" and layout is after  # an index that the technique itself added
            layers = tuple(
                i
                for i in g.layers
                if (i in plans and (kinds or (own and i not in indexed))) is wanted and (wanted or layout is before)
            )
            if layers:
                yield replace(g, layers=layers)


def _plan(
    place: int, old: Group, new: Group, parts: Mapping[str, str], settings: Settings, angles: Angles | None
) -> LayerPlan | str | None:
    """Return what a layer does, why it is left as it is, or None where nothing is asked of it."""
    rule = next((make(parts[name], new, settings, angles) for name, make in RULES.items() if name in parts), None)
    name = next((word for n, a in parts.items() if (word := f"{n}:{a}" if a else n) in BITS), "")
    bits, value_bits = BITS.get(name, AsIs), VALUE_BITS.get(name)
    form = _form(place, old, new, parts, settings, angles)
    if old.kind in SLIDING:
        if value_bits is not None:
            return "its own window stays as it is"
        if not isinstance(form, Whole) or bits is not AsIs:
            return LayerPlan(form=form, bits=bits, keep=old.keep, window=_window(old), angles=angles)
        return "its own window stays as it is" if rule is not None else None
    if rule is None and bits is AsIs and isinstance(form, Whole):
        return None
    return LayerPlan(form=form, bits=bits, value_bits=value_bits, keep=new.keep, rule=rule, angles=angles)


def _window(group: Group) -> int:
    """Return the window of a model's own sliding layer, of which one token less is cached. [token]"""
    if group.keep.window is None:
        raise Incompatible("a window of one token caches nothing to compress")
    return group.keep.window + 1


def _form(
    place: int, old: Group, new: Group, parts: Mapping[str, str], settings: Settings, angles: Angles | None
) -> Form:
    """Return which vectors of a token a layer stores."""
    if ("gqa" in parts or "mqa" in parts) and new.vectors < old.vectors:
        return PooledHeads(new.vectors, old.vectors // new.vectors)
    if "mhc" not in parts or old.kind not in ("full", *SLIDING):
        return Whole()
    if settings.latents is None:
        return Whole()
    if place not in settings.latents:
        raise Incompatible(f"mhc: no latents were learned for layer {place}; learn them for this technique")
    keys, values = settings.latents[place]
    value_width = old.width - old.key_width
    return LatentForm(keys, values, int(old.key_width), int(value_width), needs_turn=old.rope and angles is not None)


def refuse(model: PreTrainedModel, spec: ModelSpec, parts: Mapping[str, str], plans: Mapping[int, LayerPlan]) -> None:
    """Refuse what cannot run on this model, with the reason."""
    text = model.config.get_text_config()
    scaled = getattr(text, "rope_parameters", None) or {}
    kind = scaled.get("rope_type", "default") if isinstance(scaled, dict) else "default"
    drops = [name for name in RULES if name in parts]
    inside = any(isinstance(p.rule, Places) and p.rule.inside for p in plans.values())
    rotated = inside or any(p.form.needs_turn for p in plans.values())
    if getattr(text, "alibi", False) and (drops or rotated):
        raise Incompatible(
            f"{drops[0] if drops else 'mhc'}: {spec.title} adds ALiBi biases, which dropped tokens shift"
        )
    if "kivi" in parts and any(name != "quest" for name in drops):
        raise Incompatible(f"kivi: 32 tokens share the scales of their keys, so {drops[0]} cannot drop one of them")
    if "mhc" in parts and any(name in parts for name in UNEVEN):
        raise Incompatible(f"{drops[0]}: heads differ in length, and latents are of heads together; leave mhc out")
    if len(drops) > 1:
        raise Incompatible(f"{' and '.join(drops)} both choose tokens; run one of them")
    if "quest" in parts and any(name in parts for name in ("gqa", "mqa", "mhc")):
        raise Incompatible("quest: bounds of pages are taken of keys as they are stored; leave gqa, mqa and mhc out")
    if "kvzip" in parts and len(plans) < len(spec.layers):
        raise Incompatible(
            f"kvzip: the text is read twice, which the sliding or recurrent layers of {spec.title} would store twice"
        )
    if rotated and kind in ("dynamic", "longrope"):
        raise Incompatible(f"keys of {spec.title} are rotated by angles that change with the length ({kind} RoPE)")
    if rotated and any(p.angles is None for p in plans.values()):
        other = "; positions of the text need no rotation: positions=text" if inside else ""
        raise Incompatible(f"how {spec.title} rotates keys is not known here{other}")
    if drops and hooks.takes_functions(model) and not hooks.base(model):
        name = text._attn_implementation
        raise Incompatible(f"attention implementation {name} cannot be taken over; load the model with sdpa or eager")


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
