"""Plan, launch, measure, calibrate, plan again: the page's commands, in its order, against a stub of a server."""

import json
import re
import shlex
import threading
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from load_client import fields, measure
from metric_pages import served
from stub_server import Stub, serving
from test_live import growing, kept

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "loop.md").read_text("utf-8")
#: of the stub: a step without a prompt, what a prompt of PROMPT tokens adds, and the host's time; plans expect half of
#: the first and of the last [s]
STEP, READ, HOST, PROMPT = 0.024, 0.005, 0.05, 500
#: requests that are sent at each of the LOADS: at the promised one for some four times as long as a request takes
SENT, LOADS = 100, 5
#: steps end so late on average where other work has the cores, which no fit can tell from the server's own time [s]
LATE, TRIES = 0.002, 3


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


def measured(argv: list[str], stub: Stub) -> tuple[dict[str, Any], int]:
    """Return what the exported load measures, and how often it was sent: again where the machine was too busy."""
    tries, late = 0, LATE
    while late >= LATE and tries < TRIES:
        begun, tries = len(stub.late), tries + 1
        result = measure(argv)
        late = fmean(stub.late[begun:])
    if late >= LATE:
        pytest.skip(f"other work has the cores: steps of the stub end {1e3 * late:.1f} ms late on average")
    return result, tries


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
    monkeypatch.setattr("kvplan.catalog.servers.metrics_range.PATH", "/metrics")
    stub, printed, left = Stub(host=HOST, step=STEP, prefill=READ / PROMPT), {}, block_commands()
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
                result, tries = measured(argv, stub)
                Path("benchmarks.json").write_text(json.dumps(result), "utf-8")
            if sender is not None:
                sender.join(60)
                sender = None
    argv = shlex.split(printed["load"])
    assert (
        set(stub.lengths) == {(PROMPT, 30)} and len(stub.started) == tries * LOADS * SENT + 2 * 110
    )  # what the plan promises, nothing else
    full = stub.started[(tries * LOADS - 1) * SENT : tries * LOADS * SENT]  # the last load is the promised one
    assert (SENT - 1) / (full[-1] - full[0]) == pytest.approx(float(fields(argv, "--profile")["rate"]), rel=0.3)
    before, after = (json.loads(out)["rows"] for c, out in printed.items() if c.startswith("kvplan validate"))
    assert len(before) == len(after) == LOADS
    for row in before:  # the times that were given, as measured, and what other prompts add to them
        assert STEP * 0.99 < row["tpot"]["measured"] < STEP + 1.5 * READ and off(row, "tpot") > 0.2
        assert HOST + STEP + READ < row["ttft"]["measured"] < HOST + 2.5 * STEP + 2 * READ
    assert off(before[0], "ttft") > 0.2
    assert all(off(row, time) < 0.05 for row in after for time in ("tpot", "ttft"))
    plan, again = (json.loads(Path(f"{n}.json").read_text("utf-8"))["recommended"] for n in ("plan", "again"))
    assert plan["mean_tpot"] < STEP * 0.8 and again["mean_tpot"] > STEP * 0.95  # planned with what was measured
    assert plan["mean_ttft"] < again["mean_ttft"] == pytest.approx(after[-1]["ttft"]["measured"], rel=0.15)
    assert Path("live.yaml").is_file() and Path("range.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("command", span_commands())
def test_other_commands_of_the_page_run(run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(folder)
    if not Path("plan.json").is_file():
        first = next(c for c in block_commands() if c.startswith("kvplan recommend"))
        assert run(*shlex.split(first)[1:]).code == 0
    assert run(*shlex.split(command)[1:]).code == 0
