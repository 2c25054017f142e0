"""Work that takes long says how far it is: to who calls, to who sits at a terminal, and now and then to a log."""

from collections.abc import Callable

import pytest

import kvplan
from kvplan.cli import waiting
from kvplan.report import progress

ON = "2026-11-24"
QUESTIONS: dict[str, Callable[..., object]] = {
    "NVIDIA A100": lambda hears: kvplan.recommend(
        "chat", "llama3.1-8b", gpus=["h100", "a100"], engine="any", techniques="fp8", on=ON, progress=hears
    ),
    "claim 2 of ": lambda hears: kvplan.audit(on=ON, progress=hears),
    "requests, 2 replicas": lambda hears: kvplan.simulate(
        "llama3.1-8b", "h100", workload="chat", rate=4, duration="1min", replicas=2, progress=hears
    ),
}


@pytest.mark.parametrize("words", QUESTIONS)
def test_who_asks_hears_how_far_the_answer_is(words: str) -> None:
    heard: list[tuple[float, str]] = []
    QUESTIONS[words](lambda share, text: heard.append((share, text)))
    shares = [share for share, _ in heard]
    assert any(words in text for _, text in heard) and all(0 <= share <= 1 for share in shares)
    assert shares[-1] > 0.5
    assert shares == sorted(shares)


def test_only_a_second_of_work_is_shown_and_only_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now, drawn = [0.0], []
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    with waiting.waiting() as report:
        assert report is None  # stderr of tests is no terminal
    monkeypatch.setattr(waiting.sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "shares", lambda say: drawn.append("begun") or _listening(drawn))
    with waiting.waiting() as report:
        assert report is not None
        report(0.1, "at once")
        now[0] = 0.9
        report(0.2, "before a second is over")
        assert drawn == []
        now[0] = 1.1
        report(0.5, "half")
        report(1.0, "whole")
    assert drawn == ["begun", (0.5, "half"), (1.0, "whole"), "ended"]


class _listening:
    """Stands for a bar."""

    def __init__(self, drawn: list[object]):
        self.drawn = drawn

    def __enter__(self) -> Callable[[float, str], None]:
        return lambda share, text: self.drawn.append((share, text))

    def __exit__(self, *_: object) -> None:
        self.drawn.append("ended")


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with waiting.waiting(said.append) as report:
        assert report is not None
        for now[0] in (0.0, 2.0, 20.0, 33.0, 40.0, 64.0):
            report(0.5, f"at {now[0]:g} s")
    assert said == ["at 33 s", "at 64 s"]


def test_what_is_told_is_told_to_something_that_can_be_called() -> None:
    with pytest.raises(kvplan.errors.KvplanError, match="progress"):
        kvplan.audit(on=ON, progress=3)  # type: ignore[arg-type]
