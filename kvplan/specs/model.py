"""A model as the planner sees it: per layer, what it caches and which weights it holds.

Names follow config.json. Counts are exact: they equal the model class built from the same config.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, prod

from kvplan.specs.source import Source

#: what a request may hold and a model read; one that reads images reads the frames of a video
TEXT, IMAGE, VIDEO, AUDIO = MODALITIES = ("text", "image", "video", "audio")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Softmax attention that stores keys and values per token."""

    heads: int  #: query heads
    kv_heads: int  #: key/value heads
    key_dim: int  #: elements of a head's key
    value_dim: int  #: elements of a head's value
    window: int | None = None  #: the most tokens a query sees, None: all [token]
    chunked: bool = False  #: whether windows start at multiples of their length
    stored: bool = True  #: False for a layer that reads an earlier layer's cache
    rope: bool = True  #: whether cached keys are rotated
    in_transformers: "Attention | None" = None  #: what Hugging Face's own cache keeps, None: the same

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

    Source: DeepSeek-V2, arXiv 2405.04434; the sparse-attention indexer is that of DeepSeek V3.2.
    """

    heads: int  #: query heads
    rank: int  #: elements of the latent
    rope_dim: int  #: elements of the rotary key beside it
    nope_dim: int  #: elements of a head's key that are not rotated
    value_dim: int  #: elements of a head's value
    index_dim: int = 0  #: elements of the indexer's key, 0 without an indexer
    index_heads: int = 0  #: query heads of the indexer
    index_top: int = 0  #: tokens that the indexer lets attention read [token]
    index_single: bool = False  #: whether transformers caches the indexer's keys in 32 bits, whatever the dtype
    stored: bool = True  #: False for a layer that reads an earlier layer's latent

    kind = "latent"

    @property
    def elements(self) -> int:
        """Elements of a cached vector: the latent and the rotary key."""
        return self.rank + self.rope_dim


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A layer with constant state: conv_channels x (conv_kernel - 1) elements and, mostly, a recurrent matrix."""

    name: str  #: of the recurrence
    conv_channels: int  #: channels of the short convolution, held in the model's dtype
    conv_kernel: int  #: tokens it spans [token]
    state: int  #: elements of the recurrent matrix
    state_bits: int | None = None  #: of such an element in engines, None: as the model's dtype [bit]
    transformers_bits: int | None = 32  #: of such an element in Hugging Face's cache, None: as the dtype [bit]
    in_transformers: bool = True  #: whether Hugging Face's cache holds the state at all
    conv_bits: int | None = None  #: of an element of the convolution in Hugging Face's cache, None: as the dtype [bit]
    conv_drafts: bool = False  #: whether engines keep a column of the convolution for every drafted token besides

    kind = "state"


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Cross-attention to an encoder or to vision tokens: a fixed number of source tokens per request."""

    heads: int  #: query heads
    kv_heads: int  #: key/value heads
    key_dim: int  #: elements of a head's key
    value_dim: int  #: elements of a head's value
    tokens: int  #: source tokens of a request [token]

    kind = "cross"


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """Attention over the last tokens and, beside them, over one vector for every `ratio` tokens (DeepSeek-V4).

    Key and value are one vector, shared by all heads. A vector is made of the last `overlap` x `ratio` tokens, whose
    projections and gates are held until then.
    """

    heads: int  #: query heads
    dim: int  #: elements of a vector, the rotated ones included
    rope_dim: int  #: elements that are rotated
    window: int  #: the last tokens that are seen one by one [token]
    ratio: int = 0  #: tokens to a compressed vector, 0: none are made [token]
    overlap: int = 1  #: runs of `ratio` tokens that a compressed vector is made of
    index_dim: int = 0  #: elements of the indexer's key, 0 without an indexer
    index_heads: int = 0  #: query heads of the indexer
    index_top: int = 0  #: compressed vectors that the indexer lets attention read

    kind = "compressed"
    kv_heads = 1


Mixer = Attention | Latent | Recurrent | Cross | Compressed


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One tensor of a checkpoint, or `copies` tensors alike (experts)."""

    name: str  #: in its layer
    shape: tuple[int, ...]  #: of one copy
    split: str = "none"  #: what tensor parallelism divides it by: none (replicated), heads, kv, inner, vocab, expert
    copies: int = 1  #: tensors alike
    used: float = 1.0  #: copies that one token passes through
    matmul: bool = True  #: whether it is applied as a matrix product, which weight quantisation acts on

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

    mixers: tuple[Mixer, ...]  #: what moves information between tokens
    weights: tuple[Weight, ...]  #: all of its tensors

    @cached_property
    def parameters(self) -> int:
        """Elements of all weights of the layer."""
        return sum(w.parameters for w in self.weights)


@dataclass(frozen=True, kw_only=True)
class Vision:
    """How an image, or a frame of a video, becomes patches for a vision tower and tokens for the language model."""

    patch: int  #: pixels on a side of a patch [pixel]
    merge: int = 1  #: patches on a side that become one token
    side: int | None = None  #: pixels on a side that images, or tiles of one, are resized to, None: none [pixel]
    fixed: int | None = None  #: tokens of a tile, None: one for merge x merge patches [token]
    tiles: int = 1  #: the most tiles an image is cut into
    overview: bool = False  #: whether the whole image, as one more tile, stands beside several
    frames: int = 1  #: frames of a video that become one grid of patches

    def grids(self, width: int, height: int) -> int:
        """Return the tiles of an image of so many pixels."""
        if self.side is None or self.tiles == 1:
            return 1
        tiles = min(ceil(width / self.side) * ceil(height / self.side), self.tiles)
        return tiles + (self.overview and tiles > 1)

    def patches(self, width: int, height: int) -> int:
        """Return the patches of an image of so many pixels."""
        if self.side is not None:
            return self.grids(width, height) * (self.side // self.patch) ** 2
        if self.fixed is not None:
            return self.fixed * self.merge**2
        step = self.patch * self.merge
        return max(round(width / step), 1) * max(round(height / step), 1) * self.merge**2

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of an image of so many pixels. [token]"""
        if self.fixed is not None:
            return self.grids(width, height) * self.fixed
        return self.patches(width, height) // self.merge**2

    def patches_behind(self, tokens: float) -> float:
        """Return the patches of an image of which only its tokens are known: of one tile, or as they merge."""
        return float((self.side // self.patch) ** 2) if self.side is not None else tokens * self.merge**2


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a checkpoint stores its matrix weights."""

    method: str  #: name of the format or of the tool that wrote it
    bits: float | None  #: per element, scales included, None: as the dtype [bit]
    matrix_bits: float = 0.0  #: besides, of each matrix: codebooks [bit]
    row_bits: float = 0.0  #: besides, of each row of a matrix: scales [bit]
    compute: int = 16  #: width of the operands of a product [bit]
    skip: tuple[str, ...] = ()  #: patterns of modules left alone
    overrides: tuple[tuple[str, float], ...] = ()  #: (pattern, bits) of modules stored otherwise [bit]
    head: bool = False  #: whether the output head is stored so as well
    embedding: bool = False  #: whether the token embedding is stored so as well
    kv_bits: float | None = None  #: per element of the KV cache where the checkpoint fixes it [bit]
    problem: str = ""  #: why sizes cannot be told, '' when they can


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSpec:
    """A model: layers in order, weights outside the layers, and what the config says of both.

    Compared by identity: it is read once, and comparing thousands of tensors is slow.
    """

    name: str  #: as files and options spell it
    title: str  #: as reports print it
    model_type: str  #: family, as config.json spells it
    hidden: int  #: elements of a token between layers
    vocab: int  #: rows of the embedding
    max_context: int | None  #: tokens it was made for, None where the config does not say [token]
    stated_context: int | None = None  #: what the file states where YaRN lengthens it, None elsewhere [token]
    dtype: str  #: of unquantised tensors, as config.json spells it
    layers: tuple[Layer, ...]  #: in order
    outer: tuple[Weight, ...]  #: tensors outside the layers: embeddings, norms, head, vision towers
    tied: bool  #: whether the head is the embedding
    quantization: Quantization | None = None  #: how matrices are stored, None: in the dtype
    notes: tuple[str, ...] = ()  #: remarks for the user, `assumed` among them
    assumed: tuple[str, ...] = ()  #: what was taken for granted of an architecture kvplan does not know
    vision: Vision | None = None  #: how images become tokens, None where it reads none
    file_bytes: int | None = None  #: tensors of the folder's weight files, None where it has none [B]
    longer: str = ""  #: release of the same shape with a longer context, where the two are often confused
    source: Source  #: where the config came from
    config: dict[str, object] = field(default_factory=dict, compare=False, repr=False)  #: as it was read

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

    @cached_property
    def mixers(self) -> tuple[Mixer, ...]:
        """The token mixers of layers that differ: what any or all of a model's are is asked of few."""
        return tuple(mixer for layer in self.distinct_layers for mixer in layer.mixers)

    @cached_property
    def text_only(self) -> "ModelSpec":
        """The model without its vision and audio towers, as an engine loads it that is told to read text alone."""
        kept = tuple(w for w in self.outer if not w.name.partition(".")[0].endswith(("_tower", "_projector")))
        return replace(self, outer=kept, vision=None) if len(kept) < len(self.outer) else self

    @cached_property
    def sees(self) -> bool:
        """Whether it has a vision or audio tower, of which sizes may be known or not."""
        return any(w.name.partition(".")[0].endswith("_tower") for w in self.outer)

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """What it reads: text, and image (frames of a video too) and audio where it has a tower for them."""
        towers = {w.name.partition(".")[0] for w in self.outer}
        audio = (AUDIO,) if "audio_tower" in towers else ()
        return (TEXT, *((IMAGE,) if self.vision else ()), *audio)

    @cached_property
    def head_counts(self) -> frozenset[tuple[int, int]]:
        """(query heads, key/value heads) of every kind of attention layer; a latent counts as one key/value head."""
        caching = (m for m in self.mixers if not isinstance(m, Recurrent))
        return frozenset((m.heads, 1 if isinstance(m, Latent) else m.kv_heads) for m in caching)
