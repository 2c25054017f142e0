"""Mistral and Mixtral."""

from kvplan.architectures.attention import uniform
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("mistral", "ministral3", "voxtral_realtime_text")
def mistral(c: Config) -> Body:
    """Read Mistral: every layer has the one window of the config, or none.

    Voxtral's model for live speech scales each layer by its delay, through two matrices of rank 32.
    """
    delay = 2 * 32 * c.size("hidden_size") if c.model_type == "voxtral_realtime_text" else 0
    return plain(c, *uniform(c), extra_norm=delay)


@family("mixtral")
def mixtral(c: Config) -> Body:
    """Read Mixtral: experts in every layer, one window or none."""
    return sparse(c, *uniform(c), always, moe(c, c.size("hidden_size"), c.size("intermediate_size")))
