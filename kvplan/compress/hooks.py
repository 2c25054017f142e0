"""What is hung into a model while it runs under a technique: nothing of the model's own code is changed.

Hooks hand each layer of the cache the rotation of the tokens that come; a registered attention function hands it the
queries. Releases and models call the cache `past_key_values`, `layer_past` or `cache`: it is known by its type.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from kvplan.compress.attention import AttentionPass
from kvplan.compress.forms import LatentForm
from kvplan.compress.layers import CompressedLayer
from kvplan.compress.rotation import Angles, half_turned

#: our attention function beside each of the model's own; the masks a model makes for it are those of its own
NAMES = {"sdpa": "kvplan_over_sdpa", "eager": "kvplan_over_eager"}
#: what the file of a model imports where its attention asks for registered functions
ASKED = "ALL_ATTENTION_FUNCTIONS"
_MASKS = {"sdpa": sdpa_mask, "eager": eager_mask}


def attention_modules(model: PreTrainedModel) -> dict[int, torch.nn.Module]:
    """Return layer -> its attention module."""
    modules: dict[int, torch.nn.Module] = {}
    for module in model.modules():
        place = getattr(module, "layer_idx", None)
        if isinstance(place, int) and "Attention" in type(module).__name__:
            modules.setdefault(place, module)
    return modules


def base(model: PreTrainedModel) -> str:
    """Return the attention implementation the model was loaded with, '' for one that cannot be taken over."""
    name = str(model.config.get_text_config()._attn_implementation)
    return name if name in NAMES else ""


def cache_name(model: PreTrainedModel) -> str:
    """Return what the model's forward calls the cache."""
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


def takes_functions(model: PreTrainedModel) -> bool:
    """Whether the model calls registered attention functions; Falcon computes attention in its own class."""
    return bool(model.config.model_type != "falcon")


def absorbs(model: PreTrainedModel) -> bool:
    """Whether our attention function can stand for the model's own in all layers, and so read latents of values."""
    asks = all(hasattr(sys.modules[type(m).__module__], ASKED) for m in attention_modules(model).values())
    return asks and takes_functions(model) and bool(base(model))


def rotates(module: torch.nn.Module) -> Angles | None:
    """Return how a model's attention rotates keys, found by trying its own function; None for a way not known here.

    Halves against halves (Llama), told for each element or for each pair (gpt-oss). Pairs of neighbours are not known.
    """
    own = getattr(sys.modules[type(module).__module__], "apply_rotary_pos_emb", None)
    if own is None:
        return None
    generator = torch.Generator().manual_seed(0)
    keys, angle = torch.randn(1, 2, 3, 8, generator=generator), torch.rand(1, 3, 4, generator=generator)
    whole = torch.cat([angle, angle], -1)
    wanted = keys * whole.cos()[:, None] + half_turned(keys) * whole.sin()[:, None]
    for half, told in ((False, whole), (True, angle)):
        try:
            turned = own(keys, keys, told.cos(), told.sin())[1]
        except (TypeError, RuntimeError, ValueError, IndexError):
            continue
        if isinstance(turned, Tensor) and turned.shape == wanted.shape and torch.allclose(turned, wanted, atol=1e-5):
            return Angles(half=half)
    return None


def over(name: str) -> Any:
    """Return an attention function that lets a layer of a compressed cache attend, and any other as before."""

    def attention(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *more: Any,
        **told: Any,
    ) -> tuple[Tensor, Tensor | None]:
        layer = getattr(module, "_kvplan_layer", None)
        form = None if layer is None else layer.plan.form
        read = form.read if isinstance(form, LatentForm) else lambda out: out
        if layer is None or layer.plan.rule is None:
            eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
            before = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)
            out, weights = before(module, query, key, value, attention_mask, *more, **told)
            return read(out), weights
        scale = told.get("scaling")
        asked = AttentionPass(
            query, key, value, None, query.shape[-1] ** -0.5 if scale is None else scale,
            softcap=told.get("softcap"), sinks=told.get("s_aux"),
        )  # fmt: skip
        return read(layer.attend(asked, attention_mask)), None

    return attention


for _name, _ours in NAMES.items():
    AttentionInterface.register(_ours, over(_name))
    AttentionMaskInterface.register(_ours, _MASKS[_name])


class OwnAttention(TorchFunctionMode):  # type: ignore[misc]
    """Lets a layer attend where a model calls SDPA itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer: CompressedLayer | None = None  #: that attends next

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take over one call of SDPA, pass on any other."""
        told = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention or self.layer is None:
            return func(*args, **told)
        layer, self.layer = self.layer, None
        query, key, value = args[:3]
        asked = AttentionPass(query, key, value, None, query.shape[-1] ** -0.5)
        return layer.attend(asked, told.get("attn_mask")).transpose(1, 2)


@contextmanager
def hung(model: PreTrainedModel, angles: dict[int, Angles], *, drops: bool) -> Iterator[None]:
    """Hang the hooks in, and where a layer attends itself (`drops`) our function; all is as before afterwards."""
    modules, text = attention_modules(model), model.config.get_text_config()
    before, latest = text._attn_implementation, {}
    with ExitStack() as stack:

        def remember(_module: Any, args: Any, kwargs: Any, _out: Any) -> None:
            latest["positions"] = kwargs.get("position_ids", args[1] if len(args) > 1 else None)

        own = OwnAttention() if drops and not takes_functions(model) else None

        def hand_over(module: Any, args: Any, kwargs: Any) -> None:
            caches = [v for v in (*kwargs.values(), *args) if isinstance(v, Cache)]
            layer = caches[0].layers[module.layer_idx] if caches else None
            layer = layer if isinstance(layer, CompressedLayer) else None
            module._kvplan_layer = layer
            if own is not None:
                own.layer = layer if layer is not None and layer.plan.rule is not None else None
            turned = kwargs.get("position_embeddings")
            if layer is not None and isinstance(turned, tuple) and module.layer_idx in angles:
                positions = latest.get("positions")
                if positions is not None:
                    layer.turn = angles[module.layer_idx].see(turned[0], turned[1], positions)
                    layer.positions = positions

        for name, module in model.named_modules():
            if name.rpartition(".")[2].startswith("rotary_emb"):
                stack.callback(module.register_forward_hook(remember, with_kwargs=True).remove)
        for module in modules.values():
            stack.callback(module.register_forward_pre_hook(hand_over, with_kwargs=True).remove)
        if drops and own is None:
            text._attn_implementation = NAMES[before]
            stack.callback(setattr, text, "_attn_implementation", before)
        if own is not None:
            stack.enter_context(own)
        try:
            yield
        finally:
            for module in modules.values():
                module.__dict__.pop("_kvplan_layer", None)
