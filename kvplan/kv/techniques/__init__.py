"""Every technique: one function from a cache layout to a cache layout, and what it says of itself.

Adding a technique is one `@technique(...)` function in the file of the factor it acts on; spelling, help, listing and
the general tests follow.
"""

# isort: off
from kvplan.kv.techniques.technique import TECHNIQUES, Technique, has_heads, paper, technique

# imported in the order in which they are listed
from kvplan.kv.techniques.heads import shared_heads
from kvplan.kv.techniques.width import FORMS
from kvplan.kv.techniques.width import spelled as latents
from kvplan.kv.techniques.bits import quantised
from kvplan.kv.techniques.tokens import evicting
# isort: on

__all__ = [
    "FORMS", "TECHNIQUES", "Technique", "evicting", "has_heads", "latents", "paper", "quantised", "shared_heads",
    "technique",
]  # fmt: skip
