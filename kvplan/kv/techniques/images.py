"""Techniques that keep few of the tokens that images and frames become."""

from dataclasses import replace
from fractions import Fraction

from kvplan.errors import Incompatible
from kvplan.kv.layout import KVLayout
from kvplan.kv.techniques.technique import ANY, Speed, paper, technique
from kvplan.kv.techniques.tokens import evicting, share_of

#: a cache of fewer tokens, in 16 bits and without holes, is read as that of a shorter prompt
SHORTER = Speed(low=0.9, high=1.1, measured="as that of a shorter prompt")


@technique(
    "visual",
    spelling="visual:P%",
    title="visual-token pruning",
    factor="tokens",
    example="visual:33%",
    granularity="token of an image, the same for all heads",
    query="agnostic",
    needs="a model that reads images as tokens of its prompt; a pruned token is never stored",
    risk="drops parts of images",
    speed={ANY: SHORTER},
    left=lambda argument: float(share_of(argument, "visual", "33%")),
    quality="image questions retained 0.98 to 0.99 at a third of the tokens, 0.88 to 0.94 at a ninth (Qwen2.5-VL-7B)",
    source=paper("FastV, arXiv 2403.06764; VisionZip, arXiv 2412.04467; SparseVLM, arXiv 2410.04417", "2024-03-11"),
)
def visual(layout: KVLayout, argument: str) -> KVLayout:
    """Keep P per cent of the tokens of images and frames, and all of the text.

    Attention of prompts falls with the pairs that are left; their matrix products are counted whole, which is a bound
    where a method prunes before the decoder.
    """
    share = share_of(argument, "visual", "33%")
    if not layout.visual:
        raise Incompatible(
            f"visual:{argument}: no images among the tokens of its prompts; name a workload that has some, as video-qa"
        )
    left = 1 - Fraction(layout.visual).limit_denominator(10_000) * (1 - share)
    kept = evicting(
        layout, lambda keep: replace(keep, prompt_share=left), f"visual:{argument}", scores=False, shareable=True
    )
    return replace(kept, prefill_flops=layout.prefill_flops * float(left) ** 2)
