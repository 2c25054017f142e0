"""A model's techniques measured one after the other: memory, scores, and how far each is from the uncompressed one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor

from kvplan.compress import latents
from kvplan.compress.built import Settings
from kvplan.compress.caches import Under, planned, rotations, running, spec_bits
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
#: tasks that ask questions about a text, and tasks that compare their answers with the uncompressed model's
ASKED, COMPARED = ("needle", "multihop"), ("agreement", "divergence")


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
                    first = length not in references
                    reference = references.setdefault(length, Reference())
                    one = Measurement(loaded, asked, Reader(under, Held(), told), length, reference, first)
                    for score in one.scores():
                        outcome.scores += [score] * one.shown
                    memories = one.memories()
                    outcome.memories += [memories] * one.shown
                    done += 1
                outcome.left += _left(under)
    except KeyboardInterrupt:
        outcome.stopped = True
    return outcome


class _Told:
    """Says how far a measurement is, batch by batch."""

    def __init__(self, asked: EvaluationPlan, progress: Progress, done: int, runs: int, what: str):
        kinds = max(1, sum(task in ASKED for task in asked.tasks)) * len(asked.protocols)
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


@dataclass
class Measurement:
    """One technique measured at one length; the first at a length is the reference of the others."""

    loaded: Loaded  #: the model
    asked: EvaluationPlan  #: what is measured of it
    reader: Reader  #: of the model under the technique
    length: int  #: of texts [token]
    reference: Reference  #: of the uncompressed model
    first: bool  #: whether this is the uncompressed model

    @property
    def shown(self) -> bool:
        """Whether its figures are asked for, not only what others are compared with."""
        return not self.first or "baseline" in self.asked.techniques

    def scores(self) -> Iterator[TaskScore]:
        """Yield the score of every task under every protocol."""
        for protocol in self.asked.protocols:
            for task, values, depths in self.values(protocol):
                value = interval(values, self.asked.seed)
                value = value.exp() if task == "perplexity" else value
                if self.first:
                    self.reference.scores[task, protocol] = value.mean
                yield TaskScore(
                    technique=self.reader.under.technique, task=task, protocol=protocol, length=self.length,
                    value=value, baseline=self.reference.scores[task, protocol], by_depth=depths, samples=len(values),
                )  # fmt: skip

    def memories(self) -> Memories:
        """Return what its cache held while the tasks were asked, or holds of one more text where none filled it."""
        held = self.reader.held
        if not held.tokens:
            passage = self.loaded.language.passages("needle", self.length, 1, 1, self.asked.seed)[0]
            self.reader.read(torch.stack([passage.text]))
        if self.first:
            self.reference.stored = held.stored
        prefill, step = _by_profile(self.loaded, self.asked, self.reader.under, held)
        return Memories(
            technique=self.reader.under.technique, length=held.tokens, sequences=held.sequences, stored=held.stored,
            beside=held.beside, planned=held.planned, baseline=self.reference.stored,
            prefill=_median(held.reading), step=_median(held.step), prefill_by_profile=prefill, step_by_profile=step,
        )  # fmt: skip

    def values(self, protocol: str) -> Iterator[tuple[str, list[float], tuple[float, ...]]]:
        """Yield (task, a value for each text, values by depth)."""
        tasks = self.asked.tasks
        compared = [t for t in tasks if t in COMPARED or (t == "perplexity" and not self.asked.text)]
        answered: dict[str, list[list[Answered]]] = {}
        for task in [t for t in tasks if t in ASKED] or (["multihop"] if compared else []):
            answered[task] = self.answers(task, protocol)
            if task in tasks:
                right = [_mean([float(a.right) for a in text]) for text in answered[task]]
                yield task, right, _depths(answered[task]) if task == "needle" else ()
        if compared:
            which = "multihop" if "multihop" in answered else next(iter(answered))
            yield from (
                (task, values, ()) for task, values in self.compared(compared, which, answered[which], protocol)
            )
        if protocol == "unseen":
            yield from ((task, values, ()) for task, values in self.continuations())

    def compared(
        self, tasks: Sequence[str], which: str, answered: list[list[Answered]], protocol: str
    ) -> Iterator[tuple[str, list[float]]]:
        """Yield (task, a value for each text) of tasks that set answers beside the uncompressed model's."""
        whole = self.reference.answers[which, protocol]
        pairs = [[*zip(a, b, strict=True)] for a, b in zip(answered, whole, strict=True)]
        for task in tasks:
            yield task, [_mean([_near(task, a, b) for a, b in text]) for text in pairs]

    def answers(self, task: str, protocol: str) -> list[list[Answered]]:
        """Return the answers to every text's questions."""
        asked = self.asked
        passages = self.loaded.language.passages(task, self.length, asked.samples, asked.questions, asked.seed)
        answers = [a for part in batches(passages, asked.batch) for a in self.reader.ask(part, protocol)]
        if self.first:
            self.reference.answers[task, protocol] = answers
        return answers

    def continuations(self) -> Iterator[tuple[str, list[float]]]:
        """Yield (task, a value for each text) of tasks that go on with a text instead of asking about it."""
        if "perplexity" in self.asked.tasks and self.asked.text:
            yield "perplexity", self.surprises()
        if "speculation" in self.asked.tasks:
            yield "speculation", [speculated(self.reader.under, p, CONTINUED).acceptance for p in self.prompts()]
        if "copy" in self.asked.tasks:
            written = [self.reader.continued(p[None], CONTINUED)[0].tolist() for p in self.prompts()]
            if self.first:
                self.reference.texts = written
            yield "copy", [overlap(a, b) for a, b in zip(written, self.reference.texts, strict=True)]

    def prompts(self) -> list[Tensor]:
        """Return texts with a question each. [token]"""
        asked = self.asked
        passages = self.loaded.language.passages("needle", self.length, asked.samples, asked.questions, asked.seed)
        return [torch.cat([p.text, p.questions[0].asked]) for p in passages]

    def surprises(self) -> list[float]:
        """Return the surprise of what follows each stretch of a running text, token by token. [nat]"""
        if not isinstance(self.loaded.language, Sentences):
            raise SpecError("text: the shipped model reads no text; leave text out, or name a model with a tokenizer")
        found = []
        for stretch in self.loaded.language.running(self.asked.text, self.length + CONTINUED, self.asked.samples):
            cache = self.reader.under.cache()
            first = self.reader.feed(stretch[None, : self.length], cache)
            logits = self.reader.answers(first, stretch[None, self.length :], cache)[0]
            found.append(Answered(logits=logits, answer=stretch[self.length :], depth=1.0).surprise)
        return found


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


def _near(task: str, compressed: Answered, whole: Answered) -> float:
    """Return an answer's agreement, divergence, or surprise (of which the mean becomes the perplexity)."""
    if task == "agreement":
        return compressed.agrees(whole)
    if task == "divergence":
        return compressed.divergence(whole)
    return compressed.surprise


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
