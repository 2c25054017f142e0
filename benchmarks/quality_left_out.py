"""How well losses are predicted that were left out: `python benchmarks/quality_left_out.py`.

Every published score of an evicting technique on RULER is predicted without the rows of its model (from the other
model's), and without those of its technique (from the techniques like it); so are those of formats and latents at long
prompts and in reasoning. A range should hold 72 to 88 % of them, and what it misses should rather be milder than
harsher.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kvplan import catalog
from kvplan.catalog.scores import quality_table
from kvplan.kv.techniques import TECHNIQUES, Technique
from kvplan.quality.carrying import relatives
from kvplan.quality.estimates import AskedLoss, estimated
from kvplan.quality.loss import quality
from kvplan.quality.scores import pools
from kvplan.specs.quality import AVERAGE, SHORT, QualityTable, Score

#: a measured score this near a bound counts as held: two runs of one benchmark differ by as much
NOISE = 0.004


@dataclass(frozen=True)
class Tried:
    """A score that was left out, and what was said of it."""

    row: Score
    loss: float
    drop: float | None
    low: float
    high: float

    @property
    def held(self) -> bool:
        """Whether the range holds it."""
        return self.low - NOISE <= self.loss <= self.high + NOISE

    @property
    def kinder(self) -> float:
        """How far the loss is above the range, in widths of it; 0 where it is not."""
        return max(self.loss - self.high - NOISE, 0.0) / max(self.high - self.low, NOISE)


def scored(table: QualityTable) -> list[Score]:
    """Return the scores of evicting techniques on RULER, random choice aside."""
    return [s for s in table.scores if s.benchmark == "RULER" and s.query and s.share and s.technique != "random"]


def kind_of(row: Score) -> Technique:
    """Return the technique of a row; one that kvplan does not spell chooses by score as SnapKV does."""
    return TECHNIQUES.get(row.technique) or replace(TECHNIQUES["snapkv"], name=row.technique, title=row.technique)


def task_of(row: Score) -> str:
    """Return the task a row speaks for."""
    return "qa-single" if row.task == AVERAGE else row.task


def models_out(table: QualityTable) -> Iterator[Tried]:
    """Yield every score predicted without any of its model."""
    for row in scored(table):
        left = replace(table, scores=tuple(s for s in table.scores if s.model != row.model))
        kind, model, context = kind_of(row), catalog.model(row.model or ""), row.context or 4096
        found, _ = pools(left, kind, row.technique, model, context, seen=row.query == "seen")
        asked = AskedLoss(name=row.technique, kind=kind, share=row.share or 1.0, task=task_of(row), context=context)
        quality = next((q for p in found if (q := estimated(asked, p, found, own=False)).known), None)
        if quality is not None:
            yield Tried(row, max(1 - row.retained, 0.0), quality.drop, quality.low, quality.high)


def techniques_out(table: QualityTable) -> Iterator[Tried]:
    """Yield every score predicted without any of its technique, where there are three techniques like it."""
    for row in scored(table):
        kind = kind_of(row)
        if kind.query != "aware":
            continue
        seen = row.query == "seen"
        low, high, count = relatives(table, kind, row.share or 1.0, task_of(row), seen=seen)
        if count:
            yield Tried(row, max(1 - row.retained, 0.0), None, low, high)


#: models that the catalogue has under another name, or that are like one it has
LIKE = {
    "Mistral-7B": "mistral-7b", "LongChat-7B": "llama-7b", "Ministral-7B": "mistral-7b", "Qwen3.8-27B": "qwen3.5-27b",
}  # fmt: skip
#: spellings of formats by what they leave of 16 bits
SPELLED = {
    "kivi": {0.3125: "kivi:4", 0.25: "kivi:4", 0.125: "kivi:2"},
    "turboquant": {0.25: "turboquant:4", 0.1875: "turboquant:3"},
}


def spelled(row: Score) -> str:
    """Return the spelling a row of a format or a latent speaks for, '' for none of kvplan's."""
    family, share = row.technique.partition(":")[0], row.share or 1.0
    if family == "mhc":
        return f"mhc:{round(1 / share, 3):g}x"
    if family in SPELLED:
        return SPELLED[family].get(share, "")
    return row.technique if family in ("fp8", "nvfp4", "int8", "int4") else ""


def rounded_out(table: QualityTable, key: Callable[[Score], object]) -> Iterator[Tried]:
    """Yield every score of a format or latent, predicted without rows alike in `key`, where a loss is known then."""
    for row in table.scores:
        name = spelled(row) if row.share and row.task != SHORT else ""
        if not name:
            continue
        left = replace(table, scores=tuple(s for s in table.scores if key(s) != key(row)))
        model = catalog.model(LIKE.get(row.model or "", row.model or ""))
        found = quality(name, model, task_of(row), row.context or 8192, left)
        if found.known:
            yield Tried(row, max(1 - row.retained, 0.0), found.drop, found.low, found.high)


def family(row: Score) -> str:
    """Return a row's technique, whatever its argument."""
    return row.technique.partition(":")[0]


def summary(name: str, tried: Sequence[Tried]) -> str:
    """Return the share held, and how far the kindest predictions were off."""
    held = sum(t.held for t in tried) / len(tried)
    harsher = sum(t.loss > t.high + NOISE for t in tried) / len(tried)
    far = sum(t.kinder > 1 for t in tried) / len(tried)
    worst = max(tried, key=lambda t: t.kinder)
    return (
        f"{name}: {len(tried)} scores, {held:.0%} held, {harsher:.0%} lose more than their range, {far:.0%} by more "
        f"than its width (worst: {worst.row.technique} at {worst.row.share} on {worst.row.model}, "
        f"{worst.row.condition}: {worst.loss:.2f}, said {worst.low:.2f} to {worst.high:.2f})"
    )


def main() -> None:
    """Print both."""
    table = quality_table()
    print(summary("model left out", list(models_out(table))))
    print(summary("technique left out", list(techniques_out(table))))
    print(summary("formats and latents, model left out", list(rounded_out(table, lambda s: s.model))))
    print(summary("formats and latents, technique left out", list(rounded_out(table, family))))


if __name__ == "__main__":
    main()
