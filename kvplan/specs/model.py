"""A model as the planner sees it: per layer, what it caches and which weights it holds.

Names follow config.json. Counts are exact: they equal the model class built from the same config.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Softmax attention that stores keys and values per token.

    `window` caps the tokens a query sees (None: all); `chunked` windows start at multiples of it.
    `stored` is False for a layer that reads an earlier layer's cache. `rope` tells whether cached
    keys are rotated. `in_transformers` holds the fields that differ in Hugging Face's own cache.
    """

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    chunked: bool = False
    stored: bool = True
    rope: bool = True
    in_transformers: "Attention | None" = None

    @property
    def kind(self) -> str:
        """How the layer caches: full, sliding, chunked, or shared (it reads an earlier layer's cache)."""
        if not self.stored:
            return "shared"
        if self.window is None:
            return "full"
        return "chunked" if self.chunked else "sliding"

    def untrimmed(self, full: "Attention") -> "Attention":
        """Return this attention with Hugging Face's cache keeping what `full` keeps (it never trims it)."""
        return replace(self, in_transformers=full)


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (MLA): one low-rank vector per token, shared by all heads.

    `index_dim` is the width of the sparse-attention indexer's key (DeepSeek V3.2), 0 without one.
    """

    heads: int
    rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    index_dim: int = 0
    index_heads: int = 0
    index_top: int = 0

    kind = "latent"

    @property
    def elements(self) -> int:
        """Elements of a cached vector: the latent and the rotary key."""
        return self.rank + self.rope_dim


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A layer with constant state: a short convolution and, mostly, a recurrent matrix.

    conv_channels x (conv_kernel - 1) elements in the model's dtype, and `state` elements held in
    `state_bits` (None: the model's dtype) by engines and `transformers_bits` by Hugging Face.
    """

    name: str
    conv_channels: int
    conv_kernel: int
    state: int
    state_bits: int | None = None
    transformers_bits: int | None = 32
    in_transformers: bool = True

    kind = "state"


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Cross-attention to an encoder or to vision tokens: a fixed number of source tokens per request."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    tokens: int

    kind = "cross"


Mixer = Attention | Latent | Recurrent | Cross


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One tensor of a checkpoint, or `copies` tensors alike (experts).

    `split` says what tensor parallelism divides it by: none (replicated), heads, kv, inner, vocab or
    expert. `used` is how many of the copies one token passes through. `matmul` tensors are applied as
    matrix products and are what weight quantisation acts on.
    """

    name: str
    shape: tuple[int, ...]
    split: str = "none"
    copies: int = 1
    used: float = 1.0
    matmul: bool = True

    @property
    def parameters(self) -> int:
        """Elements of all copies."""
        return prod(self.shape) * self.copies

    @property
    def active_parameters(self) -> float:
        """Elements one token passes through, averaged over tokens."""
        return prod(self.shape) * (self.used if self.copies > 1 else 1)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One decoder layer: its token mixers (mostly one) and all of its weights."""

    mixers: tuple[Mixer, ...]
    weights: tuple[Weight, ...]

    @cached_property
    def parameters(self) -> int:
        """Elements of all weights of the layer."""
        return sum(w.parameters for w in self.weights)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a checkpoint stores its matrix weights.

    `bits` per element, scales included (None: as the dtype), `compute` of the product's operands; modules matching
    `skip` are left alone, `overrides` gives others their own bits, `head` includes the output head. `problem` says why
    sizes cannot be told, '' when they can.
    """

    method: str
    bits: float | None
    compute: int = 16
    skip: tuple[str, ...] = ()
    overrides: tuple[tuple[str, float], ...] = ()
    head: bool = False
    kv_bits: float | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSpec:
    """A model: layers in order, weights outside the layers, and what the config says of both.

    `longer` names the release of the same shape with a longer context, where the two are often confused.

    Compared by identity: it is read once, and comparing thousands of tensors is slow.
    """

    name: str
    title: str
    model_type: str
    hidden: int
    vocab: int
    max_context: int | None
    dtype: str
    layers: tuple[Layer, ...]
    outer: tuple[Weight, ...]
    tied: bool
    quantization: Quantization | None = None
    notes: tuple[str, ...] = ()
    longer: str = ""
    source: Source
    config: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def distinct_layers(self) -> tuple[Layer, ...]:
        """Each layer once: readers share one Layer among those built alike."""
        return tuple({id(layer): layer for layer in self.layers}.values())

    def weights(self) -> Iterator[tuple[str, Weight]]:
        """Yield (full name, weight) for every tensor: layers first, then embeddings, norms and the rest."""
        for index, layer in enumerate(self.layers):
            for weight in layer.weights:
                yield f"model.layers.{index}.{weight.name}", weight
        for weight in self.outer:
            yield weight.name, weight

    @cached_property
    def parameters(self) -> int:
        """Elements of all tensors, each counted once."""
        return sum(layer.parameters for layer in self.layers) + sum(w.parameters for w in self.outer)

    @cached_property
    def active_parameters(self) -> float:
        """Parameters one token passes through, embeddings included."""
        layers = sum(w.active_parameters for layer in self.layers for w in layer.weights)
        return layers + sum(w.active_parameters for w in self.outer)

    def mixers(self) -> Iterator[Mixer]:
        """Yield the token mixers of all layers, in order."""
        for layer in self.layers:
            yield from layer.mixers

    @cached_property
    def head_counts(self) -> frozenset[tuple[int, int]]:
        """(query heads, key/value heads) of every kind of attention layer; a latent counts as one key/value head."""
        held = (m for m in self.mixers() if not isinstance(m, Recurrent))
        return frozenset((m.heads, 1 if isinstance(m, Latent) else m.kv_heads) for m in held)
