"""A short healing of latents: their matrices are trained so that the model says what it said uncompressed.

Distillation: the loss is the KL divergence from the uncompressed model's next tokens on calibration texts. The model's
own weights stay as they are; what is trained are the matrices into and out of the latents.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel

from kvplan.compress.built import Settings
from kvplan.compress.caches import running
from kvplan.compress.forms import Basis
from kvplan.compress.hooks import cache_name
from kvplan.compress.latents import Learned
from kvplan.compress.models import Loaded
from kvplan.kv import spelling

#: of Adam, at its highest; it falls to a tenth
RATE = 2e-3


def healed(
    loaded: Loaded, learned: Learned, texts: Sequence[Tensor], steps: int,
    progress: Callable[[float, str], None] = lambda _share, _what: None,
) -> Learned:  # fmt: skip
    """Return latents trained for `steps` passes over one text [1, tokens] each."""
    model = loaded.model
    latents = {place: tuple(_free(basis) for basis in pair) for place, pair in learned.latents.items()}
    trained = [t for pair in latents.values() for b in pair for t in (b.directions, b.mean, b.rebuilding)]
    optimiser = torch.optim.Adam([t for t in trained if t is not None], lr=RATE)
    said = [_logits(loaded, text).log_softmax(-1) for text in texts]
    alone = "+".join(f"{kind.name}:{a}" for kind, a in spelling.parts(learned.technique) if kind.name == "mhc")
    settings = Settings(latents=latents)  # type: ignore[arg-type]
    with frozen(model), running(model, loaded.spec, alone, settings) as under:
        for step in range(steps):
            which = step % len(texts)
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - 0.9 * step / steps)
            logits = model(texts[which], **{cache_name(model): under.cache()}, use_cache=True).logits
            loss = (
                kl_div(log_softmax(logits.float(), -1), said[which], log_target=True, reduction="none").sum(-1).mean()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            progress((step + 1) / steps, f"healing, KL divergence {loss.item():.3f}")
    return replace(learned, latents={place: (_fixed(k), _fixed(v)) for place, (k, v) in latents.items()})


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Keep the model's own weights as they are while others are trained."""
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in own:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in own:
            parameter.requires_grad_(True)


def _logits(loaded: Loaded, text: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(text).logits.float()
    return logits


def _free(basis: Basis) -> Basis:
    """Return a basis whose matrices can be trained, the one back apart from the one into the latent."""
    back = basis.directions if basis.rebuilding is None else basis.rebuilding
    each = (t.detach().clone().requires_grad_(True) for t in (basis.directions, basis.mean, back))
    return Basis(*each)


def _fixed(basis: Basis) -> Basis:
    back = basis.rebuilding
    return Basis(basis.directions.detach(), basis.mean.detach(), None if back is None else back.detach())
