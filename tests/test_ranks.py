"""All-reduce among two processes with gloo on this machine's CPU, and what becomes of them when one fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from kvplan.measuring import samples
from kvplan.measuring.device import machine as device
from kvplan.measuring.device.course import COLUMNS, Failed, line
from kvplan.measuring.device.ranks import KIND, Ranks, Together, all_reduce_probes, sizes


def gone(pids: list[int], within: float = 15.0) -> bool:
    """Return whether these processes end in time; a zombie has ended."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        states = [Path(f"/proc/{pid}/stat") for pid in pids]
        if not any(s.exists() and s.read_text().rsplit(")", 1)[1].split()[0] != "Z" for s in states):
            return True
        time.sleep(0.1)
    return False


def test_groups_are_powers_of_two_and_all() -> None:
    assert [sizes(n) for n in (2, 3, 4, 6, 8)] == [[2], [2, 3], [2, 4], [2, 4, 6], [2, 4, 8]]


@pytest.mark.slow
def test_two_processes_reduce_and_their_times_are_fitted() -> None:
    found = device.find("cpu", processes=2)
    pids = [process.pid for process in found.timer.ranks.processes]
    probes = [p for p in found.probes if p.kind == KIND]
    empty = dict.fromkeys(COLUMNS, "")
    taken = [{**empty, **line(found.timer, p, n, found.timer.sample(p))} for n in range(4) for p in probes]
    copied = next(p for p in found.probes if p.kind == "copy")
    assert found.timer.sample(copied).time > 0
    found.close()
    assert gone(pids, 1)
    assert found.facts["processes"] == "2"
    assert len(probes) == 15
    assert all(row["engine"].startswith("gloo-") for row in taken)
    fitted = samples.fit(taken, "minimum")["groups"]["all_reduce of 2"]
    assert fitted["residuals"]["rows"] == 15
    assert fitted["range"]["n_gpus"] == [2, 2]
    small, large = (
        min(float(row["latency_us"]) for row in taken if row["message_size"] == size) for size in ("256", "4194304")
    )
    assert large > 3 * small
    with pytest.raises(Failed):
        found.timer.sample(probes[0])


@pytest.mark.slow
def test_a_rank_that_hangs_or_dies_ends_all_of_them() -> None:
    probe = next(all_reduce_probes("gloo", "gloo", 2))
    for sent, said in ((signal.SIGSTOP, "did not answer"), (signal.SIGKILL, "ended")):
        ranks = Ranks("gloo", 2)
        ranks.meet()
        pids = [process.pid for process in ranks.processes]
        os.kill(pids[1], sent)
        begun = time.monotonic()
        with pytest.raises(Failed, match=said if sent == signal.SIGSTOP else "rank"):
            ranks.seconds(probe, 3, limit=1.0)
        assert time.monotonic() - begun < 8
        assert gone(pids, 1)
        ranks.close()


def test_ranks_that_were_lost_are_started_anew_for_the_next_shape() -> None:
    found = device.find("cpu", processes=2)
    probe = next(p for p in found.probes if p.kind == KIND)
    os.kill(found.timer.ranks.processes[1].pid, signal.SIGKILL)
    with pytest.raises(Failed, match="rank"):
        found.timer.sample(probe)
    assert found.timer.sample(probe).time > 0
    pids = [process.pid for process in found.timer.ranks.processes]
    found.close()
    assert gone(pids, 1)


def test_ranks_that_do_not_meet_leave_the_profile_without_all_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks.meet, "__defaults__", (0.05,))
    found = device.find("cpu", processes=2)
    assert "no all-reduce: all-reduce: rank 0 did not answer" in found.remark
    assert not isinstance(found.timer, Together)
    assert not any(p.kind == KIND for p in found.probes)


@pytest.mark.slow
def test_a_killed_parent_leaves_no_orphans() -> None:
    code = """
import time
from kvplan.measuring.device.ranks import Ranks
if __name__ == "__main__":
    ranks = Ranks("gloo", 2)
    ranks.meet()
    print(*(process.pid for process in ranks.processes), flush=True)
    time.sleep(60)
"""
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    pids = [int(word) for word in started.stdout.readline().split()]
    assert len(pids) == 2
    started.kill()
    started.wait(10)
    started.stdout.close()
    assert gone(pids)
