"""A model under a technique: which layer does what, caches for `generate()`, and the bytes they hold.

with running(model, "mhc:4x+h2o:20%") as under:
model.generate(ids, past_key_values=under.cache())
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from kvplan.architectures.reader import DTYPE_BITS
from kvplan.compress import hooks
from kvplan.compress.built import BITS, BUILT, CONTROL, RULES, UNBUILT, UNSAID, VALUE_BITS, Settings, refuse
from kvplan.compress.forms import (
    AsIs,
    Form,
    LatentForm,
    PooledHeads,
    Whole,
)
from kvplan.compress.layers import CompressedLayer, LayerPlan
from kvplan.compress.rotation import Angles
from kvplan.compress.rules import (
    Repeated,
    RetrievalHeads,
)
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.specs.model import ModelSpec

#: tokens of a prompt that are read again at once
AGAIN = 2048
#: kinds of layer whose cache is compressed; of the model's own sliding ones vectors and bits, never tokens
WHOLE, SLIDING = ("full", "latent"), ("sliding", "chunked")


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
def running(model: PreTrainedModel, spec: ModelSpec, technique: str, settings: Settings = UNSAID) -> Iterator[Under]:
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
    by_chance = technique.startswith(f"{CONTROL}:")
    name = technique.replace(CONTROL, "h2o") if by_chance else technique
    parts = _parts(name)
    before = kv_layout(spec, spec_bits(model), reading="transformers")
    after = spelling.apply(name, before)
    if by_chance:
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
    plans = _with_neighbours(model, parts, settings, plans)
    refuse(model, spec, parts, plans)
    layout = replace(after, groups=tuple(_kept(before, after, plans)))
    canonical = technique if by_chance else spelling.canonical(name)
    return Under(technique=canonical, model=model, plans=plans, left=left, layout=layout, before=before)


def _parts(technique: str) -> dict[str, str]:
    """Return name -> argument of a technique's parts; Incompatible where one does not run on real models."""
    parts = {kind.name: argument for kind, argument in spelling.parts(technique)}
    if "absorbed" in parts.get("mhc", "").split(":"):
        raise Incompatible("mhc: keys are rotated behind the latent, so the absorbed form needs a retrained model")
    if unknown := next((name for name in parts if name not in BUILT), ""):
        why = UNBUILT.get(unknown, "nobody wrote it")
        raise Incompatible(f"{unknown}: not run on real models yet: {why}; those that are: {', '.join(BUILT)}")
    return parts


def _with_neighbours(
    model: PreTrainedModel, parts: Mapping[str, str], settings: Settings, plans: Mapping[int, LayerPlan]
) -> dict[int, LayerPlan]:
    """Return layers' plans with what depends on other layers, or on the model: budgets that fall, heads, latents."""
    found = dict(plans)
    if "pyramidkv" in parts:
        falling = [place for place, plan in plans.items() if plan.rule is not None]
        found |= {place: replace(plans[place], steep=(i, len(falling))) for i, place in enumerate(falling)}
    if "duo" in parts and settings.heads is not None:
        found = {place: _with_heads(place, plan, settings.heads) for place, plan in found.items()}
    if settings.absorb and hooks.absorbs(model) and "reconstruct" not in parts.get("mhc", "").split(":"):
        latent = {place: plan.form for place, plan in found.items() if isinstance(plan.form, LatentForm)}
        found |= {place: replace(found[place], form=replace(form, absorbed=True)) for place, form in latent.items()}
    return found


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
