"""The simulation: leaps are equal to single steps and to a slow twin, to queueing theory, and lose nothing."""

import random
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate_twin import One, Replica

from kvplan.perf.simulate import buckets, state
from kvplan.perf.simulate.looks import remembered
from kvplan.perf.simulate.run import Event, Piece, Simulation
from kvplan.perf.simulate.state import NONE, Ruleset
from kvplan.perf.simulate.tables import CELL, TOKENS, Shelf, StepTable

#: step times that are simple to follow: 5 ms, 60 us a sequence, 10 ns a token of context, 80 us a token of a prompt
MOST, CHUNK, LONGEST = 64, 512, 40_000


def steps(most: int = MOST, chunk: int = CHUNK, pairs: float = 2e-9, context: float = 1e-7) -> StepTable:
    grid = (*(n for n in TOKENS if n < chunk), chunk)
    return StepTable(
        base=tuple(5e-3 + 6e-5 * n for n in range(most + 1)),
        slope=tuple(context * (1 + 1e-3 * n) for n in range(most + 1)),
        more=tuple(8e-5 * t * (1 + 1e-4 * n) for n in range(most + 1) for t in grid),
        grid=grid,
        attention=tuple(pairs * (CELL * i) ** 2 / 2 for i in range(LONGEST // CELL + 3)),
        error=0.0,
    )


STEPS = steps()


def rules(**more: object) -> Ruleset:
    usual: dict[str, object] = {
        "lanes": 1, "readers": 0, "chunk": CHUNK, "most": MOST, "mixed": 1, "leaping": 1, "closed": 0, "router": 0,
        "room": 10_000, "unit": 16, "weight": 1, "fixed": 0, "share": 1.0, "cap": 1 << 40, "hold_unit": 16,
        "hold_weight": 1, "reserving": 0, "sharing": 0, "width": 1, "priorities": 0,
        "overhead": 0.0, "occupied": 0.0, "poll": 0.0, "interval": 1, "transfer": 0.0, "tiers": 0, "reload": 0.0,
        "cell": CELL, "sizes": len(STEPS.grid), "bin": 60.0, "bins": 8,
    }  # fmt: skip
    more.setdefault("looks", remembered(more.get("poll", 0.0), more.get("interval", 1)))
    return Ruleset(**{**usual, **more})  # type: ignore[arg-type]


def piece(coming: list[One]) -> Piece:
    chains = [o.chain for o in coming]
    ends = [0]
    for c in chains:
        ends.append(ends[-1] + len(c))
    return Piece(
        at=[o.at for o in coming], prompt=[o.prompt for o in coming], output=[o.output for o in coming],
        rank=[o.rank for o in coming], start=ends, keys=[k for c in chains for k, _ in c],
        tokens=[t for c in chains for _, t in c],
    )  # fmt: skip


def served(
    r: Ruleset, coming: list[One], s: StepTable = STEPS, size: int | None = None, **more
) -> tuple[dict, Simulation]:
    """Return what became of every request, by number, and the simulation at its end."""
    run = Simulation(rules=r, steps=s, **more)
    whole = [coming] if size is None else [coming[i : i + size] for i in range(0, len(coming), size)]
    found: dict[int, tuple[float, ...]] = {}
    for records, n in run.finished(map(piece, whole)):
        for i in range(n):
            assert records.name[i] not in found, "a request ends once"
            found[int(records.name[i])] = tuple(
                float(getattr(records, f)[i])
                for f in ("first", "end", "hits", "again", "lane", "admitted", "refused", "came")
            )
    return found, run


def drawn(seed: int, n: int, rate: float, prompt: int = 1500, output: int = 60, ranks: int = 1) -> list[One]:
    rng, at, coming = random.Random(seed), 0.0, []
    for _ in range(n):
        at += rng.expovariate(rate)
        coming.append(One(at, rng.randint(1, prompt), rng.randint(1, output), rank=rng.randrange(ranks)))
    return coming


def chained(seed: int, n: int, rate: float, contents: int = 12) -> list[One]:
    """Requests with chains of prefix blocks of uneven sizes, some contents asked often."""
    rng, coming = random.Random(seed), drawn(seed, n, rate, output=30)
    for o in coming:
        topic, ends, at, key = min(rng.randrange(contents), rng.randrange(contents)), [], 0, 7
        for i in range(rng.randint(0, 5)):
            at += 40 + 37 * (topic + i)
            if at > o.prompt:
                break
            key = key * 1000 + topic + 1
            ends.append((key, at))
        o.chain = ends
    return coming


def twin(r: Ruleset, coming: list[One], s: StepTable = STEPS, tiers: tuple[tuple[int, float], ...] = ()) -> Replica:
    return Replica(
        s,
        r.chunk,
        r.most,
        r.room,
        r.unit,
        bool(r.mixed),
        bool(r.sharing),
        r.overhead,
        r.poll,
        bool(r.reserving),
        r.occupied,
        r.interval,
        tiers,
    )


#: blocks and seconds a token of two tiers: the first holds a few prefixes, the second all of them
TIERS = ((90, 1e-5), (2_000, 2e-5))
SETTINGS = {
    "easy": {},
    "tight": {"room": 220},
    "few slots": {"most": 5},
    "paused": {"mixed": 0, "room": 300},
    "late": {"overhead": 0.02, "poll": 2.5, "room": 250},
    "seldom": {"overhead": 0.02, "poll": 1.5, "interval": 7, "room": 250},
    "seldom and at once": {"mixed": 0, "interval": 4, "room": 300},
    "in one process": {"mixed": 0, "overhead": 0.02, "occupied": 0.01, "room": 250},
    "prefixes": {"sharing": 1, "width": 5, "room": 260},
    "one tier": {"sharing": 1, "width": 5, "room": 260, "tiers": 1},
    "two tiers": {"sharing": 1, "width": 5, "room": 230, "tiers": 2, "overhead": 0.01, "poll": 1.5},
    "reserving": {"reserving": 1, "room": 220},
    "reserving prefixes": {"reserving": 1, "sharing": 1, "width": 5, "room": 260},
    "priorities": {"priorities": 1, "room": 240},
    "wide blocks": {"unit": 64, "hold_unit": 64, "room": 60},
}


@pytest.mark.parametrize("named", SETTINGS)
def test_leaps_are_equal_to_single_steps_and_to_the_twin(named: str) -> None:
    r = rules(**SETTINGS[named])
    for seed in range(3):
        coming = chained(seed, 150, 6.0) if r.sharing else drawn(seed, 150, 9.0, ranks=1 + r.priorities)
        tiers = TIERS[: r.tiers]
        shelves = tuple(Shelf(name="", room=room, seconds=each, common=False) for room, each in tiers)
        leaps, run = served(r, coming, tiers=shelves)
        single, _ = served(r._replace(leaping=0), coming, tiers=shelves)
        slow = twin(r, coming, tiers=tiers)
        ends = slow.run(coming)
        assert len(ends) == len(leaps) == len(single) == 150
        for i, o in enumerate(coming):
            assert leaps[i][:2] == pytest.approx((o.first, o.end), rel=1e-9, abs=1e-9), i
            assert leaps[i][:2] == pytest.approx(single[i][:2], rel=1e-9, abs=1e-9)
            assert leaps[i][3] == o.again and leaps[i][2] == o.hit
        assert run.fleet.count[state.PREEMPTED] == slow.preemptions
        assert (run.fleet.count[state.FETCHED] > 0) == bool(tiers)
        assert run.fleet.count[state.LEAPS] < run.fleet.count[state.STEPS]
        if r.room < 10_000 and named != "wide blocks":
            assert slow.preemptions > 0 or r.sharing or r.reserving
            assert not (r.reserving and slow.preemptions)


def test_steps_that_reach_a_moment_are_the_fewest_and_one_at_least() -> None:
    """Of 10, 11, 12 ... ms three take 33 and twenty 390 ms; a plan of no step would go nowhere."""
    from kvplan.perf.simulate.routing import reaching

    lanes, tables = SimpleNamespace(writing=[2], each=[0.010]), SimpleNamespace(slope=[0.0, 0.0, 0.0005])
    reached = [reaching(lanes, tables, 0, seconds) for seconds in (-1.0, 0.0, 0.010, 0.0329, 0.0331, 0.3901)]
    assert reached == [1, 1, 1, 3, 4, 21]
    alike = SimpleNamespace(slope=[0.0, 0.0, 0.0])
    assert [reaching(lanes, alike, 0, seconds) for seconds in (-1.0, 0.0, 0.0299, 0.0301)] == [1, 1, 3, 4]


def test_what_a_leap_has_evicted_so_far_is_looked_for_in_a_tier() -> None:
    """A prefix of 160 tokens that another's answer evicted comes from the tier to who asks for it in that leap."""
    coming = [
        One(0.0, 161, 2, [(1, 160)]),  # its prefix stays: 10 blocks of 20
        One(1.0, 96, 200),  # takes the last free ones after 64 tokens, and goes on
        One(2.0, 161, 2, [(1, 160)]),
    ]
    r = rules(room=20, sharing=1, tiers=1)
    shelf = Shelf(name="", room=20, seconds=1e-3, common=False)
    leaps, run = served(r, coming, tiers=(shelf,))
    single, _ = served(r._replace(leaping=0), coming, tiers=(shelf,))
    assert [leaps[i][:4] for i in range(3)] == [pytest.approx(single[i][:4], rel=1e-9) for i in range(3)]
    assert run.fleet.count[state.FETCHED] == 160


@pytest.mark.parametrize("leaping", [0, 1])
def test_what_a_failure_sends_elsewhere_comes_over_the_link_from_then_on(leaping: int) -> None:
    """Not from the last event on, which in a leap is long ago: 160 tokens take 0.16 s after the failure at 2 s."""
    coming = [One(0.0, 17, 2), One(0.5, 161, 2, [(1, 160)]), One(0.9, 17, 900), One(1.0, 161, 400, [(1, 160)])]
    r = rules(lanes=2, sharing=1, tiers=1, leaping=leaping)
    shelf = Shelf(name="", room=20, seconds=1e-3, common=True)
    events = (Event(at=2.0, lanes=(1,), kind="fail"),)
    found, run = served(r, coming, tiers=(shelf,), events=events)
    assert found[3][4] == 0 and run.lanes.link[0] == pytest.approx(2.16)


def test_a_leap_counts_in_every_bin_that_it_passes() -> None:
    coming = [
        One(at=0.0, prompt=500, output=3000),
        One(at=0.1, prompt=200, output=2500),
        One(at=90.0, prompt=9, output=9),
    ]
    r = rules(bin=2.0, bins=60)
    (_, leaps), (_, single) = served(r, coming), served(r._replace(leaping=0), coming)
    assert max(leaps.fleet.worked) <= r.bin * (1 + 1e-9)
    assert sum(leaps.fleet.worked) == pytest.approx(sum(leaps.lanes.busy), rel=1e-9)
    assert list(leaps.fleet.worked) == pytest.approx(list(single.fleet.worked), rel=1e-9, abs=1e-9)
    assert list(leaps.fleet.used) == pytest.approx(list(single.fleet.used), rel=0.05, abs=2.0)


# -- theory -----------------------------------------------------------------------------------------


def lindley(came: list[float], service: list[float]) -> list[float]:
    """Return when each customer of a queue of one server leaves (Lindley, 1952)."""
    now, ends = 0.0, []
    for at, takes in zip(came, service, strict=True):
        now = max(now, at) + takes
        ends.append(now)
    return ends


@pytest.mark.parametrize("law", ["M/D/1", "M/G/1"])
def test_one_sequence_at_a_time_is_a_queue_of_one_server(law: str) -> None:
    r, s = rules(most=1), steps(most=1)
    coming = drawn(3, 400, 4.0, prompt=700, output=40)
    if law == "M/D/1":
        for o in coming:
            o.prompt, o.output = 400, 30
    alone = Replica(s, CHUNK, 1, 10_000)
    service = [alone.run([One(0.0, o.prompt, o.output)])[0].end for o in coming]
    assert all(x is not None for x in service)
    found, _ = served(r, coming, s)
    expected = lindley([o.at for o in coming], service)  # type: ignore[arg-type]
    assert [found[i][1] for i in range(400)] == pytest.approx(expected, rel=1e-12)
    waits = [found[i][5] - found[i][7] for i in range(400)]
    assert max(waits) > 0.5 and waits.count(0.0) > 20, "the queue was both empty and long"


@pytest.mark.parametrize("mixed", [0, 1])
def test_a_request_waits_for_the_scheduler_through_prompts_of_others(mixed: int) -> None:
    """The third comes in the step before the second's prompt is read, and is seen a whole step after its own."""
    r = rules(mixed=mixed, poll=1.0, chunk=2048)
    coming = [One(0.0, 100, 3000), One(1.0, 1000, 2)]
    found, _ = served(r, coming)
    begun, read = found[1][5], found[1][0]
    coming.append(One(begun - 1e-4, 10, 2))
    seen = served(r, coming)[0][2][5]
    assert read - begun > 2 * (STEPS.base[2] + STEPS.slope[2] * 1200), "the prompt's step is a long one"
    assert seen == read


def test_a_scheduler_that_looks_every_ten_steps_takes_up_together_what_came_between() -> None:
    """They come in steps 11, 14 and 19, and 21, of one that looks after its 20th and 30th; poll: a step later."""
    step = [STEPS.base[1] + STEPS.slope[1] * (100 + i) for i in range(60)]
    alone, _ = served(rules(), [One(0.0, 100, 60)])
    begun = alone[0][0]  # the first step's end
    after = lambda n: begun + sum(step[: n - 1])  # noqa: E731
    coming = [One(0.0, 100, 60), *(One(after(n) - step[n - 2] / 2, 10, 40) for n in (11, 14, 19, 21))]
    for poll, late in ((0.0, 0), (1.0, 1)):
        found, _ = served(rules(interval=10, poll=poll), coming)
        seen = [found[i][5] for i in range(1, 5)]
        assert seen[:3] == pytest.approx([after(20 + late)] * 3) and seen[3] > seen[0]


def test_a_closed_loop_sends_at_any_moment_of_a_step() -> None:
    """Of lengths all alike those that start together do not come together for ever, where another keeps steps going."""
    coming = [One(0.0, 50, 900), *(One(0.0, 50, 40) for _ in range(150))]
    found, _ = served(rules(closed=1, poll=0.5), coming, concurrency=8)
    came = sorted(x[7] for x in found.values())
    assert came[:8] == [0.0] * 8 and len(set(came[8:])) == len(came) - 8
    ends = sorted(x[1] for x in found.values())
    late = [min(c - e for e in ends if e <= c) for c in came[8:]]
    assert 0.0 < max(late) < STEPS.base[8] + STEPS.slope[8] * 2000 + STEPS.more[8 * len(STEPS.grid) + 5]


# -- conservation -----------------------------------------------------------------------------------


#: tiers of a few prefixes each, the second one of all lanes
SHELVES = (
    Shelf(name="own", room=60, seconds=1e-5, common=False),
    Shelf(name="all", room=90, seconds=2e-5, common=True),
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Ruleset, list[One], tuple[Event, ...], int]:
    """Return rules of several lanes, requests, failures of a lane, and the size of a piece of the stream."""
    lanes, seed = draw(st.integers(1, 5)), draw(st.integers(0, 10_000))
    readers = draw(st.integers(0, lanes - 1))
    sharing, many = draw(st.booleans()), draw(st.integers(1, 60))
    r = rules(
        lanes=lanes, readers=readers, router=draw(st.integers(0, 2)), sharing=int(sharing), width=5,
        reserving=draw(st.integers(0, 1)),
        mixed=draw(st.integers(0, 1)), leaping=draw(st.integers(0, 1)), room=draw(st.integers(110, 400)),
        most=draw(st.integers(1, 20)), priorities=draw(st.integers(0, 1)), poll=draw(st.sampled_from([0.0, 1.5])),
        overhead=draw(st.sampled_from([0.0, 0.01])), transfer=1e-5, closed=draw(st.integers(0, 1)),
        interval=draw(st.sampled_from([1, 4])),
        tiers=draw(st.integers(0, 2)) * sharing, reload=draw(st.sampled_from([0.0, 1e-5])),
    )  # fmt: skip
    coming = chained(seed, many, draw(st.sampled_from([1.0, 8.0, 100.0])))
    if r.priorities:
        for i, o in enumerate(coming):
            o.rank = i % 3
    events: tuple[Event, ...] = ()
    if readers == 0 and lanes > 1 and draw(st.booleans()):
        at = draw(st.floats(0.0, 20.0))
        events = (Event(at=at, lanes=(0,), kind="fail"), Event(at=at + 3.0, lanes=(0,), kind="open"))
    return r, coming, events, draw(st.sampled_from([1, 7, 100]))


@settings(max_examples=80, deadline=None)
@given(fleets())
def test_nothing_is_lost_and_memory_is_never_exceeded(case) -> None:
    r, coming, events, size = case
    found, run = served(r, coming, size=size, events=events, concurrency=6, tiers=SHELVES[: r.tiers])
    assert sorted(found) == list(range(len(coming)))
    gone = {i for i, x in found.items() if x[6]}
    for i, o in enumerate(coming):
        first, end, hits, _, lane, begun, refused, at = found[i]
        if refused:
            assert (max(o.prompt, o.prompt + o.output - 1) + 15) // 16 > r.room
            continue
        assert at <= begun < first <= end and 0 <= hits < o.prompt
        assert lane >= r.readers or o.output == 1
        assert (end > first) == (o.output > 1) or (lane >= r.readers > 0)
    lanes, fleet = run.lanes, run.fleet
    assert len(gone) == fleet.count[state.REFUSED]
    assert fleet.count[state.INSIDE] == 0 and list(lanes.load) == [0] * r.lanes
    for lane in range(r.lanes):
        assert lanes.free[lane] + lanes.idle[lane] == r.room, "no block leaks"
        assert 0 <= lanes.peak[lane] <= r.room
        assert lanes.running[lane] == lanes.reading[lane] == lanes.writing[lane] == lanes.context[lane] == 0
        assert lanes.head[lane] == lanes.last[lane] == NONE and lanes.end[lane] == state.NEVER
    for t, tier in enumerate(SHELVES[: r.tiers]):
        for s in range(r.lanes * (t + 1), r.lanes * (t + 2)):
            assert 0 <= lanes.free[s] == tier.room - lanes.idle[s]
    assert not any(lanes.residues) and not any(run.cache.users[i] > 0 for i in cached(run))
    inside = sum(run.cache.blocks[i] for i in cached(run))
    assert inside == sum(lanes.idle)
    assert sum(1 for i in run.cache.table if i != NONE) == len(cached(run))
    assert fleet.count[state.SLOTS] == len(run.requests.name)


def cached(run: Simulation) -> list[int]:
    """Return the items of all prefix caches."""
    spare = {run.cache.spare[i] for i in range(run.fleet.count[state.ITEMS])}
    return [i for i in range(len(run.cache.spare)) if i not in spare]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 3.0, 12.0]), st.sampled_from([130, 10_000]), st.integers(0, 1))
def test_a_lane_works_while_anyone_is_there(seed: int, rate: float, room: int, mixed: int) -> None:
    coming = drawn(seed, 50, rate)
    found, run = served(rules(room=room, mixed=mixed), coming)
    spans = sorted((coming[i].at, x[1]) for i, x in found.items())
    busy, until = 0.0, 0.0
    for start, end in spans:
        busy += max(end - max(start, until), 0.0)
        until = max(until, end)
    assert run.lanes.busy[0] == pytest.approx(busy, rel=1e-9)
    assert sum(run.fleet.worked) == pytest.approx(busy, rel=1e-9)
    gaps = sum(run.fleet.gaps)
    more = sum(o.output - 1 for o in coming)
    assert more - run.fleet.count[state.PREEMPTED] <= gaps <= more


def test_requests_that_are_sent_away_are_those_that_fit_no_memory() -> None:
    coming = [One(0.0, 100, 10), One(0.1, 3000, 10), One(0.2, 100, 3000), One(0.3, 64, 1)]
    found, _ = served(rules(room=100), coming)
    assert [found[i][6] for i in range(4)] == [0, 1, 1, 0]


def test_slots_grow_when_requests_pile_up() -> None:
    coming = [One(1e-6 * i, 20, 3) for i in range(3000)]
    found, run = served(rules(), coming)
    assert len(found) == 3000 and len(run.requests.name) == 4096


def test_memory_does_not_grow_with_the_trace() -> None:
    sizes = []
    for n in (1500, 6000):
        run = Simulation(rules=rules(), steps=STEPS)
        many = sum(m for _, m in run.finished(piece(drawn(7, n, 3.0)[i : i + 500]) for i in range(0, n, 500)))
        sizes.append((len(run.requests.name), len(run.records.name), len(run.fleet.gaps), len(run.lanes.prompts)))
        assert many == n
    assert sizes[0] == sizes[1]


def test_routers_send_where_they_say() -> None:
    coming = [One(0.01 * i, 100, 200, chain=[(i % 3 + 1, 96)]) for i in range(12)]
    turns, _ = served(rules(lanes=3), coming)
    assert [turns[i][4] for i in range(6)] == [0, 1, 2, 0, 1, 2]
    aware, _ = served(rules(lanes=4, router=state.PREFIX_AWARE, sharing=1, width=1), coming)
    homes = [{aware[i][4] for i in range(k, 12, 3)} for k in range(3)]
    assert all(len(h) == 1 for h in homes) and len(set.union(*homes)) == 3
    assert [aware[i][2] for i in range(12)] == [0.0] * 3 + [96.0] * 9 or sum(aware[i][2] for i in range(12)) > 0
    long = [One(0.0, 400, 400), One(0.001, 16, 2), One(0.5, 16, 2), One(0.8, 16, 2)]
    least, _ = served(rules(lanes=2, router=state.LEAST_LOADED), long)
    assert [least[i][4] for i in range(4)] == [0, 1, 1, 1]


def test_a_random_router_draws_lanes_like_a_die_and_keeps_what_shares_a_prefix_together() -> None:
    """Requests on 16 lanes: chi squared of the counts, and of 10 in a row a lane has as many as a Poisson stream."""
    coming = [One(0.001 * i, 10, 1) for i in range(8000)]
    lanes = [x[4] for _, x in sorted(served(rules(lanes=16, router=state.RANDOM), coming)[0].items())]
    counts = [lanes.count(lane) for lane in range(16)]
    assert 3 < sum((n - 500) ** 2 / 500 for n in counts) < 40
    rows = [lanes[i : i + 160].count(0) for i in range(0, 8000, 160)]
    assert sum((n - 10) ** 2 for n in rows) / len(rows) == pytest.approx(10 * 15 / 16, rel=0.5)
    mine = [One(0.01 * i, 100, 2, chain=[(1, 16), (i % 40 + 2, 64)]) for i in range(400)]
    found, _ = served(rules(lanes=8, router=state.RANDOM, sharing=1, width=2), mine)
    homes = [{found[i][4] for i in range(k, 400, 40)} for k in range(40)]
    assert all(len(home) == 1 for home in homes) and len(set.union(*homes)) == 8
    apart = [One(0.01 * i, 100, 2, chain=[(1, 16)]) for i in range(100)]
    found, _ = served(rules(lanes=8, router=state.RANDOM, sharing=1, width=2), apart)
    assert len({found[i][4] for i in range(100)}) == 8, "what all share binds nobody"


def test_a_failed_lane_s_requests_begin_again_elsewhere() -> None:
    coming = [One(0.0, 300, 100), One(0.0, 300, 100)]
    whole, _ = served(rules(lanes=2), coming)
    broken, _ = served(rules(lanes=2), coming, events=(Event(at=0.4, lanes=(0,), kind="fail"),))
    assert [broken[i][4] for i in range(2)] == [1, 1]
    assert broken[0][0] > 0.4 > whole[0][0] and broken[1][1] > whole[1][1]


@pytest.mark.parametrize(("kind", "found"), [("open", 160), ("start", 0)])
def test_a_replica_that_is_started_anew_has_an_empty_cache(kind: str, found: int) -> None:
    coming = [One(0.0, 161, 2, [(1, 160)]), One(5.0, 161, 2, [(1, 160)])]
    events = tuple(Event(at=at, lanes=(0,), kind=done) for at, done in ((1.0, "shut"), (2.0, kind)))
    hits, run = served(rules(sharing=1, router=1), coming, events=events)
    assert hits[1][2] == found and run.lanes.free[0] + run.lanes.idle[0] == run.rules.room


def test_disaggregated_lanes_hand_a_prompt_over() -> None:
    coming = [One(0.0, 1000, 50), One(0.2, 200, 1)]
    found, _ = served(rules(lanes=2, readers=1, transfer=1e-4), coming)
    alone = Replica(STEPS, CHUNK, MOST, 10_000).run([One(0.0, 1000, 1)])[0]
    assert found[0][0] == pytest.approx(alone.end + 0.1)
    assert [found[i][4] for i in range(2)] == [1, 0]
    decode = sum(STEPS.base[1] + STEPS.slope[1] * (1000 + i) for i in range(49))
    assert found[0][1] == pytest.approx(found[0][0] + decode)


def test_a_preempted_request_comes_back_from_the_host_where_the_engine_keeps_it() -> None:
    """Three sequences of up to 12 blocks in 30: the last one gives its memory back, and finds its tokens again."""
    coming = [One(0.0, 64, 128) for _ in range(3)]
    r = rules(lanes=2, readers=1, room=30)
    (anew, first), (copied, second) = served(r, coming), served(r._replace(reload=1e-6), coming)
    assert first.fleet.count[state.PREEMPTED] == second.fleet.count[state.PREEMPTED] > 0
    assert second.lanes.busy[1] < first.lanes.busy[1] and copied[2][1] < anew[2][1]
    late, _ = served(r._replace(reload=1e-2), coming)
    assert late[2][1] > copied[2][1] + 1.0, "it waits for more than 64 tokens, 10 ms each"


def test_what_memory_dropped_comes_from_a_tier_and_others_pass_it_meanwhile() -> None:
    whole = [(7, 640)]
    coming = [One(0.0, 640, 2, chain=whole), One(5.0, 790, 2), One(10.0, 640, 2, chain=whole), One(10.001, 16, 2)]
    r = rules(room=50, sharing=1, tiers=1)
    tier = Shelf(name="", room=100, seconds=1e-4, common=False)
    found, run = served(r, coming, tiers=(tier,))
    assert found[2][2] == 639 and run.fleet.count[state.FETCHED] == 639
    assert found[2][5] == pytest.approx(10.064), "admitted once 640 tokens are there, 0.1 ms each"
    assert found[3][0] < 10.03
    small, _ = served(r, coming, tiers=(replace(tier, room=39),))
    assert small[2][2] == 0, "40 blocks do not fit 39"


def test_techniques_hold_the_whole_prompt_first_and_keep_part_of_it() -> None:
    """Twelve prompts of 1,024 tokens: 64 blocks each while read, 16 and what is generated afterwards."""
    coming = [One(0.0, 1024, 33) for _ in range(12)]
    _, run = served(rules(cap=256, room=512), coming)
    assert 64 + 16 < run.lanes.peak[0] <= 12 * 18 + 2 * 64
    _, whole = served(rules(room=10_000), coming)
    assert 12 * 64 < whole.lanes.peak[0] <= 12 * 66


# -- histograms -------------------------------------------------------------------------------------


def test_percentiles_of_a_histogram_are_within_the_stated_error() -> None:
    rng = random.Random(1)
    values = [rng.lognormvariate(-2, 1.5) for _ in range(5000)]
    histogram = [0] * buckets.BUCKETS
    for x in values:
        histogram[buckets.bucket(x)] += 1
    ranked = sorted(values)
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        true = ranked[min(int(share * 5000 + 0.999999), 5000) - 1]
        assert buckets.quantile(histogram, share) == pytest.approx(true, rel=buckets.RELATIVE * 1.01)
    ends = [buckets.LEAST * 2.718281828459045 ** (i / buckets.PER_E) for i in range(5)]
    assert all(b / a - 1 < 2.02 * buckets.RELATIVE for a, b in pairwise(ends))


def test_step_tables_are_the_product_s_own_step_time() -> None:
    from test_load import made

    from kvplan.kv.replica import weights
    from kvplan.perf.simulate.tables import Machine
    from kvplan.perf.simulate.tables import steps as tabulated

    s = made(isl=2000, osl=200)
    machine = Machine(
        model=s.model, base=s.base, layout=s.layout, held=weights(s.model, None), parallel=s.parallel,
        calibration=s.site.calibration,
    )  # fmt: skip
    found = tabulated(machine, 256, 2048, 200, 16_000)
    assert found.error < 0.008
    for n, length in ((1, 500), (20, 4000), (256, 12_000)):
        assert found.base[n] + found.slope[n] * n * length == pytest.approx(machine.step(n, 0, length), rel=0.008)
    sizes = len(found.grid)
    assert found.more[24 * sizes + found.grid.index(512)] == pytest.approx(
        machine.step(24, 512, 8100) - machine.step(24, 0, 8100)
    )
    assert found.attention[8] == pytest.approx(machine.prompt(8 * CELL))


# -- what a run counts ------------------------------------------------------------------------------


def test_a_prompt_that_is_all_in_the_cache_still_has_its_last_token_to_read() -> None:
    twice = [
        One(0.0, 160, 5, chain=[(3, 160)]),
        One(9.0, 160, 5, chain=[(3, 160)]),
        One(18.0, 165, 5, chain=[(3, 160)]),
    ]
    found, _ = served(rules(sharing=1), twice)
    assert [found[i][2] for i in range(3)] == [0, 159, 160]


def test_a_small_shared_prefix_binds_nobody_to_a_lane() -> None:
    r = rules(lanes=2, router=state.PREFIX_AWARE, sharing=1, width=1)
    for shared, lanes in ((300, {0.0}), (100, {0.0, 1.0})):
        coming = [One(0.1 * i, 500, 400, chain=[(5, shared)]) for i in range(4)]
        found, _ = served(r, coming)
        assert {found[i][4] for i in range(4)} == lanes


def test_a_lane_far_busier_than_another_passes_requests_on() -> None:
    r = rules(lanes=2, router=state.PREFIX_AWARE, sharing=1, width=1)
    coming = [One(0.01 * i, 500, 400, chain=[(5, 400)]) for i in range(14)]
    found, _ = served(r, coming)
    assert [found[i][4] for i in range(14)] == [0.0] * 9 + [1.0] * 5


def test_blocks_in_use_are_counted_over_time() -> None:
    """A lone request holds 10 blocks while it is read, and 10 to 20 while it decodes 160 steps."""
    found, run = served(rules(bin=60.0, bins=1), [One(0.0, 160, 161)])
    first, end = found[0][:2]
    assert run.fleet.used[0] == pytest.approx(10 * first + 15 * (end - first), rel=0.04)
    assert run.fleet.worked[0] == pytest.approx(end)


@pytest.mark.parametrize("mixed", [0, 1])
def test_a_gap_between_tokens_holds_the_prompts_read_meanwhile(mixed: int) -> None:
    coming = [One(0.0, 16, 100), One(0.2, 500, 1)]
    found, run = served(rules(mixed=mixed), coming)
    longest = max(i for i, n in enumerate(run.fleet.gaps) if n)
    alone = Replica(STEPS, CHUNK, MOST, 10_000).run([One(0.0, 500, 1)])[0].end
    assert buckets.middle(longest) == pytest.approx(alone + (1 - mixed) * 5e-3, rel=0.1)
    assert sum(run.fleet.gaps) == 99 and found[1][0] > 0.2
