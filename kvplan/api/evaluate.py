"""A real model under techniques: bytes held and answers kept, and the file of its scores that recommend reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from kvplan.api import values
from kvplan.catalog.checkpoints.weights import running_text
from kvplan.catalog.rows.samples import measured_profile
from kvplan.catalog.rows.tables import write_profile
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.quality.scores import attention
from kvplan.specs.model import ModelSpec
from kvplan.specs.result import Result

if TYPE_CHECKING:
    from kvplan.compress.evaluation import EvaluationPlan, Findings, TaskScore
    from kvplan.compress.models import Loaded

COMMENT = "Measured by `kvplan evaluate`: scores under compression of the model's own cache; docs/compress.md."
#: what is measured unless asked otherwise
TASKS = ("needle", "multihop")
TECHNIQUES = ("h2o:20%", "mhc:4x", "fp8", "int4")
#: task -> the planner's family of tasks it speaks for; the others are distances, which no plan is made of
FAMILIES = {"needle": "retrieval", "multihop": "qa-multi", "copy": "summarisation"}
#: whether the question is known before the cache is compressed
QUESTIONS = ("unseen", "seen", "both")
POSITIONS = {"cache": True, "text": False}
DTYPES = ("float32", "bfloat16", "float16")
#: more texts, questions and tokens than a sitting has
MOST_TEXTS, MOST_ASKED = 10_000, 64
Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Evaluated(Result, of="evaluate"):
    """What was measured of a model, and where its scores were written."""

    model: ModelSpec  #: as the planner reads it
    asked: "EvaluationPlan"  #: what was measured
    outcome: "Findings"  #: scores, bytes and refusals
    output: str | None  #: the file of the scores, None where none was written
    unwritten: str  #: why none was written though one was asked for, '' otherwise
    command: str  #: what measured it


def evaluate(
    model: str,
    techniques: str | Iterable[str] = TECHNIQUES,
    *,
    tasks: str | Iterable[str] = TASKS,
    lengths: int | str | Iterable[int | str] = 480,
    question: str = "unseen",
    samples: int = 24,
    questions: int = 4,
    batch: int = 1,
    positions: str | None = None,
    latents: str | None = None,
    text: str | None = None,
    dtype: str | None = None,
    profile: str | None = None,
    seed: int = 0,
    output: str | None = None,
    progress: Progress = lambda _share, _what: None,
) -> Evaluated:
    """Run a model under techniques and measure tasks at texts of some lengths [token]; return scores and bytes.

    `model` is a folder with weights, or recall, the small model that is shipped. `question` is unseen (the text is
    compressed before it is asked), seen or both; `samples` texts with `questions` each, `batch` texts read together;
    `positions` of StreamingLLM are those inside the cache or of the text; `latents` is a folder that compress wrote;
    `text` is a file perplexity is measured on; `dtype` of the weights is the file's own; `profile` is what kvplan
    profile wrote of this CPU, whose times are set beside those measured; `output` is where the scores
    go for recommend to read. An interruption keeps what is done. Raises KvplanError for values that cannot be
    understood, and where torch or transformers are missing.

        >>> kvplan.evaluate("recall", "h2o:50%", samples=2, questions=2).outcome.memories[0].technique
        'baseline'
    """
    progress = values.called(progress, "progress")
    output = values.given(values.word, output, "output")
    evaluation, models = hugging_face()
    from kvplan.compress.tasks import TASKS as KNOWN

    names = techniques_of(techniques)
    asked = evaluation.EvaluationPlan(
        techniques=("baseline", *(n for n in names if n != "baseline")),
        tasks=tuple(values.one_of(t, "tasks", KNOWN) for t in listed(tasks, "tasks")),
        lengths=tuple(values.tokens(n, "lengths") for n in lengths_of(lengths)),
        protocols=protocols_of(question),
        samples=values.count(samples, "samples", 2, MOST_TEXTS),
        questions=values.count(questions, "questions", 1, MOST_ASKED),
        batch=values.count(batch, "batch", 1, MOST_ASKED),
        seed=values.count(seed, "seed", 0, 2**31),
        text="" if text is None else running_text(values.word(text, "text")),
        operators=None if profile is None else operators_of(values.word(profile, "profile")),
        inside=None if positions is None else POSITIONS[values.one_of(positions, "positions", POSITIONS)],
    )
    loaded = models.load(values.word(model, "model"), values.given(values.one_of, dtype, "dtype", DTYPES))
    check_lengths(asked.lengths, loaded.spec)
    asked = with_latents(asked, loaded, latents)
    with models.threads(loaded.model):
        outcome = evaluation.evaluate(loaded, asked, progress)
    if not outcome.scores and outcome.refused and not outcome.stopped:
        raise KvplanError("; ".join(why for _, why in outcome.refused))
    command = f"kvplan evaluate of {loaded.spec.name}, seed {seed}"
    speaks = any(is_for_plans(s) for s in outcome.scores)
    if output is not None and speaks:
        write_profile(output, quality_document(loaded.spec, asked, outcome, command), COMMENT)
    return Evaluated(
        model=loaded.spec, asked=asked, outcome=outcome, output=output if speaks else None,
        unwritten=why_unwritten(outcome) if output is not None and not speaks else "", command=command,
    )  # fmt: skip


def operators_of(word: str) -> Any:
    """Return the groups of operators of a CPU's profile; raise SpecError where it is none."""
    profile = measured_profile(word)
    if profile is None or profile[0].get("device", {}).get("kind") != "cpu":
        raise SpecError(
            f"profile: {word}: is no profile of a CPU; kvplan profile with device=cpu writes one of this machine"
        )
    return profile[0]["groups"]


def hugging_face() -> tuple[Any, Any]:
    """Return the modules that run models, where torch and transformers are installed."""
    try:
        from kvplan.compress import evaluation, models
    except ImportError as missing:
        raise KvplanError(
            f"running real models needs torch and transformers ({missing.name} is missing): pip install 'kvplan[hf]'"
        ) from None
    return evaluation, models


def techniques_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return techniques in their one spelling, controls as they are."""
    from kvplan.kv import spelling

    read = []
    for name in values.several(given, "techniques"):
        control = name.strip().lower().startswith("random:")
        known = spelling.canonical(name.strip().lower().replace("random:", "h2o:", 1) if control else name)
        read.append(known.replace("h2o:", "random:", 1) if control else known)
    return tuple(dict.fromkeys(read))


def listed(given: str | Iterable[str], name: str) -> list[str]:
    """Return names written one by one or with commas between."""
    parts = [part.strip() for word in values.several(given, name) for part in word.split(",") if part.strip()]
    if not parts:
        raise SpecError(f"{name}: expected at least one")
    return list(dict.fromkeys(parts))


def lengths_of(given: int | str | Iterable[int | str]) -> list[int | str]:
    """Return lengths written one by one or with commas between."""
    if isinstance(given, int):
        return [given]
    if not isinstance(given, Iterable):
        raise SpecError(f"lengths: expected tokens, as in 480 or '512,4k', got {shown(given)}")
    words = [given] if isinstance(given, str) else [*given]
    return [
        part.strip() if isinstance(part, str) else part
        for w in words
        for part in (w.split(",") if isinstance(w, str) else [w])
    ]


def check_lengths(lengths: tuple[int, ...], spec: ModelSpec) -> None:
    """Refuse (SpecError) texts longer than the model's context."""
    if spec.max_context and max(lengths) > spec.max_context:
        raise SpecError(
            f"lengths: {max(lengths):,} tokens are more than the {spec.max_context:,} of {spec.name}'s context; "
            "write fewer"
        )


def protocols_of(question: str) -> tuple[str, ...]:
    """Return whether the question is unseen, seen, or asked both ways."""
    which = values.one_of(question, "question", QUESTIONS)
    return ("unseen", "seen") if which == "both" else (which,)


def with_latents(asked: "EvaluationPlan", loaded: "Loaded", folder: str | None) -> "EvaluationPlan":
    """Return the question with latents that compress wrote, where a folder of them is named."""
    if folder is None:
        return asked
    from dataclasses import replace

    from kvplan.compress.storing import restored_from

    return replace(asked, learned=restored_from(values.word(folder, "latents"), loaded))


# -- the file that recommend reads ----------------------------------------------------------------


def quality_document(spec: ModelSpec, asked: "EvaluationPlan", outcome: "Findings", command: str) -> dict[str, Any]:
    """Return the scores as a quality table: rows of techniques against the uncompressed model on the same texts."""
    rows = [score_row(s, spec, asked) for s in outcome.scores if is_for_plans(s)]
    described = {"parameters": float(spec.parameters), "attention": attention(spec), "context": max(asked.lengths)}
    document: dict[str, Any] = {
        "name": f"{spec.name}-evaluated",
        "title": f"{spec.title} under techniques, measured by kvplan evaluate",
        "source": {"kind": "measured", "ref": command, "date": date.today().isoformat()},
        "models": {spec.name: described},
        "rows": rows,
    }
    return document


def is_for_plans(score: "TaskScore") -> bool:
    """Whether a score says something that a plan can be made of."""
    named = score.technique != "baseline" and not score.technique.startswith("random:")
    return named and score.task in FAMILIES and score.baseline > 0


def why_unwritten(outcome: "Findings") -> str:
    """Return why no score is one that a plan can be made of."""
    asked = [s for s in outcome.scores if s.task in FAMILIES]
    if asked and not any(s.baseline > 0 for s in asked):
        tasks = " and ".join(dict.fromkeys(s.task for s in asked))
        return f"the uncompressed model itself finds none of {tasks}, so nothing can be said of what is kept"
    return f"plans are made of {', '.join(FAMILIES)} under techniques, none of which was measured"


def score_row(score: "TaskScore", spec: ModelSpec, asked: "EvaluationPlan") -> dict[str, Any]:
    """Return a score as a row of a quality table."""
    low = score.value.low / score.baseline
    high = score.value.high / score.baseline
    return {
        "technique": score.technique,
        "task": FAMILIES[score.task],
        "context": score.length,
        "condition": f"{score.task}, question {score.protocol}, {score.samples} texts, seed {asked.seed}",
        "retained": {spec.name: round(min(2.0, score.value.mean / score.baseline), 4)},
        "spread": round(min(1.0, (high - low) / 2), 4),
        "query": score.protocol,
    }
