"""On a terminal: colour, plain text, the pager, the tour."""

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from kvplan.cli.tour import STOPS
from kvplan.report.blocks import Page, grid
from kvplan.report.formats import Report, Screen, render
from kvplan.report.formats.text import fitted

ESTIMATE = "estimate -m llama3.1-8b -c 8k -g h100 -t fp8 --on 2026-11-24"
#: characters of drawings: lines, blocks
DRAWN = re.compile("[\u2500-\u259f]")


def at_terminal(line: str, *, rows: int = 200, **settings: str) -> tuple[int, str]:
    """Run kvplan on a terminal of 90 columns; return its exit status and what it wrote there.

    A key is pressed whenever it waits for one.
    """
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (rows, 90))
    away = {"NO_COLOR", "COLUMNS", "LINES", "PAGER", "LESS", "KVPLAN_PAGER", "FORCE_COLOR"}
    environment = {k: v for k, v in os.environ.items() if k not in away} | {"TERM": "xterm-256color"} | settings
    command = [sys.executable, "-m", "kvplan", *shlex.split(line)]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    written, pressed = b"", 0
    try:
        while select.select([leader], [], [], 60)[0] and (part := os.read(leader, 65536)):
            written += part
            while pressed < written.count(b"any key"):
                time.sleep(0.1)  # what was typed before it waits is thrown away
                os.write(leader, b" ")
                pressed += 1
    except OSError:  # Linux says so where the other end is closed
        pass
    os.close(leader)
    return process.wait(60), written.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_colour_is_for_terminals_that_want_it() -> None:
    assert "\x1b[" in at_terminal(ESTIMATE, KVPLAN_PAGER="")[1]  # a pager may write escapes of its own
    for settings in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):  # a process each
        code, text = at_terminal(ESTIMATE, KVPLAN_PAGER="", **settings)
        assert code == 0 and "\x1b[" not in text and "Llama 3.1 8B" in text
    assert "\x1b[" in at_terminal(ESTIMATE, NO_COLOR="", KVPLAN_PAGER="")[1]  # an empty value is none
    assert "\x1b[" not in at_terminal(f"{ESTIMATE} --plain", KVPLAN_PAGER="")[1]


@pytest.mark.parametrize(
    "line", [ESTIMATE, "show profile h100-sxm --kernels gemm", "prices --own --gpu h100", "recommend -w chat "
             "-m llama3.1-8b -g h100 -t fp8 --on 2026-11-24"]
)  # fmt: skip
def test_plain_text_is_words_and_figures_alone(run, line: str) -> None:
    drawn, plain = run(*shlex.split(line)), run(*shlex.split(line), "--plain")
    assert DRAWN.search(drawn.out) and not DRAWN.search(plain.out)
    assert (plain.code, plain.err) == (drawn.code, drawn.err)
    figures = set(re.findall(r"[$\d][\d.,]*\d", drawn.out.split("┌")[0]))
    assert figures <= set(re.findall(r"[$\d][\d.,]*\d", plain.out))


#: a pager that says how it was called
PAGER = "sed -e s/^/paged:/"


def test_every_part_of_a_wide_table_but_the_first_says_that_it_goes_on() -> None:
    wide = grid("Figures", [f"heading {n:02} that is long" for n in range(8)], [["x"] * 8])
    text = render(Report(lambda: Page((wide,)), dict), "text", Screen(80))
    titles = [line for line in text.splitlines() if line.startswith("Figures")]
    assert titles == ["Figures", *["Figures (continued)"] * (len(titles) - 1)] and len(titles) > 2


@pytest.mark.slow
def test_what_is_longer_than_the_screen_goes_through_the_pager() -> None:
    code, text = at_terminal(ESTIMATE, rows=12, KVPLAN_PAGER=PAGER)
    assert code == 0 and all(line.startswith("paged:") for line in text.splitlines())
    assert at_terminal(ESTIMATE, rows=12, PAGER=PAGER)[1] == text
    whole = at_terminal(ESTIMATE, rows=200, KVPLAN_PAGER=PAGER)[1]
    plain = re.sub("\x1b\\[[\\d;]*m", "", whole)
    assert "paged:" not in plain and plain == re.sub("\x1b\\[[\\d;]*m|^paged:", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("more", "settings"),
    [(" --no-pager", {}), ("", {"KVPLAN_PAGER": ""}), (" --json", {}), (" --format md", {})],
)  # fmt: skip
def test_a_pager_can_be_turned_off_and_is_for_text_alone(more: str, settings: dict[str, str]) -> None:
    code, text = at_terminal(f"{ESTIMATE}{more}", rows=12, **({"KVPLAN_PAGER": PAGER} | settings))
    assert code == 0 and text and "paged:" not in text


def test_a_refusal_comes_after_the_pager_with_its_status() -> None:
    code, text = at_terminal("memory -m llama3.1-70b -c 8k -g h100", rows=5, KVPLAN_PAGER=PAGER)
    assert code == 1 and text.splitlines()[-1].startswith("kvplan: ") and "paged:" in text


# -- the tour -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tour_says_what_its_commands_say(run) -> None:
    piped = run("tour")
    assert "any key" not in piped.out and piped.out.count("$ kvplan ") == 5 and piped.err == ""
    out = piped.out
    for stop in STOPS:
        whole = " ".join(run(*shlex.split(stop.line)).out.split())
        assert f"$ kvplan {stop.line}" in " ".join(out.split())
        answer = whole.partition(". ")[0]
        assert answer in " ".join(out.split()), stop.line
    assert len(STOPS) == 5 and len(out.splitlines()) < 110
    assert all(sentence.endswith((".", "?")) for s in STOPS for sentence in (s.title, s.why, s.then))


@pytest.mark.slow
def test_the_tour_waits_for_keys_on_a_terminal_alone() -> None:
    code, text = at_terminal("tour --plain", rows=200)
    assert code == 0 and text.count("any key") == 4 and text.count("$ kvplan ") == 5
    assert "one --\n\n2 of 5." in text and "\n\nThat was the tour" in text
    assert text.index("1 of 5.") < text.index("any key") < text.index("2 of 5.") and "That was the tour" in text


@pytest.mark.slow
def test_no_stop_of_the_tour_goes_through_a_pager_which_would_take_the_keys() -> None:
    code, text = at_terminal("tour", rows=5, KVPLAN_PAGER=PAGER)
    assert code == 0 and "paged:" not in text and text.count("any key") == 4 and "That was the tour" in text


def test_the_documentation_says_how_to_complete_in_every_shell() -> None:
    page = (Path(__file__).parent.parent / "docs" / "terminal.md").read_text("utf-8")
    for shell in ("bash", "zsh", "fish"):
        assert f"_KVPLAN_COMPLETE={shell}_source" in page


@pytest.mark.parametrize(
    ("width", "parts"),
    [
        (49, [["GPU", "first", "second", "third", "kept"]]),
        (48, [["GPU", "first", "second"], ["GPU", "third", "kept"]]),
        (39, [["GPU", "first", "second"], ["GPU", "third", "kept"]]),
        (21, [["GPU", "first"], ["GPU", "second"], ["GPU", "third"], ["GPU", "kept"]]),
        (5, [["GPU", "first"], ["GPU", "second"], ["GPU", "third"], ["GPU", "kept"]]),
    ],
)
def test_a_table_too_wide_goes_on_in_parts_of_which_none_is_left_one_column(width: int, parts: list[list[str]]) -> None:
    cells = ("h100", *("1" * n for n in (9, 9, 12, 7)))
    table = grid("T", ["GPU", "first", "second", "third", "kept"], [cells])
    found = fitted(table, width)
    assert [[h.text for h in part.headings] for part, _ in found] == parts
    assert [part.title for part, _ in found] == ["T", *["T (continued)"] * (len(parts) - 1)]
