"""What techniques and weight formats lose of a workload's tasks, and which formats are searched for a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvplan import catalog
from kvplan.kv.replica import native_formats
from kvplan.quality.loss import quality
from kvplan.quality.results import Quality
from kvplan.quality.weights import FREE, weight_loss
from kvplan.specs.model import ModelSpec
from kvplan.specs.quality import TASKS, QualityTable
from kvplan.specs.workload import Workload
from kvplan.units import show_percent


def loss_of(
    technique: str, model: ModelSpec, workload: Workload, context: int, own: Sequence[QualityTable] = ()
) -> Quality:
    """Return what one technique loses of a workload's tasks in sequences of `context` tokens; `own` scores go first."""
    return quality(
        technique,
        model,
        workload.task,
        context,
        catalog.quality_table(),
        *own,
        seen=workload.question_seen,
        answer=int(workload.output.mean),
    )


def losses_of(
    names: Iterable[str], model: ModelSpec, workload: Workload, context: int, own: Sequence[QualityTable] = ()
) -> dict[str, Quality]:
    """Return technique -> what it loses, as `loss_of` has it; each technique once."""
    return {name: loss_of(name, model, workload, context, own) for name in dict.fromkeys(names)}


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Weight formats to search, what each loses, and why others are left out."""

    searched: tuple[str | None, ...]  #: None for the checkpoint's own
    losses: dict[str | None, Quality]  #: format -> the quality it loses
    left: dict[str, str]  #: format -> why it is left out


def formats_of(
    model: ModelSpec, task: str, context: int, named: Sequence[str], own: Sequence[QualityTable] = ()
) -> Formats:
    """Return the formats asked for, else the checkpoint's and those it can be converted to at next to no loss."""

    def loss(form: str | None) -> Quality:
        return weight_loss(form, model, task, context, catalog.quality_table(), *own)

    if named:
        forms: tuple[str | None, ...] = tuple(dict.fromkeys(named))
        return Formats(searched=forms, losses={form: loss(form) for form in forms}, left={})
    losses = {form: loss(form) for form in (None, *native_formats(model))}
    left = {form: why for form, quality in losses.items() if form and (why := too_lossy(form, quality))}
    return Formats(searched=tuple(form for form in losses if form not in left), losses=losses, left=left)


def too_lossy(form: str, loss: Quality) -> str:
    """Return why a weight format is not searched unasked, '' where it may be."""
    if loss.drop is None:
        return f"their quality loss is not known ({loss.basis}); use weights={form} to plan with them"
    if loss.drop > FREE:
        return (
            f"they lose {show_percent(loss.drop, 1)} on {TASKS[loss.task].title}; use weights={form} to plan with them"
        )
    return ""
