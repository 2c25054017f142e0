"""Every technique: one function from a cache layout to a cache layout, and what it says of itself.

Adding a technique is one `@technique(...)` function in the file of the factor it acts on; spelling, help, listing and
the general tests follow.
"""

# isort: off
from kvplan.kv.techniques.technique import (
    TECHNIQUES, Speed, Support, Technique, has_heads, paper, served, technique,
)  # fmt: skip

# imported in the order in which they are listed
from kvplan.kv.techniques.heads import shared_heads
from kvplan.kv.techniques.width import FORMS
from kvplan.kv.techniques.width import spelled as latents
from kvplan.kv.techniques.bits import quantised
from kvplan.kv.techniques.tokens import evicting
from kvplan.kv.techniques import prompts, images, reads, layers, tiers  # noqa: F401
# isort: on

__all__ = [
    "FORMS", "TECHNIQUES", "Speed", "Support", "Technique", "evicting", "has_heads", "latents", "paper", "quantised",
    "served", "shared_heads", "technique",
]  # fmt: skip
