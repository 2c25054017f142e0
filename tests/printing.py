"""Commands run in this process, what they print at every width, and what of it is compared. No test stands here."""

import io
import json
import os
import re
import shlex
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from releases import forget_newer_releases
from reports import FILES, OVER_ALL, PINNED, REPORTS, TIMED, WIDE, WIDTHS

from kvplan.errors import KvplanError
from kvplan.report.blocks import Bars, Chart

#: characters of a field's values in an outline
SHOWN = 70
#: keys of documents that hold how long something took
TIMINGS = {"seconds", "wall_seconds"}
#: keys that name the other techniques of the catalogue, which grow with it (tests/test_techniques.py)
GROWING = {"excludes"}


@dataclass(frozen=True)
class Printed:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out, self.err
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """All of it as one text, without the blanks that lines end with."""
        out = "".join(f"{line.rstrip()}\n" for line in self.out.splitlines())
        return out + "".join(f"stderr: {line}\n" for line in self.err.splitlines()) + f"exit status {self.code}\n"


@dataclass(frozen=True)
class Report:
    """What a command of REPORTS printed: its text by width, and the command with --json."""

    name: str
    texts: dict[int, Printed]
    json: Printed
    charts: str = ""


def report(name: str, folder: Path) -> Report:
    """Run a command of REPORTS once, in a copy of FILES at `folder`, and print what it found in every form."""
    forget_newer_releases()
    arguments = shlex.split(REPORTS[name])
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    clock = count(100.0, 1.5)
    ticking = patch("time.monotonic", lambda: next(clock)) if name in TIMED else nullcontext()
    with chdir(folder), ticking, pinned(PINNED if name in OVER_ALL else ()):
        forms: dict[int | str, str] = {}
        with every_form(forms):
            once = printed(arguments)
        if not forms:  # it ended before there was anything to deliver
            return Report(name, dict.fromkeys((*WIDTHS, WIDE), once), printed([*arguments, "--json"]))
    texts = {width: Printed(once.code, once.out + forms[width], once.err) for width in (*WIDTHS, WIDE)}
    return Report(name, texts, Printed(once.code, forms["json"], once.err), forms["charts"])


@contextmanager
def every_form(forms: dict[int | str, str]) -> Iterator[None]:
    """Let commands hand over their result at every width and as a document, into `forms`: what is slow is found once.

    `deliver` is the one place where commands turn a result into text.
    """
    from kvplan.cli import commands, delivery, module_of

    def deliver(report: Any, _form: str, refusal: str = "", aside: bool = False) -> None:
        for form in (*WIDTHS, WIDE, "json"):
            width = form if isinstance(form, int) else 100
            with settings(terminal(width)), redirect_stdout(io.StringIO()) as out:
                handed_over(report, "json" if form == "json" else "text")
            forms[form] = out.getvalue()
        forms["charts"] = charted(report.page().blocks)
        if refusal:
            raise KvplanError(refusal)

    handed_over = delivery.deliver
    with ExitStack() as patches:
        for module in map(import_module, map(module_of, commands())):
            patches.enter_context(patch.object(module, "deliver", deliver))
        yield


def charted(blocks: Iterable[Any]) -> str:
    """Return the figures of charts and bars as text, a line a series or a bar."""
    lines = []
    for block in blocks:
        if isinstance(block, Chart):
            scale = "logarithmic" if block.log else "linear"
            lines.append(f"{block.title}: {block.y_label} over {block.x_label}, {scale}")
            for s in block.series:
                points = zip(s.x, s.y, s.names or ("",) * len(s.x), strict=True)
                lines.append(f"  {s.label}: {', '.join(f'{name} {x:.4g} {y:.4g}'.strip() for x, y, name in points)}")
        elif isinstance(block, Bars):
            lines.append(f"{block.title}: {block.label}")
            for b in block.bars:
                ends = "" if b.low is None or b.high is None else f", {b.low:.4g} to {b.high:.4g}"
                lines.append(f"  {b.name}: {b.value:.4g} ({b.text}{ends}) {b.tone}")
    return "".join(f"{line}\n" for line in lines)


def spoken_by(name: str, result: Any) -> Any:
    """Return the document of a result as the command of this name says it."""
    from kvplan.cli import module_of
    from kvplan.cli.flags import spoken

    said = import_module(f"kvplan.report.{name}").document(result)
    return spoken(said, import_module(module_of(name)).command)


@contextmanager
def pinned(gpus: tuple[str, ...]) -> Iterator[None]:
    """Let the catalogue list these GPUs and no others for a while; all of them for ()."""
    from kvplan import catalog

    catalog.gpu("h200")  # names and aliases are read once: before some of them are hidden
    if not gpus:
        yield
        return
    names, prices = catalog.names, tuple(p for p in catalog.prices() if p.gpu in gpus)
    with (
        patch.object(catalog, "names", lambda kind: gpus if kind == "gpus" else names(kind)),
        patch.object(catalog, "prices", lambda: prices),
    ):
        yield


@contextmanager
def settings(changes: Mapping[str, str]) -> Iterator[None]:
    """Change environment variables for a while."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def terminal(width: int) -> dict[str, str]:
    """Return the settings of a terminal that knows neither colour nor bold."""
    return {"COLUMNS": str(width), "LINES": "50", "TERM": "dumb", "FORCE_COLOR": "1"}


def printed(arguments: list[str], width: int = 100) -> Printed:
    """Run `kvplan ...` in this process, as on a terminal of a width."""
    from kvplan.cli import main

    out, err = io.StringIO(), io.StringIO()
    with settings(terminal(width)), redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as left:
            return Printed(int(left.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main always leaves with an exit status")


# -- documents ------------------------------------------------------------------------------------


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of what a document holds but timings and lists that grow; an element of a list is `[3]`."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            if key not in TIMINGS | GROWING:
                yield from leaves(below, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for n, below in enumerate(value):
            yield from leaves(below, f"{path}[{n}]")
    else:
        yield path, value


def outline(document: Any) -> str:
    """Return a document in a line a field: its first values, and a checksum where there are more.

    Elements of a list share a line. Numbers count with six digits, so that the last bits of a platform do not.
    """
    found: dict[str, list[Any]] = {}
    for path, value in leaves(document):
        field = "".join(part.partition("]")[2] if n else part for n, part in enumerate(path.split("[")))
        found.setdefault(field, []).append(value)
    lines = []
    for field, values in found.items():
        spelt = [f"{v:.6g}" if isinstance(v, float) else json.dumps(v, ensure_ascii=False) for v in values]
        line = ", ".join(spelt)
        if len(line) > SHOWN:
            line = f"{line[:SHOWN]}... {len(values)} of them, #{zlib.crc32(line.encode()):08x}"
        lines.append(f"{field}: {line}\n")
    return "".join(lines)


# -- what widths do -------------------------------------------------------------------------------

WORD = re.compile(r"\S+")
FRAME = re.compile(r"[─━█|]+")


def without_charts(text: str) -> list[str]:
    """Return the lines of a text but for charts, whose axes differ with the width."""
    kept, skip = [], 0
    lines = text.splitlines()
    for n, line in enumerate(lines):
        if "┌" in line:
            end = next(i for i in range(n, len(lines)) if "└" in lines[i])
            skip = end - n + 3  # the frame, the numbers below it, and the name of the axis
        if not skip:
            kept.append(line)
        skip = max(0, skip - 1)
    return kept


def cut(narrow: str, wide: str) -> list[str]:
    """Return the words of a narrow text that a wide one does not hold: cut headings, figures and names.

    A word that goes on in the same column of the next lines is whole.
    """
    known = {*WORD.findall("\n".join(without_charts(wide))), "(continued)"}
    lines = [[(m.start(), m[0]) for m in WORD.finditer(line)] for line in without_charts(narrow)]
    whole: set[tuple[int, int]] = set()
    found = []
    for n, line in enumerate(lines):
        for column, word in line:
            if word in known or FRAME.fullmatch(word) or (n, column) in whole:
                continue
            places, joined = [], word
            for below in range(n + 1, min(n + 5, len(lines))):
                more = next((w for c, w in lines[below] if c == column), None)
                if more is None:
                    break
                joined, places = joined + more, [*places, (below, column)]
                if joined in known:
                    whole.update(places)
                    break
            else:
                more = None
            if joined not in known:
                found.append(word)
    return found
