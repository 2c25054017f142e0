"""All-reduce among two processes with gloo on this machine's CPU, and what becomes of them when one fails."""

import os
import signal
import subprocess
from math import inf

import processes
import pytest
from processes import PATIENCE, gone, until

pytest.importorskip("torch")

from kvplan.measuring import samples
from kvplan.measuring.device import machine as device
from kvplan.measuring.device import ranks
from kvplan.measuring.device.course import COLUMNS, Failed, line
from kvplan.measuring.device.ranks import KIND, Ranks, Together, all_reduce_probes, sizes


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks.meet, "__defaults__", (PATIENCE,))


def test_groups_are_powers_of_two_and_all() -> None:
    assert [sizes(n) for n in (2, 3, 4, 6, 8)] == [[2], [2, 3], [2, 4], [2, 4, 6], [2, 4, 8]]


@pytest.mark.slow
def test_two_processes_reduce_and_their_times_are_fitted() -> None:
    found = device.find("cpu", processes=2)
    pids = [process.pid for process in found.timer.ranks.processes]
    probes = [p for p in found.probes if p.kind == KIND]
    empty = dict.fromkeys(COLUMNS, "")
    taken = [{**empty, **line(found.timer, p, n, found.timer.sample(p))} for n in range(4) for p in probes]
    small, large = (next(p for p in probes if p.sizes["message_size"] == size) for size in (2**8, 2**22))
    least = {small: inf, large: inf}

    def told_apart() -> bool:  # others on the machine only add to a time
        for probe in least:
            least[probe] = min(least[probe], found.timer.sample(probe).time)
        return least[large] > 3 * least[small]

    assert until(told_apart), least.values()
    copied = next(p for p in found.probes if p.kind == "copy")
    assert found.timer.sample(copied).time > 0
    found.close()
    assert gone(pids)
    assert found.facts["processes"] == "2"
    assert len(probes) == 15
    assert all(row["engine"].startswith("gloo-") for row in taken)
    fitted = samples.fit(taken, "minimum")["groups"]["all_reduce of 2"]
    assert fitted["residuals"]["rows"] == 15
    assert fitted["range"]["n_gpus"] == [2, 2]
    with pytest.raises(Failed):
        found.timer.sample(probes[0])


@pytest.mark.slow
def test_a_rank_that_hangs_or_dies_ends_all_of_them() -> None:
    probe = next(all_reduce_probes("gloo", "gloo", 2))
    for sent, said in ((signal.SIGSTOP, "rank 0 did not answer"), (signal.SIGKILL, r"rank \d ")):
        two = Ranks("gloo", 2)
        two.meet()
        pids = [process.pid for process in two.processes]
        os.kill(pids[1], sent)
        with pytest.raises(Failed, match=said):
            two.seconds(probe, 3, limit=1.0)
        assert gone(pids)
        two.close()


@pytest.mark.slow
def test_ranks_that_were_lost_are_started_anew_for_the_next_shape() -> None:
    found = device.find("cpu", processes=2)
    probe = next(p for p in found.probes if p.kind == KIND)
    last = found.timer.ranks.processes[1].pid
    os.kill(last, signal.SIGKILL)
    assert gone([last])
    with pytest.raises(Failed, match=r"all-reduce: rank \d "):
        found.timer.sample(probe)
    assert found.timer.sample(probe).time > 0
    pids = [process.pid for process in found.timer.ranks.processes]
    found.close()
    assert gone(pids)


def test_ranks_that_do_not_meet_leave_the_profile_without_all_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "serve", processes.silent)
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
    ranks.meet(180)
    print(*(process.pid for process in ranks.processes), flush=True)
    time.sleep(3600)
"""
    with processes.python("-c", code, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        pids = started.stdout.readline().split()
        assert len(pids) == 2 and all(map(processes.running, pids))
    assert gone(pids)
