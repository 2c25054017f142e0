"""Running the command line in this process, and golden files."""

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from printing import Printed

os.environ.setdefault("COLUMNS", "100")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported: kernels are compiled in other processes
for _library in ("OPENBLAS", "OMP", "MKL"):  # threads of the workers would wait for each other, and spin meanwhile
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # for the processes that tests start: each would compile all anew
os.environ.setdefault("KVPLAN_TRACEBACK", "1")  # a bug must fail a test, not become one polite line

# no deadline, no check of speed: the time of an example says how busy the machine is. The inputs are the same on every
# run, so that a change alone can turn a green suite red; --hypothesis-profile=explore draws new ones
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("untimed"), derandomize=True, max_examples=100)
settings.register_profile("explore", settings.get_profile("untimed"), max_examples=300)
settings.load_profile("same")

# a shell starts what it runs in the background with Ctrl-C ignored, and all that is started from there inherits it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"

gc.disable()  # while tests are collected: nothing becomes garbage then, and looking for it takes a quarter of the time


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()  # tests and modules stay to the end


def pytest_configure() -> None:
    from releases import forget_newer_releases

    forget_newer_releases()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/ from what is printed now")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., "Printed"]:
    """Return a function that runs `kvplan ...`; anything but a clean exit fails the test."""
    from printing import Printed

    from kvplan.cli import main

    def call(*arguments: str) -> Printed:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        seen = capsys.readouterr()
        return Printed(int(left.value.code or 0), seen.out, seen.err)

    return call


@pytest.fixture
def ask_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the tests of a file search once for the plans of a question that several ask, or one in several forms.

    Answers are frozen values. Whoever changes the program asks anew: a question does not name that. `monkeypatch` may
    do so, unless the file says that what its tests patch changes no plan (PATCHES_NO_PLAN), such as the folder.
    """
    if "monkeypatch" in request.fixturenames and not getattr(request.module, "PATCHES_NO_PLAN", False):
        yield
        return
    found = vars(request.module).setdefault("ANSWERS", {})
    with pytest.MonkeyPatch.context() as patches:
        for name, places in ASKED_ONCE.items():
            function = getattr(import_module(places[0]), name)
            for place in places:
                patches.setattr(f"{place}.{name}", remembering(function, found))
        yield


#: what `ask_once` remembers, and the modules it is called in
ASKED_ONCE = {
    "audit": ("kvplan.api.audit", "kvplan.cli.audit"),
    "capacity": ("kvplan.api.capacity", "kvplan.cli.load"),
    "fleet": ("kvplan.api.fleet",),
    "recommend": ("kvplan.api.recommend",),
}


def remembering(function: Callable[..., Any], found: dict[str, Any]) -> Callable[..., Any]:
    """Return a function that works out each answer once, and keeps it in `found`: by the question and its files."""
    known = signature(function)

    @wraps(function)
    def ask(*args: Any, **options: Any) -> Any:
        asked = known.bind(*args, **options)
        asked.apply_defaults()
        question = {name: value for name, value in asked.arguments.items() if name != "progress"}
        key = f"{function.__name__} {question!r} {held(question.values())!r}"
        if key not in found:
            found[key] = function(*args, **options)
        return found[key]

    ask.__kwdefaults__ = function.__kwdefaults__
    return ask


def held(values: Iterable[Any]) -> list[bytes | float]:
    """Return what the files hold that a question names; of what cannot be read, such as a folder, the time."""
    found: list[bytes | float] = []
    for value in values:
        if isinstance(value, list | tuple):
            found += held(value)
        elif isinstance(value, str | Path):
            try:
                found.append(Path(value).read_bytes())
            except (IsADirectoryError, PermissionError):
                found.append(time.time())
            except (OSError, ValueError):  # no file of that name
                continue
    return found


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a function that compares text with tests/golden/NAME.txt."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.write_text(text, "utf-8")
        assert path.is_file(), f"{path} is missing; run pytest --update-golden"
        assert text == path.read_text("utf-8")

    return compare
