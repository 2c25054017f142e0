"""Multimodal models whose files state the language model's sizes at the top: Phi-3 and 4, MiniCPM-V and -o."""

from dataclasses import replace

from kvplan.architectures.attention import mixed, uniform
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.families.qwen import upper
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("phi4mm", "phi4_multimodal", "phi3_v")
def phi4_multimodal(c: Config) -> Body:
    """Read the language model of Phi-3-vision and Phi-4-multimodal, which is Phi-3's; more is said to be left."""
    return replace(plain(c, *uniform(c)), notes=alone(c))


@family("minicpmv", "minicpmo")
def minicpm_v(c: Config) -> Body:
    """Read the language model of MiniCPM-V and -o 2.6, which is Qwen2's; its towers are said to be missing."""
    return replace(plain(c, *mixed(c, upper(c)), qkv_bias=True), notes=alone(c))


def alone(c: Config) -> tuple[str, ...]:
    """Return the remark that only the language model is read."""
    return (f"{c.model_type}: only its language model is read; weights of its other parts are not counted",)
