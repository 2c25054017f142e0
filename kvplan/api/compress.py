"""Latents of a model's keys and values, learned and written beside it."""

from dataclasses import dataclass
from re import fullmatch
from typing import Any

from kvplan.api import values
from kvplan.api.evaluate import DTYPES, Progress, hugging_face
from kvplan.catalog.checkpoints.weights import write_latents
from kvplan.errors import KvplanError, SpecError
from kvplan.kv import spelling
from kvplan.specs.model import ModelSpec

#: what latents are learned from
FROM = ("texts", "weights")
#: more steps of healing than a sitting has, and texts they go over
MOST_STEPS, TEXTS_HEALED = 100_000, 64
#: size of latents until their own is known; it says which heads share one
UNTIL = "2x"


@dataclass(frozen=True, kw_only=True)
class LayerHeld:
    """What the latents of one layer hold."""

    layer: int  #: position in the model, from 0
    groups: int  #: of heads, each with latents of its own
    key_rank: int  #: elements of a latent of keys
    value_rank: int  #: elements of a latent of values
    keys: float  #: share of the variance of keys that is held, of 1
    values: float  #: of values, of 1


@dataclass(frozen=True, kw_only=True)
class LatentsWritten:
    """Latents as they were written."""

    model: ModelSpec  #: whose they are
    technique: str  #: in its one spelling
    learned_from: str  #: of FROM
    layers: tuple[LayerHeld, ...]  #: that store latents
    energy: float | None  #: share of the variance that their size was chosen for, of 1; None: the size was named
    healed: int  #: steps of distillation
    output: str  #: the file
    bytes: int  #: its size [B]


def compress(
    model: str,
    technique: str,
    output: str,
    *,
    learn_from: str = "texts",
    energy: float | str | None = None,
    heal: int = 0,
    dtype: str | None = None,
    seed: int = 0,
    progress: Progress = lambda _share, _what: None,
) -> LatentsWritten:
    """Learn the latents that a technique stores, and write them into the folder `output` as safetensors.

    `model` is a folder with weights, or recall, the small model that is shipped. `learn_from` is texts (calibration
    texts drawn by `seed`, read by the model) or weights (singular vectors of its projections). With `energy` (95%) they
    are as narrow as lets every layer hold that share of its variance: the technique is mhc, or mhc:gN, without a size.
    `heal` steps of distillation train them afterwards. Raises KvplanError for values that cannot be understood, and
    where torch or transformers are missing.

        >>> from kvplan.api.compress import compress
        >>> compress("recall", "mhc:2x", "latents").layers[0].key_rank  # doctest: +SKIP
        32
    """
    share = values.given(values.share, energy, "energy")
    if share is not None and not share:
        raise SpecError(f"energy: expected the share of the variance that is kept, above 0%, as in 95%; got {energy!r}")
    evaluation, models = hugging_face()
    name = spelling.canonical(sized(values.word(technique, "technique"), share))
    if "mhc" not in {kind.name for kind, _ in spelling.parts(name)}:
        raise SpecError(f"technique: {name} stores nothing that is learned; write mhc:4x, or run kvplan evaluate")
    chosen = values.one_of(learn_from, "learn_from", FROM)
    loaded = models.load(values.word(model, "model"), values.given(values.one_of, dtype, "dtype", DTYPES))
    steps = values.count(heal, "heal", 0, MOST_STEPS)
    with models.threads(loaded.model):
        learned = learned_by(evaluation, loaded, name, chosen, values.count(seed, "seed", 0, 2**31), share)
        if not learned.latents:
            raise KvplanError(f"{name}: no layer of {loaded.spec.title} stores latents")
        if steps:
            from kvplan.compress.healing import healed

            learned = healed(loaded, learned, [*evaluation.calibration(loaded, seed, TEXTS_HEALED)], steps, progress)
    from kvplan.compress.storing import saved

    content = saved(learned, loaded)
    file = write_latents(values.word(output, "output"), content)
    return LatentsWritten(
        model=loaded.spec,
        technique=learned.technique,
        learned_from=chosen,
        energy=share,
        layers=layers_held(learned),
        healed=steps,
        output=file,
        bytes=len(content),
    )


def sized(technique: str, energy: float | None) -> str:
    """Return a technique with a size that serves until its own is known, where `energy` is to choose it."""
    if energy is None:
        return technique
    options = technique.removeprefix("mhc")
    if not technique.startswith("mhc") or not fullmatch(r"(:g\d+|:joint|:fused|:reconstruct)*", options):
        raise SpecError(f"technique: energy chooses the size; write mhc or mhc:g4 in place of {technique}")
    return f"mhc:{UNTIL}{options}"


def learned_by(evaluation: Any, loaded: Any, technique: str, how: str, seed: int, energy: float | None) -> Any:
    """Return latents learned from weights or texts, of the size named or as narrow as holds a share of the variance."""
    from kvplan.compress import latents

    if how == "weights":
        sums = latents.sums_of_weights(loaded.model, loaded.spec, technique)
    else:
        sums = latents.sums_of_texts(loaded.model, loaded.spec, technique, evaluation.calibration(loaded, seed))
    if energy is None:
        return latents.learned(technique, sums)
    options = technique.removeprefix("mhc").removeprefix(f":{UNTIL}")
    return latents.by_energy(loaded.model, loaded.spec, options, energy, sums)


def layers_held(learned: Any) -> tuple[LayerHeld, ...]:
    """Return what the latents of each layer hold."""
    from kvplan.compress.latents import shape_of

    rows = []
    for place, pair in sorted(learned.latents.items()):
        shape = shape_of(pair)
        keys, held_values = learned.held[place]
        rows.append(
            LayerHeld(
                layer=place, groups=shape.groups, key_rank=shape.key_rank, value_rank=shape.value_rank, keys=keys,
                values=held_values,
            )
        )  # fmt: skip
    return tuple(rows)
