"""From a model's layers to the layout of its cache, as the architecture needs it or as Hugging Face holds it."""

from dataclasses import replace
from functools import lru_cache

from kvplan.architectures.reader import DTYPE_BITS
from kvplan.kv.layout import Group, Keep, KVLayout
from kvplan.specs.model import Attention, Compressed, Cross, Latent, Mixer, ModelSpec, Recurrent

#: kinds whose bytes grow with the sequence's own tokens
ATTENTION_KINDS = ("full", "sliding", "chunked", "latent", "index")


@lru_cache(maxsize=64)
def kv_layout(model: ModelSpec, bits: float, *, reading: str = "architecture") -> KVLayout:
    """Return a model's cache as the architecture needs it, or as Hugging Face's cache holds it after a prefill.

    transformers 5 differs from the architecture: sliding layers keep window - 1 tokens, convolutions one column
    more, recurrent states are fp32, and some models store more heads (measured, transformers 5.23). Remembered.
    """
    dtype = DTYPE_BITS[model.dtype]
    layers: dict[tuple[Group, ...], list[int]] = {}
    for index, layer in enumerate(model.layers):
        for mixer in layer.mixers:
            layers.setdefault(_groups(mixer, bits, dtype, reading == "transformers"), []).append(index)
    return KVLayout(groups=tuple(replace(g, layers=tuple(places)) for groups, places in layers.items() for g in groups))


def _groups(mixer: Mixer, bits: float, dtype: float, hugging: bool) -> tuple[Group, ...]:
    if isinstance(mixer, Attention):
        return (_attention(mixer, bits, hugging),)
    if isinstance(mixer, Latent):
        return _latent(mixer, bits, hugging)
    if isinstance(mixer, Cross):
        return (_cross(mixer, bits),)
    if isinstance(mixer, Compressed):
        return _compressed(mixer, bits, dtype, hugging)
    return (_state(mixer, dtype, hugging),)


def _heads(kind: str, m: Attention | Cross, bits: float, heads: int, width: float, key: float) -> Group:
    """A cache of key/value heads: `heads` of them are stored, with keys `key` and both together `width` wide."""
    work = 2.0 * m.heads * (m.key_dim + m.value_dim)
    return Group(
        kind=kind, layers=(), vectors=heads, width=width, key_width=key, bits=bits, split=m.kv_heads,
        query_heads=m.heads, flops=work, pair_flops=work,
    )  # fmt: skip


def _cross(m: Cross, bits: float) -> Group:
    group = _heads("cross", m, bits, m.kv_heads, m.key_dim + m.value_dim, m.key_dim)
    return replace(group, keep=Keep(fixed=m.tokens), shareable=False)


def _attention(a: Attention, bits: float, hugging: bool) -> Group:
    if not a.stored:
        return Group(kind="shared", layers=(), query_heads=a.heads, reads=a.window)
    cached = a.in_transformers if hugging and a.in_transformers else a
    window = cached.window
    if hugging and window is not None:
        window = window - 1 or None  # a window of 1 slices [-0:], which trims nothing
    group = _heads(cached.kind, a, bits, cached.kv_heads, cached.key_dim + cached.value_dim, cached.key_dim)
    return replace(group, keep=Keep(window=window, chunk=a.chunked), rope=a.rope)


def _latent(m: Latent, bits: float, hugging: bool) -> tuple[Group, ...]:
    """MLA in its absorbed form: every query head meets the same vector (DeepSeek-V2, arXiv 2405.04434)."""
    main = Group(
        kind="latent",
        layers=(),
        vectors=1,
        width=m.elements,
        key_width=m.rank,
        bits=bits,
        query_heads=m.heads,
        flops=2.0 * m.heads * (2 * m.rank + m.rope_dim),
        pair_flops=2.0 * m.heads * (m.nope_dim + m.rope_dim + m.value_dim),
        reads=m.index_top or None,
    )
    if not m.stored:
        main = Group(kind="shared", layers=(), query_heads=m.heads, reads=m.index_top or None)
    if not m.index_dim:
        return (main,)
    return main, _indexer(m, 32.0 if hugging and m.index_single else bits)


def _indexer(m: Latent | Compressed, bits: float) -> Group:
    """The keys by which sparse attention chooses its tokens: one vector for all heads of the indexer."""
    work = 2.0 * m.index_heads * m.index_dim
    return Group(
        kind="index", layers=(), vectors=1, width=m.index_dim, key_width=m.index_dim, bits=bits,
        query_heads=m.index_heads, flops=work, pair_flops=work,
    )  # fmt: skip


#: what vLLM's pages of compressed attention hold: tokens of a page of compressed vectors (a server's block_size), of
#: one of the window, and bytes of one of the compressor's state. The last two are inferred from the groups of 256-,
#: 64-, 8- and 4-token pages that vLLM 0.22 reports for DeepSeek-V4-Flash, not read in its code
COMPRESSED_PAGE, WINDOW_PAGE, STATE_PAGE = 256, 64, 32_768


def _compressed(m: Compressed, bits: float, dtype: float, hugging: bool) -> tuple[Group, ...]:
    """DeepSeek-V4: a window, compressed vectors, the indexer's, and what waits to be compressed.

    fp8 vectors keep the rotated elements in 16 bits and a byte of scale per 64 others, 8 bytes in all.
    """
    plain = Group(
        kind="sliding",
        layers=(),
        vectors=1,
        width=m.dim,
        key_width=m.dim,
        bits=bits,
        keep=Keep(window=m.window - 1 if hugging else m.window),
        query_heads=m.heads,
        flops=4.0 * m.heads * m.dim,
        pair_flops=4.0 * m.heads * m.dim,
        page=WINDOW_PAGE,
        fp8_side=m.rope_dim + 8,
    )
    if not m.ratio:  # Hugging Face's cache holds the one vector as key and as value
        return (replace(plain, width=2 * m.dim) if hugging else plain,)
    groups: tuple[Group, ...] = (
        plain,
        replace(plain, kind="latent", keep=Keep(every=m.ratio), reads=m.index_top or None, page=COMPRESSED_PAGE),
    )
    widths = [m.dim] + ([m.index_dim] if m.index_dim else [])
    if m.index_dim:
        groups += (replace(_indexer(m, bits), keep=Keep(every=m.ratio), page=COMPRESSED_PAGE),)
    page = STATE_PAGE // (2 * m.overlap * m.dim * 4)
    for width in widths:
        # a projection and a gate for each run a token takes part in; Hugging Face keeps those of the rest
        waiting = Group(
            kind="state",
            layers=(),
            side=2 * m.overlap * width * (dtype if hugging else 32.0) / 8,
            keep=Keep(rest=m.ratio) if hugging else Keep(window=m.overlap * m.ratio),
            page=max(page, 1),
            shareable=False,
        )
        groups += (waiting,)
        if hugging and m.overlap > 1:
            run = width * m.ratio * (dtype + 32.0) / 8  # its gates have a 32-bit bias added
            groups += (replace(waiting, side=run, keep=Keep(every=m.ratio, window=1)),)
    return groups


def _state(r: Recurrent, dtype: float, hugging: bool) -> Group:
    if hugging and not r.in_transformers:
        return Group(kind="state", layers=(), split=1)
    columns = r.conv_kernel if hugging and r.conv_channels else r.conv_kernel - 1
    state_bits = r.transformers_bits if hugging else r.state_bits
    conv_bits = r.conv_bits if hugging and r.conv_bits else dtype
    convolved = r.conv_channels * columns
    constant = (convolved * conv_bits + r.state * (state_bits or dtype)) / 8
    return Group(
        kind="state", layers=(), constant=constant, state=convolved + r.state, split=1_000_000, shareable=False,
        column=r.conv_channels * conv_bits / 8 if r.conv_drafts else 0.0,
    )  # fmt: skip
