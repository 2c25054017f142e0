"""The fields of a case in words: 'for llama3-70b at 128k under mhc:4x'."""

from collections.abc import Iterable, Sequence

from kvplan.specs.claims import ClaimCase

#: how a field's value is said; a field that is not here: for {}
WORDS = {
    "context": "at {} tokens",
    "output": "with {} tokens of output",
    "technique": "under {}",
    "gpu": "on {}",
    "kv_heads": "with {} KV heads",
    "weights": "with {} weights",
    "batch": "at batch {}",
    "load": "at {} load",
    "per": "per {}",
    "prefix_cache": "with {} prefix cache",
    "accepted": "with {} tokens accepted per step",
    "draft": "with a draft of {} of a step",
    "price": "at {}",
    "of": "counting the {}",
    "against": "against {}",
    "against_gpu": "against {}",
    "against_workload": "against {}",
    "measure": "in {}",
    "task": "on {}",
    "benchmark": "in {}",
    "tp": "on tp{}",
}
#: what a cost is of where a claim does not say
REQUEST = "request"
#: prepositions that a label does not begin with
LEADING = ("for ", "under ")


def field_phrase(field: str, values: Sequence[str]) -> str:
    """Return one or several values of a field as a phrase."""
    if field == "per":
        values = [v if v == REQUEST else f"{v} (all its requests)" for v in values]
    return WORDS.get(field, "for {}").format(" or ".join(values))


def label(case: ClaimCase, fields: Iterable[str]) -> str:
    """Return some fields of a case as a name for it: 'llama3-70b at 128k tokens'."""
    text = " ".join(field_phrase(f, [case.words[f]]) for f in fields)
    leading = next((x for x in LEADING if text.startswith(x)), "")
    return text.removeprefix(leading)
