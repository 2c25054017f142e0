"""`kvplan audit`: from a claim to a verdict. It is computed from figures every time, and never written down."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, prod

from kvplan.claims.checks import CHECKS, Bench, Check, Measured, combined, show, tried
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.kv import spelling
from kvplan.specs.claims import Claim, ClaimCase, Claims
from kvplan.specs.source import Source
from kvplan.units import parse, parse_tokens

HOLDS, SOMETIMES, FAILS, OPEN = "holds", "holds if", "does not hold", "cannot be checked"
VERDICTS = (HOLDS, SOMETIMES, FAILS, OPEN)
#: checks that work on no case: figures of the claim's own, and none at all
ARITHMETIC, QUOTE = "arithmetic", "quote"
#: words before a figure -> (whether it bounds from below, whether the figure itself is in)
BOUNDS = {
    "at least": (True, True),
    "up to": (True, True),
    "over": (True, False),
    "more than": (True, False),
    "above": (True, False),
    "at most": (False, True),
    "under": (False, False),
    "less than": (False, False),
    "below": (False, False),
}
_BOUND = re.compile(rf"({'|'.join(BOUNDS)})\s+(.*)")
#: an example of a claimed figure in each unit
EXAMPLES = {
    "share": "75 %",
    "ratio": "1.2x",
    "B": "40 GB",
    "s": "5 s",
    "USD": "0.15 USD",
    "USD/token": "0.30 USD/Mtok",
    "token": "128k",
    "count": "1",
}
#: values of other cases that a line of arithmetic lists
LISTED = 4


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A claimed figure or range in base units, and the bounds within which an answer agrees with it."""

    low: float  #: as claimed
    high: float  #: as claimed, `low` again for a single figure
    least: float  #: of an answer that agrees
    most: float  #: of an answer that agrees
    strict: bool = False  #: whether the bounds themselves are out

    def agrees(self, value: float) -> bool:
        """Whether a figure is the one claimed, to within the tolerance."""
        return self.least < value < self.most if self.strict else self.least <= value <= self.most

    def meets(self, low: float, high: float) -> bool:
        """Whether a range holds a figure that was claimed."""
        return low <= self.high and high >= self.low

    def distance(self, value: float) -> float:
        """How far a figure is from the one claimed, 0 where it agrees."""
        return max(self.low - value, value - self.high, 0.0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case after it was judged."""

    case: ClaimCase | None  #: None for an arithmetic check
    label: str  #: what tells it from the others
    measured: Measured  #: kvplan's figure
    status: str  #: yes, within (kvplan's error), no, or open

    @property
    def holds(self) -> bool:
        """Whether the case agrees with the claim, surely or within the error of the answer."""
        return self.status in ("yes", "within")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one claim."""

    claim: Claim  #: the claim
    verdict: str  #: one of VERDICTS
    condition: str  #: cases it holds for, where it does not for all
    within: bool  #: whether it holds only within kvplan's own error
    outcomes: tuple[Outcome, ...]  #: of its cases
    arithmetic: str  #: in one line
    tolerance: float  #: how far an answer may be from the figure, as Check.tolerance
    unit: str  #: of the figure, '' for a claim nobody can check

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        words = f"{SOMETIMES} {self.condition.removeprefix('with ')}" if self.verdict == SOMETIMES else self.verdict
        return f"{words} (within our error)" if self.within else words

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the arithmetic rests on."""
        return tuple(dict.fromkeys(s for o in self.outcomes for s in o.measured.sources))


def judged(claims: Claims, bench: Bench) -> tuple[Verdict, ...]:
    """Return a verdict for every claim; raise SpecError or UnknownName where a claim cannot be understood."""
    return tuple(judge(claim, bench) for claim in claims.claims)


def judge(claim: Claim, bench: Bench) -> Verdict:
    """Return one claim's verdict."""
    if claim.check == QUOTE:
        return _open(claim)
    kind = _checked(claim)
    figure = read_figure(claim.claimed, kind.unit, claim.where, _tolerance(claim, kind))
    outcomes = []
    if claim.check == ARITHMETIC:
        for factors in claim.factors:
            measured = combined(claim.how, factors)
            words = [f"{f.value:g} {f.of}" for f, options in zip(factors, _columns(claim), strict=True) if options > 1]
            outcomes.append(
                Outcome(case=None, label=", ".join(words), measured=measured, status=_status(measured, figure))
            )
    for case in claim.cases:
        try:
            rows = tried(kind, case, bench)
        except (SpecError, UnknownName) as refusal:
            raise SpecError(f"{claim.where}: {refusal}") from None
        for measured in rows:
            label = ", ".join(filter(None, (in_words(case, claim.varied), measured.extra)))
            outcomes.append(Outcome(case=case, label=label, measured=measured, status=_status(measured, figure)))
    return _verdict(claim, kind, figure, outcomes)


# -- what is claimed --------------------------------------------------------------------------------

#: arithmetic is a share where its claim has a % sign, else a plain number
_ARITHMETIC = Check(
    name=ARITHMETIC, unit="count", needs=(), may=(), tolerance=0.02, summary="Sourced figures combined.",
    function=lambda case, bench: [],
)  # fmt: skip


def _checked(claim: Claim) -> Check:
    """Return a claim's check; refuse one that there is not, and fields that it lacks or does not read."""
    if claim.check == ARITHMETIC:
        if not claim.factors or claim.fields:
            raise SpecError(
                f"{claim.where}: arithmetic needs product, sum or quotient, as in product: "
                "[{value: 10, of: seconds}, {value: 30, of: frames a second}], and no cases"
            )
        return replace(_ARITHMETIC, unit="share") if "%" in claim.claimed else _ARITHMETIC
    if claim.check not in CHECKS:
        known = (*CHECKS, ARITHMETIC, QUOTE)
        raise UnknownName("check", claim.check, known, f"known: {', '.join(known)}", claim.where)
    kind = CHECKS[claim.check]
    known = (*kind.needs, *kind.may)
    for field in claim.fields:
        if field not in known:
            raise UnknownName(f"field of {claim.check}", field, known, f"it reads: {', '.join(known)}", claim.where)
    if missing := next((f for f in kind.needs if f not in claim.fields), None):
        raise SpecError(f"{claim.where}: {claim.check} needs {missing}; write it under cases:")
    if "workload" in kind.may and "workload" not in claim.fields and "context" not in claim.fields:
        raise SpecError(f"{claim.where}: {claim.check} needs context or workload, as in context: 128k, under cases:")
    for case in claim.cases:
        for text in (case.technique, case.against):
            try:
                spelling.parts(text)
            except UnknownName as refusal:
                raise SpecError(f"{claim.where}: {refusal}") from None
    return kind


def _tolerance(claim: Claim, kind: Check) -> float:
    return kind.tolerance if claim.tolerance is None else claim.tolerance


def read_figure(text: str, unit: str, where: str, tolerance: float) -> Figure:
    """Return what '75 %', '30 to 45 %', 'over 40 GB', 'at most 1 %' or '0.15 -> 0.04' claims.

    A bound is meant as it stands; only a figure, a range and 'up to' are widened by the tolerance.
    """
    place = f"{where}: claimed"
    bound = _BOUND.fullmatch(text.strip())
    if bound:
        lower, included = BOUNDS[bound[1]]
        value = _amount(bound[2], unit, place)
        slack = _slack(value, unit, tolerance) if bound[1] == "up to" else 0.0
        low, high = (value, inf) if lower else (-inf, value)
        return Figure(low=low, high=high, least=low - slack, most=high + slack, strict=not included)
    low, high = _range(text.strip(), unit, place)
    least, most = low - _slack(low, unit, tolerance), high + _slack(high, unit, tolerance)
    return Figure(low=low, high=high, least=least, most=most)


def _slack(value: float, unit: str, tolerance: float) -> float:
    return tolerance if unit == "share" else abs(value) * tolerance


def _range(text: str, unit: str, where: str) -> tuple[float, float]:
    before, arrow, after = text.partition("->")
    if arrow:
        if unit != "share":
            raise SpecError(f"{where}: a change such as 0.15 -> 0.04 is a share saved; write {EXAMPLES[unit]} here")
        a, b = (parse(x.strip().lstrip("$"), "1", where) for x in (before, after))
        if not a:
            raise SpecError(f"{where}: a change from 0 has no share; write it as 75 %")
        return 1 - b / a, 1 - b / a
    first, to, last = text.partition(" to ")
    if not to:
        value = _amount(text, unit, where)
        return value, value
    suffix = re.sub(r"^[\s$]*[\d.,_]+", "", last)  # '30 to 45 %': the first figure has the last one's unit
    bare = re.fullmatch(r"[\d.,_]+", first.strip())
    low, high = _amount(first + suffix if bare else first, unit, where), _amount(last, unit, where)
    if low > high:
        raise SpecError(f"{where}: a range goes from the smaller to the greater, got {shown(text)}")
    return low, high


def _amount(text: str, unit: str, where: str) -> float:
    text = text.strip()
    if not text:
        raise SpecError(f"{where} is missing, as in claimed: {EXAMPLES[unit]}")
    if unit == "token":
        return float(parse_tokens(text, where))
    if unit == "share":
        if text.endswith("%"):
            return parse(text[:-1], "1", where) / 100
        raise SpecError(
            f"{where}: expected a share such as '75 %' or a change such as '0.15 -> 0.04', got {shown(text)}"
        )
    if unit in ("ratio", "count"):
        return parse(text.removesuffix("x"), "1", where)
    if unit.startswith("USD") and text.startswith("$"):
        amount, slash, per = text[1:].partition("/")
        text = f"{amount} USD{slash}{per}"
    return parse(text, unit, where)


# -- from cases to a verdict ------------------------------------------------------------------------


def _status(measured: Measured, figure: Figure) -> str:
    """Return yes, within, no or open: whether a case agrees with the figure, and how surely."""
    if measured.value is None:
        answered = measured.low > -inf or measured.high < inf
        return "no" if answered and not figure.meets(measured.low, measured.high) else "open"
    if measured.low == measured.high:
        return "yes" if figure.agrees(measured.value) else "no"
    if figure.agrees(measured.low) and figure.agrees(measured.high):
        return "yes"
    agrees = figure.agrees(measured.value) or figure.meets(measured.low, measured.high)
    return "within" if agrees else "no"


def _verdict(claim: Claim, kind: Check, figure: Figure, outcomes: Sequence[Outcome]) -> Verdict:
    answered = [f for f in outcomes if f.status != "open"]
    agreeing = [f for f in answered if f.holds]
    verdict = OPEN if not answered else HOLDS if len(agreeing) == len(outcomes) else SOMETIMES if agreeing else FAILS
    if verdict == SOMETIMES and len(outcomes) == 1:
        verdict = HOLDS
    return Verdict(
        claim=claim,
        verdict=verdict,
        condition=condition(claim, agreeing, outcomes) if verdict == SOMETIMES else "",
        within=bool(agreeing) and any(f.status == "within" for f in agreeing),
        outcomes=tuple(outcomes),
        arithmetic=arithmetic(claim, figure, kind.unit, verdict, outcomes),
        tolerance=_tolerance(claim, kind),
        unit=kind.unit,
    )


def _open(claim: Claim) -> Verdict:
    if claim.claimed or claim.cases[1:] or claim.fields:
        raise SpecError(f"{claim.where}: quote checks nothing; leave out claimed and cases, or name another check")
    if not claim.needs:
        raise SpecError(f"{claim.where}: quote needs to say what would be needed, as in needs: the model's config")
    return Verdict(
        claim=claim,
        verdict=OPEN,
        condition="",
        within=False,
        outcomes=(),
        arithmetic=f"would need {claim.needs}",
        tolerance=0.0,
        unit="",
    )


def _columns(claim: Claim) -> list[int]:
    """Return how many values each factor of an arithmetic check has."""
    return [len({f[i].value for f in claim.factors}) for i in range(len(claim.factors[0]))]


#: how a field's value is said
WORDS = {
    "context": "at {}",
    "gpu": "on {}",
    "kv_heads": "with {} KV heads",
    "weights": "with {} weights",
    "batch": "at batch {}",
    "load": "at {} load",
    "price": "at {}",
    "of": "counting the {}",
    "against": "against {}",
    "against_gpu": "against {}",
    "against_workload": "against {}",
    "measure": "in {}",
    "task": "on {}",
    "tp": "on tp{}",
}


def in_words(case: ClaimCase, fields: Iterable[str]) -> str:
    """Return some fields of a case in words: 'llama3-70b at 128k'."""
    return " ".join(_worded(f, [case.words[f]]) for f in fields)


def condition(claim: Claim, agreeing: Sequence[Outcome], outcomes: Sequence[Outcome]) -> str:
    """Return for which cases a claim holds, by field where it can be said so, else the cases one by one."""
    if any(f.measured.extra or f.case is None for f in outcomes):
        parts = list(dict.fromkeys(f.label for f in agreeing))
    else:
        fields = claim.varied
        chosen, everything = (
            list(dict.fromkeys(tuple(f.case.words[v] for v in fields) for f in some if f.case))
            for some in (agreeing, outcomes)
        )
        parts = _described(fields, chosen, everything)
    rest = f", or {len(parts) - LISTED} more cases" if len(parts) > LISTED else ""
    return "; ".join(parts[:LISTED]) + rest


Cases = Sequence[tuple[str, ...]]


def _described(fields: Sequence[str], agreeing: Cases, everything: Cases) -> list[str]:
    """Return the cases that hold in as few phrases as fields can tell them apart in."""
    columns = [list(dict.fromkeys(case[i] for case in agreeing)) for i in range(len(fields))]
    if len(agreeing) == prod(len(c) for c in columns):
        varied = [i for i in range(len(fields)) if len({case[i] for case in everything}) > len(columns[i])]
        return [" ".join(_worded(fields[i], columns[i]) for i in varied)]
    best: list[str] = []
    for i, field in enumerate(fields):
        rest = (*fields[:i], *fields[i + 1 :])
        phrases: dict[tuple[str, ...], list[str]] = {}
        for value in columns[i]:
            some, of = ([(*c[:i], *c[i + 1 :]) for c in cases if c[i] == value] for cases in (agreeing, everything))
            phrases.setdefault(tuple(_described(rest, some, of)), []).append(value)
        parts = [f"{_worded(field, values)} {p}".strip() for said, values in phrases.items() for p in said]
        best = parts if not best or len(parts) < len(best) else best
    return best


def _worded(field: str, values: Sequence[str]) -> str:
    return WORDS.get(field, "{}").format(" or ".join(values))


def arithmetic(claim: Claim, figure: Figure, unit: str, verdict: str, outcomes: Sequence[Outcome]) -> str:
    """Return the arithmetic in one line: one case worked, the others' figures, what is not answered, and the note.

    The case worked is the one nearest to the figure claimed.
    """
    answered = [f for f in outcomes if f.measured.value is not None]
    unanswered = [f for f in outcomes if f.measured.value is None]
    lead = min(answered, key=lambda f: figure.distance(f.measured.value or 0.0), default=None)
    parts = [_labelled(lead.label, lead.measured.line, lead.measured.extra)] if lead else []
    others = [f for f in answered if f is not lead]
    if len(others) > LISTED:
        low = min(others, key=lambda f: f.measured.value or 0.0)
        high = max(others, key=lambda f: f.measured.value or 0.0)
        parts.append(f"{len(others)} other cases: {_short(low, unit)} ... {_short(high, unit)}")
    elif others:
        parts.append("; ".join(_short(f, unit) for f in others))
    reasons: dict[str, list[Outcome]] = {}
    for f in unanswered:
        reasons.setdefault(f.measured.reason, []).append(f)
    for reason, cases in list(reasons.items())[:2]:
        named = condition(claim, cases, outcomes) if len(cases) < len(outcomes) else ""
        parts.append(reason if not named or reason.startswith(named) else f"{named}: {reason}")
    if len(reasons) > 2:
        parts.append(f"{len(reasons) - 2} more reasons in the JSON")
    parts += dict.fromkeys(remark for f in outcomes for remark in f.measured.remarks)
    parts += [*_implied(claim, figure, verdict, outcomes), *_remarks(claim)]
    return "; ".join(parts)


def _labelled(label: str, line: str, extra: str) -> str:
    """Return a line behind its label, unless the line begins with it already."""
    label = label.removesuffix(extra).rstrip(", ") if extra else label
    return f"{label}: {line}" if label else line


def _short(f: Outcome, unit: str) -> str:
    value = f.measured.value
    return f"{f.label} {show(value if value is not None else inf, unit)}".strip()


def _remarks(claim: Claim) -> list[str]:
    """Return a claim's note, and which of its models does not have the context asked for."""
    remarks = [claim.note] if claim.note else []
    short = beyond([claim])
    named = {c.model.name for c in claim.cases if c.model}
    return [*remarks, *short.values()] if set(short) == named else remarks


def beyond(claims: Iterable[Claim]) -> dict[str, str]:
    """Return, by model, what to know of a context beyond the model's own."""
    remarks = {}
    for case in (case for claim in claims for case in claim.cases):
        m = case.model
        if m is not None and m.max_context and case.context and case.context > m.max_context:
            remarks[m.name] = f"{m.title} itself ends at {m.max_context:,} tokens"
    return remarks


def _implied(claim: Claim, figure: Figure, verdict: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Return how busy the GPUs would have to be for a cost that is claimed above kvplan's."""
    if verdict != FAILS or claim.check not in ("query_cost", "token_cost"):
        return []
    busy = [f.measured.value for f in outcomes if f.case and f.case.load == 1 and f.measured.value is not None]
    shares = sorted(value / figure.low for value in busy) if 0 < figure.low < inf else []
    if not shares or shares[-1] >= 1:
        return []
    least, most = (show(round(x, 2), "share") for x in (shares[0], shares[-1]))
    return [f"{claim.claimed} would mean GPUs busy {least if least == most else f'{least} to {most}'} of the time"]
