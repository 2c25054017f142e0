"""Measure the shipped recall model from all three seeds, and write what came out into the pages.

    python benchmarks/measure_recall.py            # docs/compress.md and README.md, between their `measured` marks
    python benchmarks/measure_recall.py healing    # only the table of healed latents; or `speculation`, `chart`

One core, about ten minutes. Nothing in those places is typed by hand.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import kvplan
from kvplan.api.compress import compress
from kvplan.report.blocks import Page
from kvplan.report.evaluate import chart, figure
from kvplan.report.formats import Report, Screen, render
from kvplan.units import show_percent

ROOT = Path(__file__).parent.parent
MODELS = ("recall", "recall:1", "recall:2")
TECHNIQUES = (
    "fp8", "int4", "nvfp4", "h2o:50%", "random:50%", "h2o:20%", "random:20%", "snapkv:50%", "snapkv:20%",
    "pyramidkv:20%", "kvzip:50%", "kvzip:20%", "streaming:4,92", "quest:96", "mhc:2x", "mhc:4x", "mhc:8x",
    "mhc:2x+h2o:50%", "mhc:2x+fp8", "h2o:20%+fp8", "mqa",
)  # fmt: skip


#: of them, those that the chart shows
DRAWN = ("h2o:50%", "h2o:20%", "random:20%", "snapkv:50%", "kvzip:20%", "mhc:2x", "mhc:4x", "int4")


def picture() -> None:
    """Draw quality against memory of the first seed, of as many techniques as a legend can name."""
    done = kvplan.evaluate("recall", DRAWN, tasks="multihop", samples=24, questions=8, batch=8)
    drawn = chart(done.outcome.scores, done.outcome.memories)
    assert drawn is not None
    text = render(Report(lambda: Page.of(drawn), dict), "text", Screen(width=100))
    put(ROOT / "README.md", "chart", f"```text\n{text.rstrip()}\n```\n")


def healing() -> None:
    """Measure latents as learned and after a short distillation, on every seed."""
    rows = ["| latents | steps of healing | seed 0 | seed 1 | seed 2 |", "|---|---|---|---|---|"]
    for technique, steps in (("mhc:4x", 0), ("mhc:4x", 150), ("mhc:6x", 0), ("mhc:6x", 300)):
        cells = []
        for model in MODELS:
            with TemporaryDirectory() as folder:
                compress(model, technique, folder, heal=steps)
                done = kvplan.evaluate(
                    model, technique, latents=folder, tasks="multihop", samples=24, questions=8, batch=8
                )
            cells.append(score(done.outcome, technique, "unseen"))
            print(model, technique, steps, cells[-1], flush=True)
        rows.append(f"| {technique} | {steps} | {' | '.join(cells)} |")
    put(ROOT / "docs" / "compress.md", "healing", "\n".join(rows) + "\n")


def speculation() -> None:
    """Measure how many drafted tokens stand, by the technique that drafts."""
    rows = ["| draft | cache of the draft | accepted |", "|---|---|---|"]
    names = ("fp8", "int4", "quest:96", "h2o:50%", "h2o:20%", "streaming:4,92", "mhc:2x")
    done = kvplan.evaluate("recall", names, tasks="speculation", samples=24, questions=1)
    held = {m.technique: show_percent(m.stored / m.baseline, 1) for m in done.outcome.memories}
    rows += [f"| {name} | {held[name]} | {score(done.outcome, name, 'unseen')} |" for name in names]
    put(ROOT / "docs" / "compress.md", "speculation", "\n".join(rows) + "\n")


def main(only: str = "") -> None:
    """Measure, and write the tables and the chart."""
    torch.set_num_threads(1)
    if only:
        {"chart": picture, "healing": healing, "speculation": speculation}[only]()
        return
    found = []
    for model in MODELS:
        done = kvplan.evaluate(
            model, TECHNIQUES, tasks="multihop", question="both" if model == "recall" else "unseen", samples=24,
            questions=8, batch=8,
            progress=lambda share, what, model=model: print(f"{model}: {share:4.0%} {what}", flush=True),
        )  # fmt: skip
        found.append(done.outcome)
    put(ROOT / "docs" / "compress.md", "recall", table(found))
    picture()
    healing()
    speculation()


def table(found: list) -> str:
    """Return a row a technique: bytes, then chains found by each seed, the question unseen; seen by the first."""
    rows = [
        "| technique | cache held | seed 0 | seed 1 | seed 2 | question seen, seed 0 |",
        "|---|---|---|---|---|---|",
    ]
    held = {m.technique: m.stored / m.baseline for m in found[0].memories}
    for name in held:
        unseen = [score(outcome, name, "unseen") for outcome in found]
        rows.append(
            f"| {name} | {show_percent(held[name], 1)} | {' | '.join(unseen)} | {score(found[0], name, 'seen')} |"
        )
    return "\n".join(rows) + "\n"


def score(outcome, technique: str, protocol: str) -> str:
    """Return a score with its interval."""
    (s,) = (s for s in outcome.scores if (s.technique, s.protocol) == (technique, protocol))
    return f"{figure(s.task, s.value.mean)} ({figure(s.task, s.value.low)} to {figure(s.task, s.value.high)})"


def put(page: Path, mark: str, text: str) -> None:
    """Write a text between its marks."""
    before = page.read_text("utf-8")
    after = re.sub(
        rf"(<!-- measured: {mark} -->\n).*?(<!-- end -->)",
        lambda m: m[1] + text + m[2],
        before,
        count=1,
        flags=re.DOTALL,
    )
    if after == before and text not in before:
        raise SystemExit(f"{page.name}: has no place for {mark}")
    page.write_text(after, "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
