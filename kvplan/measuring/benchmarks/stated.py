"""What a caller states of a run, checked before any row is read: a slip in it would hold for every row."""

import re
from collections.abc import Callable, Iterable, Mapping

from kvplan import catalog
from kvplan.errors import SpecError, UnknownName, meant, shown
from kvplan.kv.replica import check_parallel
from kvplan.measuring.benchmarks.fields import COUNTS, SETTABLE, Value
from kvplan.measuring.serving.reading import ENGINES
from kvplan.measuring.serving.rows import Refused, ServerRow

#: words that say whether drafts ran
WHETHER = ("no", "none", "off", "false", "yes", "on", "true")
#: what is in the names of ways to draft tokens
DRAFTS = ("mtp", "eagle", "medusa", "ngram", "n-gram", "draft", "nextn", "suffix", "lookahead", "dflash", "accept")
#: a release by its numbers, and what may follow at once: a stage of it (rc1, post2, dev), else a separator
RELEASE = re.compile(
    r"v?\d+(\.\d+)+(\.?(a|b|rc|alpha|beta|preview)\.?\d*)?(\.?(post|dev|rc)\.?\d*)*([-+_ (,:;@/].*)?", re.IGNORECASE
)
NUMBERED = re.compile(r"v?\d+\.\d", re.IGNORECASE)


def check_stated(given: Mapping[str, Value]) -> None:
    """Raise SpecError for a column that cannot be stated, and for a value that no server has; '' states nothing."""
    for name, value in given.items():
        if name not in SETTABLE:
            measured = name.endswith("_ms")
            known = f"known: {', '.join(SETTABLE)}{meant(name, SETTABLE)}"
            more = "measured times come from the file alone" if measured else known
            raise SpecError(f"settings={name}: no column to set; {more}")
        word = str(value).strip()
        if word and name in CHECKS:
            CHECKS[name](word)


def check_spread(given: Mapping[str, Value], rows: Iterable[ServerRow | Refused]) -> None:
    """Raise SpecError where degrees that the caller states, and no file measured, cannot divide a row's model."""
    named = [f"settings={name}={given[name]}" for name in COUNTS if given.get(name)]
    for row in rows if named else ():
        if isinstance(row, ServerRow) and (reason := check_parallel(row.model, row.parallel)):
            raise SpecError(f"{', '.join(named)}: {row.model.name}: {reason}")


def _engine(word: str) -> None:
    known = catalog.names("engines")
    name, at, release = word.partition("@")
    if at and name.lower() in (*known, *ENGINES):
        said = f"settings=engine={name} settings=engine_version={release or '0.19'}"
        raise SpecError(f"settings=engine: a release is a column of its own, got {shown(word)}; write {said}")
    if word.lower() not in (*known, *ENGINES):
        raise UnknownName("engine", word, known, location="settings=engine")


def _version(word: str) -> None:
    if NUMBERED.match(word) and not RELEASE.fullmatch(word):
        raise SpecError(f"settings=engine_version: expected a release, as in 0.11.2 or 1.2.0rc5, got {shown(word)}")


def _drafts(word: str) -> None:
    low = word.lower()
    if not re.match(rf"({'|'.join(WHETHER)})\b", low) and not any(draft in low for draft in DRAFTS):
        raise SpecError(
            "settings=spec_decode: expected no, yes, or what drafts and how many tokens a step accepts, as in "
            f"'eagle3, accept 2.4', got {shown(word)}{meant(word, (*WHETHER, *DRAFTS))}"
        )


CHECKS: Mapping[str, Callable[[str], None]] = {"engine": _engine, "engine_version": _version, "spec_decode": _drafts}
