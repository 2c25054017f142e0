"""Latents of keys and values (MHC): learned per layer and group of heads, before keys are rotated.

By texts: the directions in which the vectors of calibration texts vary most, which lose least of them (Eckart and
Young, 1936). By weights: the same of the rows of the projections, as if every hidden state were equally likely.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from kvplan.compress import hooks
from kvplan.compress.built import Latents
from kvplan.compress.caches import SLIDING, CompressedCache, rotations, spec_bits
from kvplan.compress.forms import AsIs, Basis, Whole
from kvplan.compress.layers import CompressedLayer, LayerPlan
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.layout import Group, Keep
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.techniques.width import SMALLEST_RANK
from kvplan.specs.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How latents of a layer are cut: into groups of heads, keys and values apart."""

    groups: int  #: that heads are divided into, each with latents of its own
    key_rank: int  #: elements of the latent of a group's keys
    value_rank: int  #: elements of the latent of a group's values


def shapes(spec: ModelSpec, technique: str, bits: float) -> dict[int, Shape]:
    """Return layer -> the shape of its latents, by the planner's layout; empty without one."""
    names = {kind.name for kind, _ in spelling.parts(technique)}
    if "mhc" not in names:
        return {}
    before = {i: g for g in kv_layout(spec, bits, reading="transformers").groups for i in g.layers}
    after = spelling.apply(technique, kv_layout(spec, bits, reading="transformers"))
    narrowed = {i: g for g in after.groups for i in g.layers if g.kind in ("full", *SLIDING)}
    return {i: _shape(g) for i, g in narrowed.items() if g.vectors * g.width < before[i].vectors * before[i].width}


def _shape(g: Group) -> Shape:
    return Shape(groups=g.vectors, key_rank=int(g.key_width), value_rank=int(g.width - g.key_width))


def shape_of(pair: tuple[Basis, Basis]) -> Shape:
    """Return the shape that bases of keys and of values have."""
    keys, values = pair
    return Shape(groups=len(keys.mean), key_rank=keys.directions.shape[-1], value_rank=values.directions.shape[-1])


# -- what passes through a layer ------------------------------------------------------------------


class Moments:
    """Sums over tokens of vectors and of their products, for groups of heads."""

    def __init__(self, groups: int):
        self.groups, self.count = groups, 0
        self.sum: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Add vectors [batch, heads, tokens, width]."""
        rows = x.double().unflatten(1, (self.groups, -1)).permute(1, 0, 3, 2, 4).flatten(3).flatten(1, 2)
        self.count += rows.shape[1]
        self.sum = self.sum + rows.sum(1)
        self.products = self.products + rows.mT @ rows

    def spectrum(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (mean, variances from the least, their directions) of each group."""
        mean = torch.as_tensor(self.sum) / self.count
        spread = torch.as_tensor(self.products) / self.count - mean[:, :, None] * mean[:, None, :]
        values, directions = torch.linalg.eigh(spread)
        return mean, values.clamp(min=0), directions

    def rank_for(self, energy: float) -> int:
        """Return the least rank with which every group holds this share of its variance, of 1."""
        _, values, _ = self.spectrum()
        held = values.flip(-1).cumsum(-1) / values.sum(-1, keepdim=True).clamp(min=1e-30)
        return int((held < energy - 1e-9).sum(-1).max()) + 1

    def basis(self, rank: int) -> tuple[Basis, float]:
        """Return the `rank` directions of most variance, and the share of it they hold, of 1."""
        mean, values, directions = self.spectrum()
        kept = values[:, -rank:].sum() / values.sum().clamp(min=1e-30)
        return Basis(directions[..., -rank:].flip(-1).float().contiguous(), mean.float()), float(kept)


class Passing(CompressedLayer):
    """A layer that stores nothing and sums up what passes: keys turned back, and values."""

    def __init__(self, keys: Moments, values: Moments, *, turned: bool):
        super().__init__(LayerPlan(form=Whole(), bits=AsIs, keep=Keep()))
        self.keys_of, self.values_of, self.turned = keys, values, turned

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add what passes to the sums."""
        back = self.turn is not None and self.turned
        self.keys_of.add(self.turn.undo(key_states) if back and self.turn else key_states)
        self.values_of.add(value_states)
        return key_states, value_states


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Latents of a model, and how much of what varies they hold."""

    technique: str  #: whose shapes they have
    latents: Latents  #: bases of keys and of values by layer
    held: Mapping[int, tuple[float, float]]  #: share of the variance of keys and of values, of 1


#: layer -> sums of its keys and of its values, and the shape asked for
Sums = Mapping[int, tuple[Moments, Moments, Shape]]


def by_texts(model: PreTrainedModel, spec: ModelSpec, technique: str, texts: Iterable[Tensor]) -> Learned:
    """Return latents learned from token ids [batch, tokens], each batch read on its own."""
    return learned(technique, sums_of_texts(model, spec, technique, texts))


def by_energy(model: PreTrainedModel, spec: ModelSpec, options: str, energy: float, sums: Sums) -> Learned:
    """Return latents as narrow as lets each group of every layer hold a share of its variance, of 1; Incompatible.

    `options` are what a spelling of MHC says behind its size, `sums` are of the same groups of heads.
    """
    wanted = [2 * s.groups * max(k.rank_for(energy), v.rank_for(energy)) for k, v, s in sums.values()]
    size = max(max(wanted, default=0), SMALLEST_RANK + 1)
    technique = spelling.canonical(f"mhc:{size}{options}")
    try:
        narrowed = shapes(spec, technique, spec_bits(model))
    except Incompatible as why:
        raise Incompatible(f"energy: {energy:.1%} takes {size} elements a token and layer; {why}") from None
    return learned(technique, {i: (k, v, narrowed[i]) for i, (k, v, _) in sums.items()})


def sums_of_texts(model: PreTrainedModel, spec: ModelSpec, technique: str, texts: Iterable[Tensor]) -> Sums:
    """Return sums over texts of what passes through the layers that store latents."""
    wanted, angles = shapes(spec, technique, spec_bits(model)), rotations(model)
    rotated = {i: g.rope for g in kv_layout(spec, 16.0).groups for i in g.layers}
    if missing := [i for i in wanted if rotated[i] and i not in angles]:
        raise Incompatible(f"mhc: how layer {missing[0]} of {spec.title} rotates its keys is not known here")
    sums = {i: (Moments(s.groups), Moments(s.groups)) for i, s in wanted.items()}
    with hooks.hung(model, angles, drops=False), torch.no_grad():
        for text in texts:
            layers = list(DynamicCache(config=model.config).layers)
            for i, (keys, values) in sums.items():
                layers[i] = Passing(keys, values, turned=rotated[i])
            model(text, **{hooks.cache_name(model): CompressedCache(layers=layers)}, use_cache=True)
    return {i: (*sums[i], s) for i, s in wanted.items()}


def sums_of_weights(model: PreTrainedModel, spec: ModelSpec, technique: str) -> Sums:
    """Return sums of keys and values as if every hidden state were equally likely: their bases are singular vectors.

    Incompatible where keys are normalised behind k_proj.
    """
    modules = hooks.attention_modules(model)
    by_layer: dict[int, tuple[Moments, Moments, Shape]] = {}
    for i, shape in shapes(spec, technique, spec_bits(model)).items():
        module = modules[i]
        if not hasattr(module, "k_proj") or any(hasattr(module, n) for n in ("k_norm", "k_layernorm")):
            raise Incompatible(
                f"mhc: layer {i} of {spec.title} has no k_proj whose rows are its keys; learn from texts instead"
            )
        sums = [_of_rows(p, shape.groups, int(module.head_dim)) for p in (module.k_proj, module.v_proj)]
        by_layer[i] = (sums[0], sums[1], shape)
    return by_layer


def _of_rows(projection: torch.nn.Linear, groups: int, width: int) -> Moments:
    """Return the sums of a projection's outputs if its inputs were white: products of its rows, around its bias."""
    moments = Moments(groups)
    rows = projection.weight.detach().double().unflatten(0, (groups, -1))
    bias = (
        projection.bias.detach().double()
        if projection.bias is not None
        else rows.new_zeros(rows.shape[0] * rows.shape[1])
    )
    mean = bias.unflatten(0, (groups, -1))
    moments.count, moments.sum = 1, mean
    moments.products = rows @ rows.mT + mean[:, :, None] * mean[:, None, :]
    return moments


def learned(technique: str, sums: Sums) -> Learned:
    """Return the bases of a technique's shapes, and how much of the variance they hold."""
    latents: dict[int, tuple[Basis, Basis]] = {}
    held: dict[int, tuple[float, float]] = {}
    for i, (keys, values, shape) in sums.items():
        (key_basis, of_keys), (value_basis, of_values) = keys.basis(shape.key_rank), values.basis(shape.value_rank)
        latents[i], held[i] = (key_basis, value_basis), (of_keys, of_values)
    return Learned(technique=technique, latents=latents, held=held)
