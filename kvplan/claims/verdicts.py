"""What became of a claim, in values and in words: the verdict, the cases it is about, and its arithmetic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, prod

from kvplan.claims.checks import Answer
from kvplan.claims.figures import Figure, show
from kvplan.claims.labels import field_phrase
from kvplan.specs.claims import Claim, ClaimCase
from kvplan.specs.source import Source
from kvplan.units import show_count

HOLDS, IN_PART, WITHIN = "holds", "holds in part", "within our error"
FAILS, OPEN = "does not hold", "cannot be checked"
VERDICTS = (HOLDS, IN_PART, WITHIN, FAILS, OPEN)
#: phrases, and figures of other cases, that a line lists
MOST = 4
#: reasons that a line lists
MOST_REASONS = 2
#: checks of a cost, which GPUs with little to do could explain
COSTS = ("query_cost", "token_cost")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case after it was judged."""

    case: ClaimCase | None  #: None for an arithmetic check
    label: str  #: what tells it from the others
    answer: Answer  #: kvplan's figure
    status: str  #: yes, within (the error of kvplan's figure), no, or open


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one claim."""

    claim: Claim  #: the claim
    verdict: str  #: one of VERDICTS
    figure: Figure | None  #: what is claimed, None for a claim that cannot be checked
    outcomes: tuple[Outcome, ...]  #: of its cases
    tolerance: float  #: how far an answer may be from the figure, as Check.tolerance
    unit: str  #: of the figure, '' for a claim that cannot be checked

    def of_status(self, *statuses: str) -> list[Outcome]:
        """Return the outcomes of some statuses."""
        return [o for o in self.outcomes if o.status in statuses]

    @property
    def condition(self) -> str:
        """The cases that agree, as in 'for llama2-7b at 8k or 32k tokens'; '' where all or none do."""
        return _condition(self, "yes")

    @property
    def sentence(self) -> str:
        """The verdict with the cases it is about."""
        near = _condition(self, "within")
        if self.verdict == IN_PART:
            return f"holds only {self.condition}" + (f". Within our error {near}" if near else "")
        return f"{self.verdict} {near}".strip() if self.verdict == WITHIN else self.verdict

    @property
    def brief(self) -> str:
        """The arithmetic of the case nearest to the claim, or else why nothing is known."""
        if self.figure is None:
            return f"would need {self.claim.needs}"
        return "; ".join([*_lead_lines(self), *_implied_load(self)] or _reasons(self))

    @property
    def arithmetic(self) -> str:
        """The arithmetic in one line: the nearest case, the others' figures, what is not known, remarks."""
        if self.figure is None:
            return self.brief
        notes = [self.claim.note] if self.claim.note else []
        remarks = dict.fromkeys(remark for o in self.outcomes for remark in o.answer.remarks)
        parts = (*_lead_lines(self), *_others(self), *_reasons(self), *remarks, *_implied_load(self), *notes)
        return "; ".join((*parts, *_short_models(self.claim)))

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the arithmetic rests on."""
        return tuple(dict.fromkeys(s for o in self.outcomes for s in o.answer.sources))


# -- for which cases --------------------------------------------------------------------------------


def _condition(v: Verdict, status: str) -> str:
    """Return which cases have a status; '' for none and for all."""
    chosen = v.of_status(status)
    return _phrase(v.claim, chosen, v.outcomes) if 0 < len(chosen) < len(v.outcomes) else ""


def _phrase(claim: Claim, chosen: Sequence[Outcome], outcomes: Sequence[Outcome]) -> str:
    """Return some of a claim's cases in words, by field where it can be said so, else one by one."""
    if any(o.answer.extra or o.case is None for o in outcomes):
        parts = [f"for {label}" for label in dict.fromkeys(o.label for o in chosen)]
    else:
        fields = claim.varied
        some, everything = (
            list(dict.fromkeys(tuple(o.case.words[f] for f in fields) for o in group if o.case))
            for group in (chosen, outcomes)
        )
        parts = _phrases(fields, some, everything)
    rest = f", or {len(parts) - MOST} more cases" if len(parts) > MOST else ""
    return "; ".join(parts[:MOST]) + rest


Cases = Sequence[tuple[str, ...]]


def _phrases(fields: Sequence[str], chosen: Cases, everything: Cases) -> list[str]:
    """Return cases in as few phrases as fields can tell them apart in."""
    columns = [list(dict.fromkeys(case[i] for case in chosen)) for i in range(len(fields))]
    if len(chosen) == prod(len(c) for c in columns):
        varied = [i for i in range(len(fields)) if len({case[i] for case in everything}) > len(columns[i])]
        return [" ".join(field_phrase(fields[i], columns[i]) for i in varied)]
    best: list[str] = []
    for i, field in enumerate(fields):
        rest = (*fields[:i], *fields[i + 1 :])
        groups: dict[tuple[str, ...], list[str]] = {}
        for value in columns[i]:
            some, of = ([(*c[:i], *c[i + 1 :]) for c in cases if c[i] == value] for cases in (chosen, everything))
            groups.setdefault(tuple(_phrases(rest, some, of)), []).append(value)
        parts = [f"{field_phrase(field, values)} {p}".strip() for phrases, values in groups.items() for p in phrases]
        best = parts if not best or len(parts) < len(best) else best
    return best


# -- arithmetic -------------------------------------------------------------------------------------


def _leads(v: Verdict) -> list[Outcome]:
    """Return the case nearest to the claimed figure of each reading of its cost, the nearest of all first."""
    figure = v.figure
    if figure is None:
        return []
    known = [o for o in v.outcomes if o.answer.value is not None]
    leads: dict[str, Outcome] = {}
    for o in sorted(known, key=lambda o: figure.distance(o.answer.value or 0.0)):
        leads.setdefault(o.case.per if o.case else "", o)
    return list(leads.values())


def _lead_lines(v: Verdict) -> list[str]:
    """Return the line of the nearest case behind its label, unless it begins with it already, and other readings."""
    if not (leads := _leads(v)):
        return []
    first = leads[0]
    extra = leads[0].answer.extra
    name = first.label.removesuffix(extra).rstrip(", ") if extra else first.label
    line = f"{name}: {first.answer.line}" if name else first.answer.line
    return [line, *(f"read otherwise, {_named(o, v.unit)}" for o in leads[1:])]


def _named(o: Outcome, unit: str) -> str:
    """Return a case's figure behind its label."""
    return f"{o.label} {show(inf if o.answer.value is None else o.answer.value, unit)}".strip()


def _others(v: Verdict) -> list[str]:
    """Return the figures of the other cases, of many the extremes."""
    leads = _leads(v)
    others = [o for o in v.outcomes if o not in leads and o.answer.value is not None]
    if len(others) <= MOST:
        return ["; ".join(_named(o, v.unit) for o in others)] if others else []
    low, high = (extreme(others, key=lambda o: o.answer.value or 0.0) for extreme in (min, max))
    return [f"{len(others)} other cases: {_named(low, v.unit)} ... {_named(high, v.unit)}"]


def _reasons(v: Verdict) -> list[str]:
    """Return why cases are not known, each reason behind its cases."""
    groups: dict[str, list[Outcome]] = {}
    for o in v.outcomes:
        if o.answer.value is None:
            groups.setdefault(o.answer.reason, []).append(o)
    lines = []
    for reason, cases in list(groups.items())[:MOST_REASONS]:
        name = _phrase(v.claim, cases, v.outcomes) if len(cases) < len(v.outcomes) else ""
        lines.append(f"{name}: {reason}" if name and not reason.startswith(name.split(maxsplit=1)[-1]) else reason)
    left = len(groups) - MOST_REASONS
    return [*lines, f"{show_count(left, 'more reason')} in the JSON"] if left > 0 else lines


def _implied_load(v: Verdict) -> list[str]:
    """Return how busy the GPUs would have to be for a cost that is claimed above kvplan's, as the lead is read."""
    lead = next(iter(_leads(v)), None)
    figure = v.figure
    if v.verdict != FAILS or v.claim.check not in COSTS or not lead or not lead.case or not figure:
        return []
    reading = (lead.case.per, lead.case.prefix_cache)
    busy = [
        o.answer.value
        for o in v.outcomes
        if o.case and o.case.load == 1 and o.answer.value and (o.case.per, o.case.prefix_cache) == reading
    ]
    shares = sorted(value / figure.low for value in busy) if 0 < figure.low < inf else []
    if not shares or shares[-1] >= 1:
        return []
    least, most = (show(round(x, 2), "share") for x in (shares[0], shares[-1]))
    return [f"{v.claim.claimed} would mean GPUs busy {least if least == most else f'{least} to {most}'} of the time"]


def _short_models(claim: Claim) -> list[str]:
    """Return what to know of a context that none of a claim's models has."""
    remarks = beyond([claim])
    return list(remarks.values()) if set(remarks) == {c.model.name for c in claim.cases if c.model} else []


def beyond(claims: Iterable[Claim]) -> dict[str, str]:
    """Return, by model, what to know of a context beyond the model's own."""
    remarks = {}
    for case in (case for claim in claims for case in claim.cases):
        m = case.model
        if m is not None and m.max_context and case.context and case.context > m.max_context:
            remarks[m.name] = f"{m.title} supports {m.max_context:,} tokens"
    return remarks
