"""Change one thing at a time in a copy of the code and see whether a test notices.

    python benchmarks/mutants.py kvplan/report                          # 20 mutants of the renderers
    python benchmarks/mutants.py --core kvplan/kv kvplan/perf kvplan/money kvplan/planning --seed 7

Mutants come from the syntax trees of whatever files the folders hold, drawn by a seed. Of a renderer: two figures
or columns swapped, a figure scaled, a row, column or note dropped, a wrong unit. Of the core: another operator,
comparison or constant, minimum for maximum, a result scaled. Each runs until one fails: the test files that import its
module, smallest first (where none does, those that import its importers); the reports of tests/reports.py that execute
its line, quickest first; with --all the other quick tests, those nearest by imports first.
"""

import argparse
import ast
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "kvplan", "models", "profiles", "kernels", "tests", "benchmarks", "docs", ".ci", "pyproject.toml", "setup.py",
    "mkdocs.yml", "constraints.txt", "MANIFEST.in", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff",
    "LICENSE",
)  # fmt: skip
#: names of units that are taken for each other
UNITS = ("HOUR", "MONTH", "YEAR", "DAY", "MILLION", "GIGA", "TERA", "KWH")
WORDS = {"show_time": "show_usd", "show_usd": "show_bytes", "show_bytes": "show_tokens", "show_energy": "show_time"}
OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/"}
COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
#: reports that take seconds, while others execute the same lines
SLOW = {"audit", "calibrate-kernels", "calibrate-kernels-check", "calibrate-servers", "load-disaggregated"}
#: seconds after which a mutant is taken to run for ever: of a report, and of processor time of the tests
PATIENCE, ENDLESS = 300, 600
#: how pytest ends where all tests of the files are slow ones
NOTHING_COLLECTED = 5
#: a number as a format writes it
FIGURE = re.compile(r"[,.\d+]*[%fgde]|,")


@dataclass(frozen=True)
class Mutant:
    """A piece of a file, and what takes its place."""

    kind: str
    file: str
    line: int
    last: int
    start: int
    end: int
    new: str

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


class Source:
    """A file with its tree, and where each node stands in its bytes."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(ROOT))
        self.bytes = path.read_bytes()
        self.tree = ast.parse(self.bytes)
        self.lines = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def place(self, node: ast.AST) -> tuple[int, int]:
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        start, end = self.place(node)
        return self.bytes[start:end].decode()

    def stands(self, node: ast.AST) -> bool:
        """Return whether a node's parts stand where they say, which those of f-strings do not before Python 3.12."""
        below = [node.value] if isinstance(node, ast.FormattedValue) else ast.iter_child_nodes(node)
        parts = [n for n in below if isinstance(n, ast.expr) and not isinstance(n, ast.Starred)]
        return all(self.parsed(n) == ast.dump(n) for n in parts if isinstance(getattr(n, "ctx", ast.Load()), ast.Load))

    def parsed(self, node: ast.AST) -> str:
        try:
            return ast.dump(ast.parse(f"({self.text(node)})", mode="eval").body)
        except (SyntaxError, UnicodeDecodeError):
            return ""

    def mutant(self, kind: str, first: ast.AST, new: str, last: ast.AST | None = None) -> Mutant:
        start, end = self.place(first)[0], self.place(last or first)[1]
        return Mutant(kind, self.name, first.lineno, (last or first).end_lineno, start, end, new)  # type: ignore[attr-defined]


def plain(node: ast.AST) -> bool:
    return isinstance(node, (ast.Constant, ast.Starred, ast.GeneratorExp))


def swaps(s: Source, node: ast.AST) -> Iterator[Mutant]:
    """Yield neighbours that change places: arguments, cells, values of a document."""
    found: list[ast.expr] = []
    if isinstance(node, (ast.Tuple, ast.List)) and isinstance(node.ctx, ast.Load):
        found = node.elts
    elif isinstance(node, ast.Call):
        found = node.args
    elif isinstance(node, ast.Dict):
        found = node.values
    for a, b in pairwise(found):
        if not plain(a) and not plain(b) and s.text(a) != s.text(b):
            between = s.bytes[s.place(a)[1] : s.place(b)[0]].decode()
            yield s.mutant("swap", a, f"{s.text(b)}{between}{s.text(a)}", b)


def of_figures(s: Source, node: ast.AST) -> Iterator[Mutant]:
    """Yield what a renderer may do wrong."""
    yield from swaps(s, node)
    if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
        spec = "".join(str(v.value) for v in node.format_spec.values if isinstance(v, ast.Constant))
        if FIGURE.fullmatch(spec):
            whole = "1000" if spec in (",", "d") else "1.1"
            yield s.mutant("scale", node.value, f"({s.text(node.value)}) * {whole}")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
        if node.func.id.startswith("show_") and not isinstance(node.args[0], ast.Starred):
            factor = "1000" if node.func.id == "show_tokens" else "1.1"
            yield s.mutant("scale", node.args[0], f"({s.text(node.args[0])}) * {factor}")
        if node.func.id in WORDS:
            yield s.mutant("unit", node.func, f"__import__('kvplan.units').units.{WORDS[node.func.id]}")
    if isinstance(node, ast.Name) and node.id in UNITS:
        yield s.mutant("unit", node, f"__import__('kvplan.units').units.{UNITS[UNITS.index(node.id) - 1]}")
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    if isinstance(called, ast.Attribute) and called.attr in ("add_row", "append", "add_column"):
        yield s.mutant("drop", node, "pass")
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        yield s.mutant("drop", node, "pass")
    if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Yield, ast.YieldFrom)):
        yield s.mutant("drop", node, "yield from ()")
    if isinstance(node, ast.List) and len(node.elts) > 1 and isinstance(node.ctx, ast.Load):
        for a, b in pairwise(node.elts):
            yield s.mutant("drop", a, s.text(b), b)


def of_core(s: Source, node: ast.AST) -> Iterator[Mutant]:
    """Yield what a formula may do wrong."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not text_in(node):
        new = f"{s.text(node.left)} {OPERATORS[type(node.op)]} {s.text(node.right)}"
        if b"(" not in s.bytes[s.place(node.left)[1] : s.place(node.right)[0]]:
            yield s.mutant("operator", node, new)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        new = COMPARED[type(node.ops[0])]
        yield s.mutant("comparison", node, f"{s.text(node.left)} {new} {s.text(node.comparators[0])}")
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        yield s.mutant(
            "constant", node, f"{node.value * 1.1}" if isinstance(node.value, float) else f"{node.value + 1}"
        )
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
        yield s.mutant("extreme", node.func, "max" if node.func.id == "min" else "min")
    if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id == "float":
        for below in ast.walk(node):
            if isinstance(below, ast.Return) and below.value is not None:
                yield s.mutant("scale", below.value, f"({s.text(below.value)}) * 1.1")


def text_in(node: ast.AST) -> bool:
    return any(isinstance(n, (ast.JoinedStr, ast.List)) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
               for n in ast.walk(node))  # fmt: skip


def candidates(folders: list[str], core: bool) -> list[Mutant]:
    """Return every mutant there is."""
    if missing := [f for f in folders if not (ROOT / f).exists()]:
        raise SystemExit(f"no {missing[0]} here: name folders or files of kvplan/")
    found: list[Mutant] = []
    for path in sorted(p for f in folders for p in ([ROOT / f] if f.endswith(".py") else (ROOT / f).rglob("*.py"))):
        source = Source(path)
        hints = {n for a in ast.walk(source.tree) for n in annotations(a)}
        for node in (n for n in ast.walk(source.tree) if n not in hints and source.stands(n)):
            found += (of_core if core else of_figures)(source, node)
    return found


def alive(m: Mutant) -> bool:
    """Return whether a mutant still is Python, and another program."""
    source = (ROOT / m.file).read_bytes()
    try:
        return ast.dump(ast.parse(m.applied(source))) != ast.dump(ast.parse(source))
    except (SyntaxError, UnicodeDecodeError):
        return False


def annotations(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        if isinstance(hint := getattr(node, name, None), ast.AST):
            yield from ast.walk(hint)


def drawn(found: list[Mutant], number: int, seed: int) -> list[Mutant]:
    """Return so many, over as many files and kinds as there are."""
    dice = random.Random(seed)
    dice.shuffle(found)
    files: dict[str, int] = {}
    kinds: dict[str, int] = {}
    chosen: list[Mutant] = []
    while found and len(chosen) < number:
        m = min(found, key=lambda m: (files.get(m.file, 0), kinds.get(m.kind, 0)))
        found.remove(m)
        if alive(m):
            files[m.file], kinds[m.kind] = files.get(m.file, 0) + 1, kinds.get(m.kind, 0) + 1
            chosen.append(m)
    return chosen


def executed(files: set[str]) -> dict[str, tuple[float, set[tuple[str, int]]]]:
    """Return the seconds each report of tests/reports.py takes, and the lines of these files that it executes."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from printing import report
    from reports import REPORTS

    wanted = {str(ROOT / file): file for file in files}
    seen: set[tuple[str, int]] = set()

    def local(frame, event, _):  # type: ignore[no-untyped-def]
        seen.add((wanted[frame.f_code.co_filename], frame.f_lineno))
        return local

    found = {}
    for name in REPORTS.keys() - SLOW:
        begun = time.process_time()
        with TemporaryDirectory() as folder:
            sys.settrace(lambda f, _e, _a: local if f.f_code.co_filename in wanted else None)
            try:
                report(name, Path(folder))
            finally:
                sys.settrace(None)
        found[name] = (time.process_time() - begun, set(seen))
        seen.clear()
    return found


def imports() -> dict[str, set[str]]:
    """Return, of each file of kvplan and the tests, the modules and names it imports, dotted."""
    found: dict[str, set[str]] = {}
    for path in (*(ROOT / "kvplan").rglob("*.py"), *(ROOT / "tests").glob("test_*.py")):
        names = found[str(path.relative_to(ROOT))] = set()
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(filter(None, (package if node.level else "", node.module)))
                names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def by_distance(file: str, imported: dict[str, set[str]]) -> list[list[str]]:
    """Return test files by how many imports lead from them to a module, smallest first; last those from which none do.

    Reports are run apart from the other tests.
    """
    left = sorted((ROOT / "tests").glob("test_*.py"), key=lambda p: p.stat().st_size)
    tests = [f"tests/{p.name}" for p in left if p.name != "test_reports.py"]
    found: list[list[str]] = []
    modules, seen = {file}, {file}
    while modules:
        dotted = {m.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for m in modules}
        importers = {name for name, names in imported.items() if names & dotted}
        found.append([t for t in tests if t in importers])
        tests = [t for t in tests if t not in importers]
        modules = {name for name in importers - seen if name.startswith("kvplan/")}
        seen |= modules
    return [level for level in [*found, tests] if level]


def by_reports(m: Mutant, copy: Path, traced: dict[str, tuple[float, set[tuple[str, int]]]], budget: float) -> str:
    """Return the first golden report that differs with a mutant, '' if none does."""
    lines = {(m.file, n) for n in range(m.line, m.last + 1)}
    quickest = sorted((seconds, name) for name, (seconds, _) in traced.items())
    # constants of a module are executed by its import alone: any report that enters the module may use them
    reached = [q for q in quickest if traced[q[1]][1] & lines] or [
        q for q in quickest if any(file == m.file for file, _ in traced[q[1]][1])
    ]
    shown: list[str] = []
    spent = 0.0
    for seconds, name in reached:
        spent += seconds
        if spent < budget or not shown:
            shown.append(name)
    return differing(copy, shown)


def verdict(m: Mutant, copy: Path, check: Callable[[], str]) -> str:
    """Return what a check says while a mutant stands in a copy."""
    source = (ROOT / m.file).read_bytes()
    (copy / m.file).write_bytes(m.applied(source))
    try:
        return check()
    finally:
        (copy / m.file).write_bytes(source)


def sound(copy: Path, failed: str) -> str:
    """Return what failed; exit where it fails without any mutant, too, since it tells nothing."""
    report = failed.partition("/")[2].partition(".")[0]
    if failed.startswith(("reports/", "charts/", "json/")) and differing(copy, [report]):
        raise SystemExit(f"{failed} differs without a mutant: renew the golden files first")
    name = failed.removeprefix("FAILED ").removeprefix("ERROR ").partition(" - ")[0]
    if name != failed and failing(copy, [name]):
        raise SystemExit(f"{name} fails without a mutant: mend it first")
    return failed


def differing(copy: Path, names: list[str]) -> str:
    """Return the first of these reports that a copy prints otherwise than its golden files say, '' if none does.

    A child of this process prints them: the libraries are loaded already, kvplan is loaded anew.
    """
    verdict = copy / "verdict"
    verdict.write_text("ended early", "utf-8")
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        for name in [n for n in sys.modules if n.partition(".")[0] in ("kvplan", "printing", "reports", "releases")]:
            del sys.modules[name]
        sys.path[:0] = [str(copy), str(copy / "tests")]
        try:
            verdict.write_text(next(filter(None, (compared(name) for name in names)), ""), "utf-8")
        except BaseException as error:
            verdict.write_text(f"{type(error).__name__}: {error}"[:110], "utf-8")
        os._exit(0)
    os.waitpid(child, 0)
    return verdict.read_text("utf-8")


def compared(name: str) -> str:
    """Return which golden file of a report differs, '' for none."""
    from printing import outline, report
    from reports import GOLDEN, WIDTHS

    with TemporaryDirectory() as folder:
        found = report(name, Path(folder))
    for width in WIDTHS:
        if found.texts[width].text != (GOLDEN / "reports" / f"{name}.{width}.txt").read_text("utf-8"):
            return f"reports/{name}.{width}.txt"
    charts = GOLDEN / "charts" / f"{name}.txt"
    if found.charts != (charts.read_text("utf-8") if charts.exists() else ""):
        return f"charts/{name}.txt"
    golden = (GOLDEN / "json" / f"{name}.txt").read_text("utf-8")
    whole = not found.json.out or golden.startswith(outline(found.json.json))
    return "" if whole else f"json/{name}.txt"


def failing(copy: Path, tests: list[str], quick: bool = True) -> str:
    """Return the first of these tests that fails in a copy, '' if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = subprocess.run(
        [*command, *(["-m", "not slow"] if quick else []), *tests],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(copy)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (ENDLESS, ENDLESS)),
    )
    if done.returncode in (0, NOTHING_COLLECTED):
        return ""
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0] if lines else f"pytest ended with {done.returncode}"


def said(m: Mutant) -> str:
    old = (ROOT / m.file).read_bytes()[m.start : m.end].decode()
    return f"{m.file}:{m.line}: {m.kind}: {' '.join(old.split())[:90]} -> {' '.join(m.new.split())[:90]}"


def survivors(chosen: list[Mutant], copy: Path, check: Callable[[Mutant], str]) -> list[Mutant]:
    """Print which mutants a check kills; return the others."""
    left = []
    for m in chosen:
        begun = time.perf_counter()
        if failed := sound(copy, verdict(m, copy, partial(check, m))):
            print(f"killed in {time.perf_counter() - begun:.0f} s {said(m)}\n    {failed[:110]}", flush=True)
        else:
            left.append(m)
    return left


def main() -> int:
    """Print what became of each mutant; return how many live."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="+")
    options.add_argument("--core", action="store_true", help="mutants of formulas instead of figures")
    options.add_argument("--count", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--budget", type=float, default=15.0, help="seconds of reports to run for a mutant")
    options.add_argument("--all", action="store_true", help="run all other quick tests for those that still live")
    asked = options.parse_args()
    chosen = drawn(candidates(asked.folders, asked.core), asked.count, asked.seed)
    imported = imports()
    near = {m.file: by_distance(m.file, imported) for m in chosen}
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            where = ROOT / name
            (shutil.copytree if where.is_dir() else shutil.copy)(where, copy / name)
        left = survivors(chosen, copy, lambda m: failing(copy, near[m.file][0]))
        traced = executed({m.file for m in left}) if left else {}
        left = survivors(left, copy, lambda m: by_reports(m, copy, traced, asked.budget))
        if asked.all:
            left = survivors(left, copy, lambda m: failing(copy, list(chain(*near[m.file][1:]))))
        for m in left:
            print(f"SURVIVED {said(m)}", flush=True)
    print(f"{len(chosen) - len(left)} of {len(chosen)} killed")
    return len(left)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
