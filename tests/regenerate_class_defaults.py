"""Rewrite kvplan/architectures/class_defaults.json: python tests/regenerate_class_defaults.py (with transformers)

Only plain values are kept, and only for the architectures kvplan reads: transformers drops a value equal to its
class default when it saves a nested config, so these defaults are part of the config.json format.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

KEEP = (int, float, str, bool, type(None))
DROP = {
    "transformers_version",
    "architectures",
    "output_hidden_states",
    "return_dict",
    "dtype",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "initializer_range",
    "use_cache",
    "rms_norm_eps",
    "layer_norm_eps",
    "norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "attention_dropout",
    "hidden_act",
    "hidden_activation",
    "pretraining_tp",
    "rope_theta",
    "output_attentions",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "layer_norm_epsilon",
    "activation_function",
    "scale_attn_weights",
    "router_aux_loss_coef",
    "output_router_logits",
}


def defaults_of(model_type: str) -> dict[str, object]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = {}
    for field in dataclasses.fields(CONFIG_MAPPING[model_type]):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        plain = isinstance(value, KEEP) or (
            isinstance(value, (list, tuple)) and all(isinstance(v, KEEP) for v in value)
        )
        if field.name not in DROP and value is not dataclasses.MISSING and plain:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    for name, part in nested_of(model_type).items():  # what the class puts where the file has no such part
        found[name] = {"model_type": part.model_type} | {
            k: v for k, v in part.init_kwargs.items() if isinstance(v, KEEP) and k not in DROP
        }
    return found


def nested_of(model_type: str) -> dict[str, Any]:
    """Return the nested configs the class builds even when the file lacks them."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return {name: part for name, part in CONFIG_MAPPING[model_type].sub_configs_defaults.items() if not part.optional}


def build() -> dict[str, object]:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from kvplan.architectures import FAMILIES, TOWERS
    from kvplan.architectures.vision import VISION

    outer = [t for t in TOWERS if t in CONFIG_MAPPING]
    inner = [part.model_type for t in outer for part in CONFIG_MAPPING[t].sub_configs_defaults.values()]
    types = sorted({t for t in [*FAMILIES, *outer, *inner, *VISION] if t in CONFIG_MAPPING})
    return {
        "source": {
            "kind": "code",
            "ref": f"configuration classes of transformers {transformers.__version__}",
            "date": "2026-11-23",
        },
        "model_types": {t: defaults_of(t) for t in types},
    }


if __name__ == "__main__":
    target = Path(__file__).parent.parent / "kvplan" / "architectures" / "class_defaults.json"
    target.write_text(json.dumps(build(), indent=0, sort_keys=True) + "\n", "utf-8")
    print(f"wrote {target}")
