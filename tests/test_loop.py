"""Plan, launch, measure, calibrate, plan again: the page's commands, in its order, against a stub of a server."""

import json
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from load_client import fields, measure
from metric_pages import served
from stub_server import Stub, serving
from test_live import growing, kept

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "loop.md").read_text("utf-8")
#: of the stub: what plans expect is half of it [s]
STEP, FIRST = 0.02, 0.05


def block_commands() -> list[str]:
    """Return the commands of the page's code blocks, in order."""
    return [
        line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
    ]


def span_commands() -> list[str]:
    """Return the commands inside the page's sentences and tables."""
    return re.findall(r"`(kvplan [^`]+ [^`]+)`", PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


def off(row: dict[str, Any], name: str) -> float:
    """Return how far a predicted time of a row of `validate --json` is from the measured one."""
    return abs(row[name]["predicted"] / row[name]["measured"] - 1)


def steady(argv: list[str]) -> list[str]:
    """Return the exported command with its promised load alone, for as long as a window."""
    at = argv.index("--override")
    return [
        "kind=max_requests,count=110" if w.startswith("kind=max_requests") else w for w in argv[:at] + argv[at + 3 :]
    ]


@pytest.mark.slow
def test_the_loop_of_the_page_closes(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub is twice as slow as planned. Measured with the exported load and calibrated, it is told within 5 %."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("kvplan.catalog.metrics_range.PATH", "/metrics")
    stub, printed, left = Stub(ttft=FIRST, step=STEP), {}, block_commands()
    with serving(stub) as url, served(kept(("a:8000", growing))) as history:
        sender: threading.Thread | None = None
        for command in left:
            words = command.replace("http://localhost:8000", url).replace("localhost:8000", url)
            words = words.replace("localhost:9090", history.removesuffix("/metrics"))
            if " watch localhost" in command or " --metrics " in command:  # a load to look at
                sender = threading.Thread(target=measure, args=(steady(shlex.split(printed["load"])),))
                sender.start()
            asks = " validate " in command
            done = run(*shlex.split(words)[1:], *(["--json"] if asks else []))
            assert done.code == 0, (command, done.err)
            printed[command] = done.out
            if " export guidellm " in command:
                printed["load"] = re.sub(r"\\\n|^#.*$", "", done.out, flags=re.MULTILINE)
                argv = shlex.split(printed["load"])
                Path("benchmarks.json").write_text(json.dumps(measure(argv)), "utf-8")
            if sender is not None:
                sender.join(60)
                sender = None
    argv = shlex.split(printed["load"])
    assert (
        set(stub.lengths) == {(500, 30)} and len(stub.started) == 5 * 15 + 2 * 110
    )  # what the plan promises, nothing else
    full = stub.started[60:75]  # the last load is the promised one
    assert 14 / (full[-1] - full[0]) == pytest.approx(float(fields(argv, "--profile")["rate"]), rel=0.7)
    before, after = (json.loads(out)["rows"] for c, out in printed.items() if c.startswith("kvplan validate"))
    assert len(before) == len(after) == 5
    for row in before:  # the step that was given, as measured
        assert row["tpot"]["measured"] == pytest.approx(STEP, rel=0.05) and off(row, "tpot") > 0.2
    assert all(off(row, "tpot") < 0.05 for row in after)
    assert sum(off(row, "ttft") for row in after) < sum(off(row, "ttft") for row in before)
    plan, again = (json.loads(Path(f"{n}.json").read_text("utf-8"))["recommended"] for n in ("plan", "again"))
    assert plan["mean_tpot"] < STEP * 0.8 and again["mean_tpot"] > STEP * 0.95  # planned with what was measured
    assert Path("live.yaml").is_file() and Path("range.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("command", span_commands())
def test_other_commands_of_the_page_run(run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(folder)
    if not Path("plan.json").is_file():
        first = next(c for c in block_commands() if c.startswith("kvplan recommend"))
        assert run(*shlex.split(first)[1:]).code == 0
    assert run(*shlex.split(command)[1:]).code == 0
