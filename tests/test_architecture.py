"""The house rules: imports go one way, never in a circle; the core is pure, start-up light, factors in one place."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kvplan"
#: rooms in the order of reading; a module imports only from its own room and from those before it
ROOMS = [
    "docstrings", "errors", "units", "specs", "architectures", "kv", "perf", "money", "quality", "planning", "claims",
    "catalog", "measuring", "compress", "api", "report", "cli",
]  # fmt: skip
#: what only some may touch: rooms and sub-rooms, which end with a slash, and modules
ONLY = {
    "click": {"cli/"}, "rich": {"report/formats/text", "report/console", "report/progress"},
    "plotext": {"report/formats/text"}, "yaml": {"catalog/"}, "pathlib": {"catalog/"},
    "json": {"catalog/", "compress/storing", "report/formats/", "cli/notebook"}, "pandas": {"cli/notebook"},
    "jinja2": {"report/formats/html/"}, "markupsafe": {"report/formats/html/"}, "vl_convert": {"report/formats/svg"},
    "csv": {"catalog/", "report/formats/csv"}, "io": {"catalog/", "report/formats/csv"},
    "subprocess": set(), "socket": set(),
    "urllib": {"catalog/servers/metrics", "catalog/servers/metrics_range"}, "http": {"catalog/servers/metrics"},
    "prometheus_client": {"catalog/servers/metrics"},
    "tempfile": {"catalog/", "measuring/device/"}, "shutil": {"cli/delivery"},  # the width of the terminal
    "importlib": {  # what is loaded by name, when it is used
        "architectures/registry", "catalog/", "cli/__init__", "cli/completion", "cli/names", "cli/notebook",
        "planning/exporting/__init__", "measuring/device/", "report/formats/__init__",
        "report/formats/html/",  # the page's own files
    },
    "kvplan.kernels": {"measuring/device/"}, "kvplan.CODE": {"catalog/"}, "kvplan.DATA": {"catalog/"},
    # fleet/program silences what its solver's own code prints, which only os.dup can
    # api/sweep counts cores, ends with the process that asks, and reads the settings of a cluster
    "os": {
        "catalog/", "cli/delivery", "cli/ending", "cli/pager", "cli/streams", "measuring/device/",
        "planning/fleet/program", "api/sweep", "api/sweeping/cluster", "api/sweeping/crews",
    },
    "torch": {"measuring/device/", "compress/"}, "transformers": {"compress/"}, "safetensors": {"compress/"},
    "triton": set(),  # kernels/ alone
    "pynvml": {"measuring/device/"},
    "numpy": {
        "measuring/", "perf/amounts", "perf/arrays", "perf/mixture", "perf/sessions", "perf/stacks",
        "perf/simulate/", "planning/demand", "planning/fleet/", "planning/plan", "planning/planned",
        "planning/searching/", "planning/sensitivity", "planning/volumes",
    },
    "numba": {"perf/simulate/compiled"},
    "scipy": {"measuring/", "planning/fleet/program", "planning/design"},
    "pyarrow": {"catalog/studies/parts"}, "ray": {"api/sweeping/cluster"},
    "multiprocessing": {"api/sweeping/crews", "measuring/device/"},
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix(""))


@cache
def imports(text: str) -> list[str]:
    """Return what a module imports, also by name (`import_module("...")`): modules, and each name from a module."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.append(ast.unparse(node.args[0]).lstrip("f").strip("'\""))
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "kvplan" and len(parts) > 1 and parts[1] in ROOMS else None


def backwards(where: str, text: str) -> list[str]:
    """Return what the module at a place imports from rooms that come after its own."""
    here = ROOMS.index(where.split("/")[0])
    return [module for module in imports(text) if (there := room(module)) and ROOMS.index(there) > here]


def library(module: str) -> str:
    """Return the name that `ONLY` has for what a module is of: a package, or a part of kvplan."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "kvplan" else parts[0]


def within(where: str, places: Iterable[str]) -> bool:
    """Return whether a module is one of some places, or stands in one of them that is a room."""
    return any(where.startswith(p) if p.endswith("/") else where == p for p in places)


def not_theirs(where: str, text: str) -> list[str]:
    """Return what the module at a place imports that only others may."""
    found = []
    for module in imports(text):
        allowed = ONLY.get(library(module))
        if allowed is not None and not within(where, allowed):
            found.append(module)
    return found


def breaking(found: Callable[[Path], object], modules: Iterable[Path] = MODULES) -> dict[str, object]:
    """Return what breaks a rule, by module; a test of its own for each would take longer than the rule does."""
    return {place(path): wrong for path in modules if (wrong := found(path))}


def test_imports_go_one_way() -> None:
    some = [path for path in MODULES if place(path) not in ("__init__", "__main__")]
    assert breaking(lambda path: backwards(place(path), path.read_text("utf-8")), some) == {}


def test_only_some_rooms_touch_files_terminals_and_heavy_libraries() -> None:
    some = [path for path in MODULES if place(path) != "__init__"]
    assert breaking(lambda path: not_theirs(place(path), path.read_text("utf-8")), some) == {}


def drawn(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which of some modules, by place, each imports of the others; packages stand for their `__init__`."""
    named = {f"kvplan.{where.removesuffix('/__init__').replace('/', '.')}": where for where in texts}
    return {
        where: {
            named[name]
            for module in imports(text)
            if (name := module if module in named else module.rpartition(".")[0]) in named and named[name] != where
        }
        for where, text in texts.items()
    }


def circle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """Return places each of which imports the next, and the last the first; none where there is no such round."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as round_trip:
        return [*round_trip.args[1]]
    return []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Also not late or for types alone; `cli/names` only asks where its own folder is."""
    some = {place(path): path.read_text("utf-8") for path in MODULES if place(path) not in ("__init__", "cli/names")}
    assert circle(drawn(some)) == []


def test_sub_rooms_do_not_import_each_other_in_a_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for where, others in drawn({place(path): path.read_text("utf-8") for path in MODULES}).items():
        here = "/".join(where.split("/")[:2])
        there = {"/".join(other.split("/")[:2]) for other in others if other.count("/") > 1}
        arrows.setdefault(here, set()).update((there - {here}) if where.count("/") > 1 else ())
    assert circle(arrows) == []


def test_a_circle_is_caught() -> None:
    late = "def f():\n    from kvplan.kv import profiling"
    texts = {"kv/budget": late, "kv/profiling": "from kvplan.kv.budget import Deployment", "kv/layout": ""}
    assert drawn(texts) == {"kv/budget": {"kv/profiling"}, "kv/profiling": {"kv/budget"}, "kv/layout": set()}
    assert {*circle(drawn(texts))} == {"kv/budget", "kv/profiling"}
    assert circle(drawn({**texts, "kv/budget": ""})) == []


def test_every_permission_is_used() -> None:
    """One that no module needs any more would let the next one in unseen."""
    used = {(place(path), library(module)) for path in MODULES for module in imports(path.read_text("utf-8"))}
    for name, places in ONLY.items():
        for allowed in places:
            assert any(within(where, {allowed}) for where, what in used if what == name), (name, allowed)


@pytest.mark.parametrize(
    ("where", "text", "wrong"),
    [
        ("kv/layout", "from kvplan import catalog", "kvplan.catalog"),
        ("kv/layout", "import kvplan.catalog.files as f", "kvplan.catalog.files"),
        ("kv/layout", "def late():\n    from kvplan.catalog import files", "kvplan.catalog.files"),
        ("kv/layout", "from kvplan import __version__, units", ""),
        ("api/load", "from kvplan import catalog", ""),
        ("catalog/files", "from kvplan.api import values", "kvplan.api.values"),
        ("catalog/files", "import_module(f'kvplan.report.{name}')", "kvplan.report.{name}"),
    ],
)
def test_an_import_of_a_later_room_is_caught(where: str, text: str, wrong: str) -> None:
    assert backwards(where, text) == [wrong] * bool(wrong)


@pytest.mark.parametrize(
    ("where", "text", "wrong"),
    [
        ("kv/layout", "import csv", "csv"), ("kv/layout", "from urllib import request", "urllib.request"),
        ("catalog/files", "import subprocess", "subprocess"), ("kv/layout", "import os.path", "os.path"),
        ("planning/load", "from kvplan import kernels", "kvplan.kernels"),
        ("planning/load", "from kvplan.kernels.h2o import h2o_select", "kvplan.kernels.h2o.h2o_select"),
        ("planning/load", "import_module(f'kvplan.kernels.{name}')", "kvplan.kernels.{name}"),
        ("planning/load", "import_module('torch')", "torch"),
        ("architectures/config", "from kvplan import CODE", "kvplan.CODE"),
        ("measuring/device/cuda", "from kvplan import kernels", ""), ("catalog/files", "import csv, io, tempfile", ""),
    ],
)  # fmt: skip
def test_an_import_that_only_others_may_is_caught(where: str, text: str, wrong: str) -> None:
    assert not_theirs(where, text) == [wrong] * bool(wrong)


def public(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Return (name, definition) of what a module or class offers to others."""
    found = []
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found.append((f"{prefix}{node.name}", node))
            if isinstance(node, ast.ClassDef):
                found += public(node.body, f"{node.name}.")
    return found


def fields_without_a_comment(nodes: list[ast.AST], lines: list[str]) -> list[str]:
    """Return the fields of dataclasses with neither a `#:` comment nor metadata that says it."""
    missing = []
    for owner in nodes:
        if not isinstance(owner, ast.ClassDef) or "dataclass" not in "".join(map(ast.dump, owner.decorator_list)):
            continue
        for node in owner.body:
            if isinstance(node, ast.AnnAssign):
                told = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                said = any(word in told for word in ("#:", "about(", "coefficient(", "choice("))
                if not said and not lines[node.lineno - 2].strip().startswith("#:"):
                    missing.append(f"{owner.name}.{ast.unparse(node.target)}")
    return missing


@dataclass(frozen=True)
class Facts:
    """What the rules ask of a module, which is parsed once for all of them."""

    documented: bool  #: whether it says what it is
    calls: set[str]  #: names that it calls
    stray: list[int]  #: lines with factors that stand in units
    silent: list[str]  #: what it offers without a docstring
    undescribed: list[str]  #: fields that do not say what they are
    classes: list[str]  #: classes it defines


@cache
def facts(path: Path) -> Facts:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    numbers = [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, (int, float))]
    return Facts(
        documented=bool(ast.get_docstring(tree)),
        calls={n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)},
        stray=[n.lineno for n in numbers if n.value in (1024**3, 2**30, 3600, 86_400, 1_000_000_000_000.0)],
        silent=[name for name, node in public(tree.body) if not ast.get_docstring(node)],
        undescribed=fields_without_a_comment(nodes, text.splitlines()),
        classes=[node.name for node in tree.body if isinstance(node, ast.ClassDef)],
    )


def test_no_module_opens_prints_or_evaluates() -> None:
    assert breaking(lambda path: facts(path).calls & {"open", "print", "eval", "exec", "__import__"}) == {}


def test_scale_factors_stand_in_units() -> None:
    """Elsewhere there are none: their lines."""
    assert breaking(lambda path: facts(path).stray, [path for path in MODULES if place(path) != "units"]) == {}


def test_every_module_says_what_it_is() -> None:
    assert breaking(lambda path: not facts(path).documented) == {}


def test_everything_public_has_a_docstring() -> None:
    assert breaking(lambda path: facts(path).silent) == {}


def test_every_field_says_what_it_is_at_the_field() -> None:
    assert breaking(lambda path: facts(path).undescribed) == {}


def test_a_class_name_stands_for_one_thing() -> None:
    """No two modules give one name to two classes."""
    owners: dict[str, list[str]] = {}
    for path in MODULES:
        for name in facts(path).classes:
            owners.setdefault(name, []).append(place(path))
    assert not {name: places for name, places in owners.items() if len(places) > 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ["estimate", "-m", "llama3.1-70b", "-c", "128k", "--json"],
        ["memory", "-m", "gpt-oss-120b", "-c", "8k", "--json"],
        ["--help"],
    ],
)
def test_the_planner_starts_without_heavy_libraries(arguments: list[str]) -> None:
    code = f"""
import sys
from kvplan.cli import main
try:
    main({arguments!r})
except SystemExit as left:
    assert not left.code
heavy = {{'torch', 'triton', 'transformers', 'numpy', 'scipy', 'rich', 'pynvml'}} & set(sys.modules)
sys.exit(f'imports {{heavy}}' if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_our_kernels_folder_never_shadows_the_package_of_that_name() -> None:
    """From the project's root ours must not answer to `kernels`, a PyPI package that transformers imports."""
    code = (
        "import importlib.util, sys; s = importlib.util.find_spec('kernels'); "
        "sys.exit(bool(s and s.origin and s.origin.startswith(sys.argv[1])))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=ROOT, check=False).returncode == 0
    assert not any((ROOT / folder / "__init__.py").exists() for folder in ("kernels", "models", "profiles"))
