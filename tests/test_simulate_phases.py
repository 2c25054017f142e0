"""Closed loops whose answers are all alike: how far the phases of their requests are apart."""

from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
from simulate_twin import One
from test_simulate import piece, rules, steps

import kvplan
from kvplan.perf.simulate import tally
from kvplan.perf.simulate.looks import among
from kvplan.perf.simulate.phases import parted, parting
from kvplan.perf.simulate.run import Piece, Simulation
from kvplan.perf.simulate.streams import extent
from kvplan.planning.simulating.simulate import after
from kvplan.report.simulate import stairs
from kvplan.specs.calibration import Calibration

ON = "2026-11-24"
WIDE = steps(chunk=4096)


def fitted(met: float, mixes: float = 1.0) -> Calibration:
    return SimpleNamespace(met=met, mixes=mixes, chunk=8192.0)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("met", "more", "steps"),
    [
        (0.3, {}, 64 / (64 / 512 + 0.1)),  # an eighth of all steps hold a prompt, a tenth of three more
        (0.0, {}, 512.0),  # no prompt but by chance: over the whole cycle
        (9.0, {}, 64.0),  # a prompt in every step: one by one
        (0.3, {"prompt": 10_000}, 128 / (128 / 512 + 0.1)),  # of two chunks each
        (0.3, {"spread": 0.05}, 0.75 * 64 / (64 / 512 + 0.1)),  # lengths do a quarter of it
        (0.3, {"spread": 0.2}, 0.0),  # and all of it
        (0.3, {"slots": 1.0}, 0.0),  # nobody to meet
        (9.0, {"slots": 2.0, "output": 400.0}, 2 / (2 / 400 + 1 / 3)),  # the only other one at most
        (9.0, {"slots": 600.0}, 512.0),
    ],
)
def test_requests_are_spread_until_as_many_prompts_are_met_as_the_fit_has(met, more, steps):
    asked = {"slots": 64.0, "prompt": 1024, "output": 512.0, "spread": 0.0, "poll": 2.5, **more}
    assert parting(fitted(met), **asked) == pytest.approx(steps)
    assert parting(fitted(met, mixes=0.0), **asked) == 0.0, "where decoding pauses all stay together"


def test_the_first_answers_alone_end_early_one_in_each_part_of_the_window_of_each_lane():
    pieces = [Piece(at=[0.0] * n, prompt=[10] * n, output=[50] * n) for n in (5, 30)]
    found = list(parted(pieces, 40.0, many=8, lanes=2, seed=3))
    output = np.concatenate([p.output for p in found])
    assert [len(p) for p in found] == [5, 30] and list(output[8:]) == [50] * 27
    early = 50 - output[:8]
    assert [sorted(early[lane::2] // 10) for lane in (0, 1)] == [[0, 1, 2, 3]] * 2
    assert list(pieces[0].output) == [50] * 5, "a trace kept for other simulations stays as it is"
    again = np.concatenate([p.output for p in parted(pieces, 40.0, many=8, lanes=2, seed=4)])
    assert list(again) != list(output)


def waits(met: float | None, poll: float = 2.0, n: int = 16, output: int = 200) -> float:
    """Return the mean prompts of others that requests of a closed loop wait for, after the first cycle."""
    r = rules(closed=1, poll=poll, chunk=4096, sizes=len(WIDE.grid))
    coming = piece([One(0.0, 100, output) for _ in range(n * 12)])
    window = parting(fitted(met), slots=n, prompt=100, output=output, spread=0.0, poll=poll) if met is not None else 0.0
    run = Simulation(rules=r, steps=WIDE, concurrency=n)
    took: list[float] = []
    for records, many in run.finished(parted([coming], window, many=n, lanes=1, seed=0)):
        took += [records.first[i] - records.came[i] for i in range(many) if records.name[i] >= 2 * n]
    step = WIDE.base[n] + WIDE.slope[n] * n * (100 + output / 2)
    prompt = 8e-5 * 100
    return (fmean(took) - (poll + 1.5) * step - prompt) / prompt


def test_a_replay_meets_about_as_many_prompts_of_others_as_the_fit_says():
    by_chance = 2.5 * 16 / 200
    assert waits(0.0) == pytest.approx(by_chance, abs=0.2), "apart in equal parts of a cycle: hardly ever"
    assert waits(1.0) == pytest.approx(by_chance + 1.0, abs=0.3)
    assert waits(9.0) == pytest.approx(2.5, abs=0.5), "in each of the steps that it waits, but those before the first"
    assert waits(None) > 12, "left alone, nearly all are read in one step for ever"


def test_an_extent_says_how_far_answers_differ():
    def uneven(*outputs: list[int]) -> float:
        return extent(Piece(at=[0.0] * len(o), prompt=[10] * len(o), output=o) for o in outputs).uneven

    assert uneven([7, 7, 7], [7]) == 0.0
    assert uneven(list(range(801, 901)), list(range(901, 1001))) == pytest.approx(200 / 900.5, rel=1e-3)


def test_a_trace_of_equal_answers_is_replayed_in_parted_phases_and_says_so(tmp_path: Path):
    path = tmp_path / "equal.csv"
    path.write_text("arrival,input,output\n" + "0,512,128\n" * 200)
    o = kvplan.simulate("llama3.1-8b", "h100", trace=str(path), concurrency=16, on=ON)
    c = o.outcome.asked.server.site.calibration
    known = parting(c, slots=16, prompt=512, output=128, spread=0.0, poll=float(c.poll))
    assert o.outcome.parted == pytest.approx(known) and known > 16
    assert o.outcome.rules.poll == pytest.approx(c.poll * 15 / 16)
    assert any("the first 16 answers end up to" in w for w in o.warnings)
    assert 200 * 128 - 16 * known < o.outcome.output_tokens < 200 * 128
    path.write_text("arrival,input,output\n" + "0,512,128\n0,512,64\n" * 100)
    assert kvplan.simulate("llama3.1-8b", "h100", trace=str(path), concurrency=16, on=ON).outcome.parted == 0.0
    path.write_text("arrival,input,output\n" + "0,512,128\n" * 20)
    assert kvplan.simulate("llama3.1-8b", "h100", trace=str(path), on=ON).outcome.parted == 0.0


@pytest.mark.parametrize(("slots", "steps"), [(1.0, 0.0), (2.0, 1.5), (4.0, 2.25), (30.0, 2.9), (0.5, 0.0)])
def test_a_closed_loop_waits_for_the_scheduler_as_often_as_another_runs(slots: float, steps: float) -> None:
    """Three steps, of which the one that arrives waits the share of the others among all in flight."""
    assert among(3.0, slots) == pytest.approx(steps)


@pytest.mark.parametrize(("more", "steps"), [({}, 1.0), ({"concurrency": 4}, 3 / 4), ({"concurrency": 1}, 0.0),
                                             ({"concurrency": 8, "replicas": 2}, 3 / 4)])  # fmt: skip
def test_a_replica_waits_so_in_a_closed_loop_only(tmp_path: Path, more: dict[str, int], steps: float) -> None:
    path = tmp_path / "equal.csv"
    path.write_text("arrival,input,output\n" + "0,512,128\n0,512,64\n" * 10)
    o = kvplan.simulate("llama3.1-8b", "h100", trace=str(path), on=ON, **more).outcome
    assert o.rules.poll == pytest.approx(steps * o.asked.server.site.calibration.poll)
    assert o.rules.closed == int(bool(more))


def test_the_time_series_of_a_closed_loop_lasts_as_long_as_it(tmp_path: Path):
    path = tmp_path / "equal.csv"
    path.write_text("arrival,input,output\n" + "0,512,128\n" * 200)
    for more in ({"concurrency": 16}, {"concurrency": 2, "replicas": 4}, {"concurrency": 200}):
        o = kvplan.simulate("llama3.1-8b", "h100", trace=str(path), on=ON, **more).outcome
        assert len(o.bins) >= 3 and o.bins[-1].start <= o.end < o.bins[-1].start + o.bins[-1].seconds
        assert (
            sum(b.came for b in o.bins) == 200
            and o.bins[-2].busy >= 0.95 * min(more["concurrency"], o.replicas) / o.replicas
        )
        assert max(b.queued for b in o.bins) <= more["concurrency"]
    assert o.parted == 0.0, "nobody comes after the first ones"


def test_who_waits_is_counted_in_each_minute_of_the_wait():
    counts = tally.tally(False, 4)
    tally.waited(counts, 60.0, 30.0, 150.0)
    tally.waited(counts, 60.0, 200.0, 1000.0)
    assert list(counts.waited) == [30.0, 60.0, 30.0, 40.0]


def test_replicas_that_come_and_go_are_told_from_the_end_of_the_warm_up_and_drawn_as_stairs():
    changes = ((0.0, 1), (300.0, 2), (720.0, 3))
    assert after(changes, 600.0) == ((0.0, 2), (120.0, 3))
    assert after(changes, 0.0) == changes
    drawn = stairs("replicas", after(changes, 600.0), 240.0)
    assert (drawn.x, drawn.y) == ((0.0, 2.0, 2.0, 4.0), (2.0, 2.0, 3.0, 3.0))
