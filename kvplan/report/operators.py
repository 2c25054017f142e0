"""Where the time of a step goes, operator by operator, as a table and as JSON."""

from kvplan.perf.step_parts import Step, StepPart, parts
from kvplan.planning.evaluation import Evaluation
from kvplan.report.blocks import Column, Json, Table, records, table
from kvplan.specs.calibration import Calibration
from kvplan.units import show_bytes, show_percent, show_rate, show_time

#: operators below this share of a step are left out of its table
TRIFLE = 0.0005


def moved(p: StepPart) -> str:
    """Return the bytes an operator moves, a message's where it is one."""
    o = p.operator
    return "" if o is None else show_bytes(o.message or o.bytes)


def worked(p: StepPart) -> str:
    """Return the FLOP of an operator, '' for a message."""
    o = p.operator
    return "" if o is None or o.message else show_rate(o.flops, "FLOP")


def at_limit(p: StepPart) -> str:
    """Return the share of an operator's time that it spends at its limit."""
    return "" if p.of_limit is None else show_percent(p.of_limit)


COLUMNS = (
    Column[StepPart](key="name", heading="operator", value=lambda p: p.name, align="left"),
    Column[StepPart](heading="bytes / GPU", value=lambda p: p.operator, cell=moved),
    Column[StepPart](heading="FLOP / GPU", value=lambda p: p.operator, cell=worked),
    Column[StepPart](key="seconds", heading="time", value=lambda p: p.seconds, show=show_time),
    Column[StepPart](key="share", heading="share", value=lambda p: p.share, show=show_percent),
    Column[StepPart](heading="bound by", value=lambda p: p.limit, align="left"),
    Column[StepPart](heading="of limit", value=lambda p: p.of_limit, cell=at_limit),
    Column[StepPart](key="bytes", value=lambda p: p.operator.bytes if p.operator else 0.0),
    Column[StepPart](key="flops", value=lambda p: p.operator.flops if p.operator else 0.0),
)
#: what only operators have
OPERATOR = (
    Column[StepPart](key="bound", value=lambda p: p.limit),
    Column[StepPart](key="of_limit", value=lambda p: p.of_limit),
    Column[StepPart](key="messages", value=lambda p: p.operator.messages if p.operator else 0),
    Column[StepPart](key="message_bytes", value=lambda p: p.operator.message if p.operator else 0.0),
)


def step_table(title: str, step: Step) -> Table:
    """Return operator by operator: time, share, what binds it, and how much of its time is at that limit."""
    rows = parts(step)
    whole = sum(p.seconds for p in rows)
    shown = [p for p in rows if p.share >= TRIFLE or p.operator is None]
    return table(title, COLUMNS, shown, total=("total", "", "", show_time(whole), show_percent(1.0), "", ""))


def steps_of(row: Evaluation, c: Calibration) -> tuple[Step, Step]:
    """Return a replica's decode step and the part of a prompt that one pass reads."""
    return (
        Step(operators=row.decode, calibration=c, sequences=row.each, prompts=False),
        Step(operators=row.prefill, calibration=c, sequences=0.0, prompts=True),
    )


def documents(step: Step) -> list[Json]:
    """Return the parts of a step as JSON objects."""
    rows = parts(step)
    return [*records((*COLUMNS, *OPERATOR), rows[:-1]), *records(COLUMNS, rows[-1:])]
