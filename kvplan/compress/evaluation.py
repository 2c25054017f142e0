"""A model's techniques measured one after the other: memory, scores, and how far each is from the uncompressed one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor

from kvplan.compress import latents
from kvplan.compress.caches import Settings, Under, planned, rotations, running, spec_bits
from kvplan.compress.models import Loaded
from kvplan.compress.scoring import PROTOCOLS, Answered, Held, MeanInterval, Reader, batches, interval, overlap
from kvplan.compress.speculation import speculated
from kvplan.compress.texts import Sentences
from kvplan.errors import Incompatible, SpecError
from kvplan.kv import spelling
from kvplan.measuring.passes import SIZES, ModelPass, pass_time

#: tokens that a text is continued by for `copy`, and that perplexity is measured on behind each text
CONTINUED = 32
#: calibration texts of latents, and tokens of each
CALIBRATION, CALIBRATED = 16, 512


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is measured."""

    techniques: tuple[str, ...]  #: in the order they are measured, the baseline before all
    tasks: tuple[str, ...]  #: of TASKS
    lengths: tuple[int, ...]  #: of texts [token]
    protocols: tuple[str, ...] = PROTOCOLS  #: whether the question is seen before the cache is compressed
    samples: int = 24  #: texts of each length
    questions: int = 4  #: to each text
    batch: int = 1  #: texts read together
    seed: int = 0  #: of texts, intervals and chance
    text: str = ""  #: a running text for perplexity, '' for answers of the other texts
    inside: bool | None = None  #: positions of StreamingLLM, None by the model
    learned: "latents.Learned | None" = None  #: latents made beforehand
    #: groups of operators of a profile of this CPU, whose times are set beside those measured; None: no profile
    operators: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One figure of one technique."""

    technique: str  #: in its one spelling
    task: str  #: of TASKS
    protocol: str  #: of PROTOCOLS
    length: int  #: of texts [token]
    value: MeanInterval  #: mean over texts with its interval
    baseline: float  #: of the uncompressed model on the same texts
    by_depth: tuple[float, ...] = ()  #: needles in each quarter of the text, from its beginning
    samples: int = 0  #: texts


@dataclass(frozen=True, kw_only=True)
class Memories:
    """What a technique's cache holds at one length."""

    technique: str  #: in its one spelling
    length: int  #: of texts [token]
    sequences: int  #: held together
    stored: int  #: vectors, scales and scores [B]
    beside: int  #: positions, which the planner does not reckon [B]
    planned: float  #: by the planner [B]
    baseline: int  #: the uncompressed cache of as many sequences [B]
    prefill: float  #: median time to read the texts [s]
    step: float  #: median time of a decode step [s]
    prefill_by_profile: float | None = None  #: its operators by a profile of this CPU, None without one [s]
    step_by_profile: float | None = None  #: of a decode step, likewise [s]


@dataclass
class Findings:
    """All that was measured; what was done before an interruption stays."""

    scores: list[TaskScore] = field(default_factory=list)  #: a row each
    memories: list[Memories] = field(default_factory=list)  #: of each technique and length
    refused: list[tuple[str, str]] = field(default_factory=list)  #: (technique, why)
    left: list[tuple[str, str]] = field(default_factory=list)  #: (technique, which layers it leaves as they are)
    stopped: bool = False  #: whether it was interrupted


#: told the share done and what is going on
Progress = Callable[[float, str], None]


def evaluate(loaded: Loaded, asked: EvaluationPlan, progress: Progress = lambda _share, _what: None) -> Findings:
    """Measure every technique; a KeyboardInterrupt ends it with what is done."""
    outcome, references, done = Findings(), dict[int, Reference](), 0
    outcome.refused = [(t, why) for t in asked.techniques if (why := refusal(loaded, asked, t))]
    runs = [t for t in dict.fromkeys(("baseline", *asked.techniques)) if t not in dict(outcome.refused)]
    if runs == ["baseline"] and outcome.refused:
        return outcome
    try:
        for technique in runs:
            with running(loaded.model, loaded.spec, technique, settings(loaded, asked, technique)) as under:
                for length in asked.lengths:
                    told = _Told(asked, progress, done, len(runs), f"{technique}, {length:,} tokens")
                    _measure(loaded, asked, under, length, references, outcome, told)
                    done += 1
                outcome.left += _left(under)
    except KeyboardInterrupt:
        outcome.stopped = True
    return outcome


class _Told:
    """Says how far a measurement is, batch by batch."""

    def __init__(self, asked: EvaluationPlan, progress: Progress, done: int, runs: int, what: str):
        kinds = max(1, sum(task in ("needle", "multihop") for task in asked.tasks)) * len(asked.protocols)
        self.batches, self.all = kinds * ceil(asked.samples / asked.batch), runs * len(asked.lengths)
        self.progress, self.done, self.what, self.begun = progress, done, what, 0
        progress(done / self.all, what)

    def __call__(self) -> None:
        self.progress((self.done + min(self.begun / self.batches, 1.0)) / self.all, self.what)
        self.begun += 1


def refusal(loaded: Loaded, asked: EvaluationPlan, technique: str) -> str:
    """Return why a technique cannot run on a model, '' where it can; nothing is learned for it yet."""
    try:
        unlearned = Settings(latents=None, inside=asked.inside)
        planned(loaded.model, loaded.spec, technique, unlearned, rotations(loaded.model))
    except Incompatible as why:
        return str(why)
    return ""


def settings(loaded: Loaded, asked: EvaluationPlan, technique: str) -> Settings:
    """Return what a technique needs besides its spelling: latents learned from texts of another seed."""
    if "mhc" not in {kind.name for kind, _ in spelling.parts(technique.replace("random:", "h2o:"))}:
        return Settings(inside=asked.inside, seed=asked.seed)
    learned = asked.learned
    if learned is None or not fits(learned, loaded, technique):
        learned = latents.by_texts(loaded.model, loaded.spec, technique, calibration(loaded, asked.seed))
    return Settings(latents=learned.latents, inside=asked.inside, seed=asked.seed)


def fits(learned: latents.Learned, loaded: Loaded, technique: str) -> bool:
    """Whether latents made beforehand have the shapes a technique stores."""
    wanted = latents.shapes(loaded.spec, technique, spec_bits(loaded.model))
    return {i: latents.shape_of(pair) for i, pair in learned.latents.items()} == wanted


def calibration(loaded: Loaded, seed: int, count: int = CALIBRATION) -> Iterator[Tensor]:
    """Yield texts [1, tokens] with questions and answers, none of which is asked later."""
    for passage in loaded.language.passages("multihop", CALIBRATED, count, 4, seed + 1_000_003):
        parts = [passage.text, *(t for q in passage.questions for t in (q.asked, q.answer))]
        yield torch.cat(parts)[None].to(loaded.model.device)


# -- one technique at one length ------------------------------------------------------------------


@dataclass
class Reference:
    """What the uncompressed model did at one length."""

    scores: dict[tuple[str, str], float] = field(default_factory=dict)  #: by task and protocol
    answers: dict[tuple[str, str], list[list[Answered]]] = field(default_factory=dict)  #: likewise
    texts: list[list[int]] = field(default_factory=list)  #: its own continuations
    stored: int = 0  #: bytes its cache holds [B]


def _measure(
    loaded: Loaded,
    asked: EvaluationPlan,
    under: Under,
    length: int,
    references: dict[int, Reference],
    outcome: Findings,
    told: Callable[[], object],
) -> None:
    """Measure one technique at one length; the first one is the reference of the others."""
    first = length not in references
    reference = references.setdefault(length, Reference())
    reader = Reader(under, Held(), told)
    for protocol in asked.protocols:
        for task, values, depths in _values(loaded, asked, reader, length, protocol, reference, first):
            value = interval(values, asked.seed)
            value = value.exp() if task == "perplexity" else value
            if first:
                reference.scores[task, protocol] = value.mean
            if not first or "baseline" in asked.techniques:
                outcome.scores.append(
                    TaskScore(
                        technique=under.technique, task=task, protocol=protocol, length=length, value=value,
                        baseline=reference.scores[task, protocol], by_depth=depths, samples=len(values),
                    )
                )  # fmt: skip
    held = reader.held
    if not held.tokens:
        reader.read(torch.stack([loaded.language.passages("needle", length, 1, 1, asked.seed)[0].text]))
    if first:
        reference.stored = held.stored
    if not first or "baseline" in asked.techniques:
        by_profile = _by_profile(loaded, asked, under, held)
        outcome.memories.append(
            Memories(
                technique=under.technique, length=held.tokens, sequences=held.sequences, stored=held.stored,
                beside=held.beside, planned=held.planned, baseline=reference.stored,
                prefill=_median(held.reading), step=_median(held.step), prefill_by_profile=by_profile[0],
                step_by_profile=by_profile[1],
            )
        )  # fmt: skip


def _by_profile(loaded: Loaded, asked: EvaluationPlan, under: Under, held: Held) -> tuple[float | None, float | None]:
    """Return what a profile's operators take for reading the texts, and for a decode step behind them. [s]"""
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    if asked.operators is None or dtype not in SIZES or loaded.model.device.type != "cpu":
        return None, None
    prompt = ModelPass(batch=held.sequences, tokens=held.tokens, length=held.tokens)
    step = ModelPass(batch=held.sequences, tokens=1, length=held.tokens + 1)
    layouts = (under.before, prompt), (under.layout.with_prompt(held.tokens), step)
    times = [pass_time(asked.operators, loaded.spec, layout, dtype, one) for layout, one in layouts]
    return times[0], times[1]


def _median(times: Sequence[float]) -> float:
    return sorted(times)[len(times) // 2] if times else 0.0


def _values(
    loaded: Loaded, asked: EvaluationPlan, reader: Reader, length: int, protocol: str, reference: Reference, first: bool
) -> Iterator[tuple[str, list[float], tuple[float, ...]]]:
    """Yield (task, a value for each text, values by depth)."""
    answered: dict[str, list[list[Answered]]] = {}
    chosen = [t for t in asked.tasks if t in ("needle", "multihop")]
    near = [t for t in asked.tasks if t in ("agreement", "divergence") or (t == "perplexity" and not asked.text)]
    for task in chosen or (["multihop"] if near else []):
        passages = loaded.language.passages(task, length, asked.samples, asked.questions, asked.seed)
        answered[task] = [a for part in batches(passages, asked.batch) for a in reader.ask(part, protocol)]
        if first:
            reference.answers[task, protocol] = answered[task]
        if task in asked.tasks:
            right = [_mean([float(a.right) for a in text]) for text in answered[task]]
            yield task, right, _depths(answered[task]) if task == "needle" else ()
    which = "multihop" if "multihop" in answered else next(iter(answered), "")
    for task in near:
        whole = reference.answers[which, protocol]
        pairs = [[*zip(a, b, strict=True)] for a, b in zip(answered[which], whole, strict=True)]
        yield task, [_mean([_near(task, a, b) for a, b in text]) for text in pairs], ()
    if "perplexity" in asked.tasks and asked.text and protocol == "unseen":
        yield "perplexity", _running(loaded, asked, reader, length), ()
    if "speculation" in asked.tasks and protocol == "unseen":
        passages = loaded.language.passages("needle", length, asked.samples, asked.questions, asked.seed)
        prompts = [torch.cat([p.text, p.questions[0].asked]) for p in passages]
        yield "speculation", [speculated(reader.under, p, CONTINUED).acceptance for p in prompts], ()
    if "copy" in asked.tasks and protocol == "unseen":
        passages = loaded.language.passages("needle", length, asked.samples, asked.questions, asked.seed)
        texts = [torch.cat([p.text, p.questions[0].asked])[None] for p in passages]
        written = [reader.continued(t, CONTINUED)[0].tolist() for t in texts]
        if first:
            reference.texts = written
        yield "copy", [overlap(a, b) for a, b in zip(written, reference.texts, strict=True)], ()


def _near(task: str, compressed: Answered, whole: Answered) -> float:
    """Return an answer's agreement, divergence, or surprise (of which the mean becomes the perplexity)."""
    if task == "agreement":
        return compressed.agrees(whole)
    if task == "divergence":
        return compressed.divergence(whole)
    return compressed.surprise


def _running(loaded: Loaded, asked: EvaluationPlan, reader: Reader, length: int) -> list[float]:
    """Return the surprise of what follows each stretch of a running text, token by token. [nat]"""
    if not isinstance(loaded.language, Sentences):
        raise SpecError("text: the shipped model reads no text; leave text out, or name a model with a tokenizer")
    operators = []
    for stretch in loaded.language.running(asked.text, length + CONTINUED, asked.samples):
        cache = reader.under.cache()
        first = reader.feed(stretch[None, :length], cache)
        logits = reader.answers(first, stretch[None, length:], cache)[0]
        operators.append(Answered(logits=logits, answer=stretch[length:], depth=1.0).surprise)
    return operators


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _depths(answered: Sequence[Sequence[Answered]]) -> tuple[float, ...]:
    """Return the share of needles found in each quarter of the text."""
    quarters: list[list[float]] = [[], [], [], []]
    for text in answered:
        for a in text:
            quarters[min(3, int(a.depth * 4))].append(float(a.right))
    return tuple(_mean(q) if q else float("nan") for q in quarters)


def _left(under: Under) -> list[tuple[str, str]]:
    """Return which layers a technique leaves, and why, in words."""
    reasons: dict[str, list[int]] = {}
    for place, why in under.left.items():
        reasons.setdefault(why, []).append(place)
    return [(under.technique, f"layers {', '.join(map(str, places))}: {why}") for why, places in reasons.items()]
