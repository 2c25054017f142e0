"""Carrying a score to where nobody measured: to another model, a longer prompt, a technique like one that was."""

from math import asin, hypot, pi, sin, sqrt

from kvplan.kv.techniques import Technique
from kvplan.quality.scores import curve, leading, retained_at
from kvplan.specs.quality import QualityTable

#: how far a score on another model lies from the one carried, in asin(sqrt(loss)), as a share of that angle plus
#: OFFSET: of 100 pairs of losses (Llama-3.1-8B and Qwen3-8B, ten evicting techniques, five tests of RULER) 18 % are
#: milder by more than MILDER, 8 % harsher by more than HARSHER
MILDER, HARSHER, OFFSET = 0.2, 0.7, 0.15
#: the same for rounded and narrowed caches: 20 of 23 scores of formats and latents, predicted without their model, lie
#: within it; two of the other three are of the same 30B model of 3B working parameters
ROUNDED, ROUNDED_OFFSET = 0.25, 0.04
#: the same for each doubling of the prompt beyond what was measured: SnapKV and StreamingLLM moved by 0.02 to 0.05
#: from 4,096 to 16,384 tokens (Qwen3-8B); an assumption beyond
DOUBLING = 0.05


def angle(loss: float) -> float:
    """Return asin(sqrt(loss)): shares near 0 and 1 scatter less than those between, angles alike (Bartlett, 1947)."""
    return asin(sqrt(min(max(loss, 0.0), 1.0)))


def loss_at(turned: float) -> float:
    """Return the loss of an angle."""
    return sin(min(max(turned, 0.0), pi / 2)) ** 2


def carried(low: float, high: float, *, factor: str, very: bool, doublings: float) -> tuple[float, float]:
    """Return a range of losses widened for another model and for longer prompts than were measured.

    The two errors are taken as independent.
    """
    mild, harsh = angle(low), angle(high)
    far = DOUBLING * max(doublings, 0.0)
    more, offset = (HARSHER, OFFSET) if factor == "tokens" else (ROUNDED, ROUNDED_OFFSET)
    down, up = (0.0, 0.0) if very else (MILDER * (mild + offset), more * (harsh + offset))
    return loss_at(mild - hypot(down, far)), loss_at(harsh + hypot(up, far))


#: of the techniques like one that was not measured, one in so many, the mildest, does not count
TRIMMED = 3


def relatives(table: QualityTable, kind: Technique, share: float, task: str, *, seen: bool) -> tuple[float, float, int]:
    """Return the least and the most that other techniques which choose tokens by score lost, and how many they are.

    (0, 1, 0) where fewer than three were measured at the share, or the technique is no such one. The mildest
    third is left out: a technique nobody measured is not promised to be among the best.
    """
    if kind.query != "aware" or table.own:
        return 0.0, 1.0, 0
    state = "seen" if seen else "unseen"
    names = {r.technique for r in table.scores if r.query == state and r.technique not in (kind.name, "random")}
    losses = []
    for name in sorted(names):
        rows = [r for r in table.scores if r.technique == name and r.query == state and r.share and r.grade != "C"]
        answer = leading(rows, task, stands_in=True)
        points = curve(answer) if answer else ()
        if points and points[-1].share <= share * 1.001:
            at = retained_at(points, share)
            losses.append((1 - at.high, 1 - at.low))
    if len(losses) < 3:
        return 0.0, 1.0, 0
    mildest = sorted(max(low, 0.0) for low, _ in losses)[len(losses) // TRIMMED]
    return mildest, max(high for _, high in losses), len(losses)
