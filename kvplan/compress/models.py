"""Models with their weights: a folder of a user's, or the small one that is shipped."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from kvplan import catalog
from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.catalog.checkpoints.weights import model_folder, recall_weights
from kvplan.compress import recall
from kvplan.compress.texts import Language, RecallTexts, Sentences
from kvplan.errors import SpecError, one_line
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

#: the oldest release whose interfaces this room was run on, and the first it may not be
OLDEST, BEHIND = (5, 20), (6, 0)
#: parameters below which one thread is the fastest
SMALL = 5_000_000
SHIPPED = Source(kind="code", ref="kvplan's own recall model (kvplan/compress/recall.py)", date="2026-11-28")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model with its weights, and what writes texts for it."""

    model: PreTrainedModel  #: ready to run
    spec: ModelSpec  #: as the planner reads it
    language: Language  #: of its texts


def check_release() -> None:
    """Refuse releases of transformers whose interfaces are others."""
    release = tuple(int(n) for n in transformers.__version__.split(".")[:2])
    if not OLDEST <= release < BEHIND:
        raise SpecError(
            f"transformers {transformers.__version__} is not one that techniques run on; install kvplan's extra hf, "
            "which asks for 5.20 or newer, below 6"
        )


def load(word: str, dtype: str | None = None) -> Loaded:
    """Return a model by its folder, or the shipped one by its name; SpecError says in a line what is wrong."""
    check_release()
    if (content := recall_weights(word)) is not None:
        return shipped(word, content)
    folder = model_folder(word)
    spec = catalog.model(word)
    chosen = {} if dtype is None else {"dtype": getattr(torch, dtype)}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transformers.utils.logging.disable_progress_bar()
            model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **chosen)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises what its parts raise, of many kinds
        raise SpecError(f"{word}: cannot be loaded: {one_line(str(error))}") from None
    loaded = replace(spec, dtype=str(model.dtype).removeprefix("torch."))
    return Loaded(model=model.to(device).eval(), spec=loaded, language=Sentences(tokenizer))


@contextmanager
def threads(model: PreTrainedModel) -> Iterator[None]:
    """Run a small model on one thread of a CPU: its products end before more have woken. As before afterwards."""
    before = torch.get_num_threads()
    small = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < SMALL
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shipped(word: str, content: bytes) -> Loaded:
    """Return the shipped recall model, in 32 bits: its 16-bit weights are exact in them."""
    model = transformers.LlamaForCausalLM(recall.config())
    model.load_state_dict({k: v.float() for k, v in safetensors.torch.load(content).items()}, strict=False)
    model.tie_weights()
    return Loaded(model=model.eval(), spec=described(model, word), language=RecallTexts())


def described(model: PreTrainedModel, name: str) -> ModelSpec:
    """Return the planner's reading of a model in memory."""
    raw = model.config.to_dict()
    raw["dtype"] = str(model.dtype).removeprefix("torch.")
    return read_model(raw, name=name, place=name, source=SHIPPED, classes=class_defaults())


def weights_of(model: PreTrainedModel) -> bytes:
    """Return a model's weights in 16 bits as a safetensors file; tied ones once."""
    state = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    return bytes(safetensors.torch.save(state))
