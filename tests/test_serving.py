"""A server in steady state: what must hold between TTFT, TPOT, the cycle and the load."""

from dataclasses import fields, replace
from math import ceil

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.catalog.shelves import names
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, weights
from kvplan.perf.serving import BUSIEST, Load, Served, Steps, first_wave, held, passes, receiving, serve, steps
from kvplan.perf.step_time import step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.identity import family, shape
from kvplan.specs.serving_profile import RELEASE, SERVER

PROFILE = catalog.serving_profile()
H200 = catalog.gpu("h200")
#: one engine whose prompts share steps with decoding, and one whose prompts do not
ENGINES = {engine: PROFILE.calibrate(H200, engine) for engine in ("vllm", "sglang")}
MODEL = catalog.model("llama3.1-70b")
LAYOUT, HELD, SPREAD = kv_layout(MODEL, 16), weights(MODEL), Parallel(tensor=4)


def load(prompt: float, output: float, batch: float, **more: float) -> Load:
    found = Load(prompt=prompt, output=output, batch=batch, offered=batch, chunks=ceil(prompt / 8192))
    return replace(found, **more)


def timed(prompt: int, output: float, batch: float, c: Calibration = ENGINES["vllm"], cached: int = 0) -> Steps:
    found = passes(
        MODEL, LAYOUT, LAYOUT, HELD, SPREAD, batch=batch, prompt=prompt, output=output, chunk=c.chunk, cached=cached
    )
    return steps(found, c, batch)


def settled(fill: float) -> int:
    """Return -1 where prompts fit into one pass with room to spare, 1 where they fill several, 0 in between."""
    return -1 if fill < 0.4 else 1 if fill > 4 else 0


def served(prompt: int, output: float, batch: float, c: Calibration = ENGINES["vllm"], **more: float) -> Served:
    return serve(load(prompt, output, batch, **more), timed(prompt, output, batch, c), c)


LENGTH, BATCH = st.integers(1, 100_000), st.integers(1, 512).map(float)
ENGINE = st.sampled_from(list(ENGINES.values()))
#: step times as any server could have them: a prompt adds to a step, a whole budget of prompts more [s]
STEPS = st.tuples(*[st.floats(1e-4, 1.0)] * 3).map(
    lambda t: Steps(decode=t[0], mixed=t[0] + t[1], alone=t[0] / 2 + t[1], full=t[0] + t[1] + t[2],
                    full_alone=t[0] / 2 + t[1] + t[2])
)  # fmt: skip


# -- the passes -------------------------------------------------------------------------------------


def test_the_five_steps() -> None:
    """Decoding alone; with a prompt's part; the part alone; the same with a whole budget of prompts."""
    found = passes(MODEL, LAYOUT, LAYOUT, HELD, SPREAD, batch=16.0, prompt=10_000, output=100.0, chunk=8192.0)
    work = {
        f.name: next(o.flops for o in getattr(found, f.name) if o.name == "mlp") / (2 * 80 * 3 * 8192 * 28672 / 4)
        for f in fields(found)
    }
    assert work == {"decode": 16, "mixed": 16 + 5000, "alone": 5000, "full": 16 + 8192, "full_alone": 8192}


def test_a_prefix_found_in_the_cache_is_not_read_again() -> None:
    whole, rest = (timed(8000, 100.0, 8.0, cached=cached) for cached in (0, 6000))
    short = timed(2000, 100.0, 8.0)
    assert short.alone < rest.alone < whole.alone  # fewer tokens, that still meet the others
    assert rest.decode == whole.decode


def test_speculative_decoding_takes_fewer_steps() -> None:
    plain, fast = (timed(1000, 100.0, 8.0, ENGINES["vllm"].moved(accepted=a)) for a in (1.0, 2.0))
    assert fast.decode == pytest.approx(plain.decode / 2)
    assert fast.mixed - fast.decode == pytest.approx(plain.mixed - plain.decode)
    assert fast.alone == plain.alone


@given(LENGTH, st.floats(1, 4096), BATCH, ENGINE)
def test_more_in_a_step_takes_longer(prompt: int, output: float, batch: float, c: Calibration) -> None:
    s = timed(prompt, output, batch, c)
    assert 0 < s.decode < s.mixed <= s.full * (1 + 1e-9)
    assert 0 < s.alone <= s.full_alone * (1 + 1e-9) and s.alone < s.mixed


# -- identities -------------------------------------------------------------------------------------


@given(STEPS, LENGTH, st.floats(1, 4096), BATCH, st.floats(1, 4), st.sampled_from([0.0, 0.5, 1.0, 10.0]), ENGINE)
def test_a_cycle_is_the_first_token_and_the_others(
    s: Steps, prompt: int, output: float, batch: float, crowd: float, waves: float, c: Calibration
) -> None:
    """Cycle = TTFT - the request's own overhead - waiting for memory + output x TPOT: nothing is lost."""
    r = serve(load(prompt, output, batch, offered=batch * crowd, waves=waves), s, c)
    assert r.ttft - receiving(c, prompt) - r.queued + output * r.tpot == pytest.approx(r.cycle, rel=1e-9)
    assert r.tpot >= s.decode * (1 - 1e-9)
    assert r.own > 0 and r.ttft > receiving(c, prompt) + r.queued
    assert 0 <= r.busy <= BUSIEST and r.wait >= -1e-9
    assert r.cycle >= (output * s.decode + batch * r.prompt_seconds) * (1 - 1e-9)
    assert r.step == s.decode


@given(st.floats(1, 1e5), BATCH, st.floats(1e-4, 1.0), ENGINE)
def test_without_prompts_a_token_takes_a_decode_step(output: float, batch: float, step: float, c: Calibration) -> None:
    none = 0.0 if c.mixes == 0 else step
    s = Steps(decode=step, mixed=step, alone=none, full=step, full_alone=none)
    assert serve(load(1, output, batch), s, c).tpot == pytest.approx(step)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("output", [1.0, 2.0, 16.0, 128.0, 4096.0])
def test_one_sequence_decodes_at_the_pace_of_its_steps(engine: str, output: float) -> None:
    """Nobody else's prompts delay it, however short its answer is."""
    c = ENGINES[engine]
    found = served(64, output, 1.0, c)
    decode = step_time(
        passes(MODEL, LAYOUT, LAYOUT, HELD, SPREAD, batch=1.0, prompt=64, output=output, chunk=c.chunk).decode, c, 1.0
    )
    assert found.tpot == pytest.approx(decode, rel=0.01)


def test_only_what_memory_does_not_hold_waits() -> None:
    fits, waits = (served(1000, 200.0, 32.0, offered=n) for n in (32.0, 64.0))
    assert fits.queued == 0 and waits.queued == pytest.approx(fits.cycle)
    assert waits.ttft == pytest.approx(fits.ttft + waits.queued)
    assert (waits.tpot, waits.cycle) == (fits.tpot, fits.cycle)


def test_requests_that_start_together_wait_for_each_other() -> None:
    """32 prompts of 1,024 tokens are four budgets: the mean request waits for (4 + 1) / 2 of them."""
    c = ENGINES["vllm"].moved(burst=0.0)
    s = timed(1024, 1024.0, 32.0, c)
    one = first_wave(load(1024, 1024.0, 32.0), s, s.mixed, c)
    assert one == pytest.approx(2.5 * s.full_alone, rel=0.02)
    steady, ten, first = (serve(load(1024, 1024.0, 32.0, waves=w), s, c).ttft for w in (0.0, 10.0, 1.0))
    passed = s.decode + 32 / 1024 * (s.mixed - s.decode)  # a step: one in 32 reads a prompt
    assert steady < ten < first == pytest.approx(one + receiving(c, 1024) + c.poll * passed * 31 / 32)
    assert ten == pytest.approx(0.1 * first + 0.9 * steady)
    assert serve(load(1024, 1024.0, 32.0, waves=0.5), s, c).ttft == first  # half of the slots were ever used


def test_the_first_wave_of_a_server_nobody_warmed_up_waits_for_its_kernels() -> None:
    """Three seconds for one request in ten; decoding and the median know nothing of it."""
    c = ENGINES["vllm"].moved(cold=3.0)
    warm, cold = (served(1024, 1024.0, 32.0, c, waves=10.0, cold=n) for n in (0.0, 1.0))
    assert cold.ttft == pytest.approx(warm.ttft + 0.3)
    assert (cold.tpot, cold.median, cold.cycle, cold.wait) == (warm.tpot, warm.median, warm.cycle, warm.wait)
    assert served(1024, 1024.0, 32.0, c, cold=1.0).ttft == served(1024, 1024.0, 32.0, c).ttft  # long after its start


def test_a_first_wave_of_one_is_its_own_prompt() -> None:
    s = timed(1024, 1024.0, 1.0)
    assert first_wave(load(1024, 1024.0, 1.0), s, s.mixed, ENGINES["vllm"]) == pytest.approx(s.mixed)


def test_every_token_of_a_prompt_is_received_cached_or_not() -> None:
    """131,072 tokens, all of them cached, took 0.80 s to the first token: 6 us each, and 15 ms of the request's own."""
    c = ENGINES["vllm"].moved(request=0.015, token=6e-6, pace=1.0)
    assert receiving(c, 131072) == pytest.approx(0.80, rel=0.01)
    s = timed(128, 64.0, 1.0, c)
    fresh, known = (serve(load(128, 64.0, 1.0, cached=tokens), s, c) for tokens in (0.0, 130944.0))
    assert known.ttft - fresh.ttft == pytest.approx(130944 * 6e-6) and known.tpot == fresh.tpot


def test_a_lone_request_waits_for_nobody() -> None:
    """Neither for the scheduler, nor for a step's end, nor for a prompt: request overhead and its own prompt."""
    for c in ENGINES.values():
        s = timed(1024, 256.0, 1.0, c)
        found = serve(load(1024, 256.0, 1.0, waves=10.0), s, c)
        assert found.ttft == pytest.approx(receiving(c, 1024) + s.alone) == pytest.approx(found.median)
        two = served(1024, 256.0, 2.0, c)
        passed = two.step + 2 / 256 * two.prompt_seconds
        assert two.polled == pytest.approx(c.poll * passed / 2) and two.arriving == pytest.approx(passed / 4)


def test_a_static_batch_is_read_whole_before_its_first_token() -> None:
    """32 prompts of 1,024 tokens are four budgets, and then nothing but decode steps."""
    c = ENGINES["vllm"]
    s = timed(1024, 256.0, 32.0, c)
    found = serve(load(1024, 256.0, 32.0, static=1.0), s, c)
    assert found.ttft == pytest.approx(receiving(c, 1024) + 4 * s.full_alone, rel=0.02)
    assert found.tpot == pytest.approx(s.decode) and found.median == found.ttft
    one = serve(load(1024, 256.0, 1.0, static=1.0), timed(1024, 256.0, 1.0, c), c)
    assert one.ttft == pytest.approx(serve(load(1024, 256.0, 1.0), timed(1024, 256.0, 1.0, c), c).ttft)


def test_lengths_alike_stay_in_lock_step_and_others_do_not() -> None:
    """N requests that end together start together: the mean waits for (N + 1) / 2 prompts; spread ones drift apart."""
    c, n = ENGINES["sglang"].moved(wait=0.0), 16.0
    s = timed(8192, 64.0, n, c)
    alike, near, far = (serve(load(8192, 64.0, n, spread=w), s, c) for w in (0.0, 0.2, 1.0))
    lock = receiving(c, 8192) + alike.own + alike.arriving + alike.polled + (n - 1) / 2 * alike.prompt_seconds
    assert alike.ttft == pytest.approx(lock, rel=0.02)
    assert alike.ttft > near.ttft > far.ttft


def test_lengths_alike_pass_one_by_one_where_prompts_share_steps_with_decoding() -> None:
    """Requests end step by step, as their prompts were read: each meets a few prompts of others, however many run."""
    c = ENGINES["vllm"].moved(wait=0.0)
    waits = []
    for n in (2.0, 16.0, 64.0):
        s = timed(4096, 512.0, n, c)
        alike, spread = (serve(load(4096, 512.0, n, spread=w), s, c) for w in (0.0, 1.0))
        waits.append((alike.polled - spread.polled) / (alike.prompt_seconds * (1 - 1 / n)))
    assert waits == pytest.approx([min(1.0, c.met), c.met, c.met]), "the only other one at most, then `met` of them"


def test_a_prompt_is_held_for_others_to_come_with_it() -> None:
    """The first waits all 20 steps; at 64 requests of 1,280 tokens another comes, which waits half of them."""
    assert held(load(1024, 1280.0, 1e-9, hold=20.0)) == pytest.approx(20)
    assert held(load(1024, 1280.0, 64.0, hold=20.0)) == pytest.approx((20 + 10) / 2)
    c = ENGINES["vllm"]
    s = timed(1024, 1280.0, 64.0, c)
    plain, late = (serve(load(1024, 1280.0, 64.0, hold=n), s, c) for n in (0.0, 20.0))
    passed = s.decode + 64 / 1280 * plain.prompt_seconds
    assert late.polled - plain.polled == pytest.approx(15 * passed * 63 / 64)


def test_requests_that_all_come_at_once_leave_one_crowd_after_the_other() -> None:
    """64 requests on 16 slots: the last start after three cycles, the mean after (64 - 16)^2 / (2 x 64 x 16) of one."""
    c = ENGINES["vllm"]
    s = timed(1024, 256.0, 16.0, c)
    few = serve(load(1024, 256.0, 16.0, waves=1.0, offline=1.0), s, c)
    many = serve(load(1024, 256.0, 16.0, offered=64.0, waves=4.0, offline=1.0), s, c)
    assert few.queued == 0 and many.queued == pytest.approx(48**2 / (2 * 64 * 16) * many.cycle)


def test_half_of_a_crowd_that_comes_at_once_waits_as_long_as_the_mean() -> None:
    """Nobody queues at a steady state then: on as many slots as requests the median is the mean, a wave by itself."""
    c = ENGINES["sglang"].moved(burst=0.0)
    crowd = serve(load(8192, 64.0, 16.0, offline=1.0), timed(8192, 64.0, 16.0, c), c)
    steady = serve(load(8192, 64.0, 16.0), timed(8192, 64.0, 16.0, c), c)
    assert crowd.median == pytest.approx(crowd.ttft) and steady.median < 0.95 * steady.ttft


def test_an_open_loop_meets_others_by_chance() -> None:
    """At a tenth of a request in flight one in ten meets another; a closed loop of one never does."""
    c = ENGINES["vllm"]
    s = timed(1024, 256.0, 1.0, c)
    seldom, often = (serve(load(1024, 256.0, 1.0, offered=n, open=1.0), s, c) for n in (0.1, 1.0))
    passed = s.decode + 0.1 / 256 * seldom.prompt_seconds
    assert seldom.polled == pytest.approx(c.poll * passed * 0.095, rel=0.01)
    assert seldom.busy == pytest.approx(0.1 * often.busy) and seldom.ttft < often.ttft


@given(LENGTH, st.floats(8, 4096), BATCH, ENGINE)
def test_half_of_the_requests_wait_less_than_the_mean(prompt: int, output: float, batch: float, c: Calibration) -> None:
    """Waits are long-tailed, and the first wave is in the mean."""
    found = served(prompt, output, batch, c, waves=10.0)
    assert 0 < found.median <= found.ttft * 1.05


# -- directions -------------------------------------------------------------------------------------


@given(st.integers(8, 4000), st.integers(100, 4096), BATCH, st.floats(1.05, 8), ENGINE)
def test_more_requests_at_once_slow_everyone(
    prompt: int, output: int, batch: float, more: float, c: Calibration
) -> None:
    """On one side of the token budget: past it, prompts share passes, which is a gain of its own."""
    many = batch * more
    assume(settled(batch * prompt / c.chunk) == settled(many * prompt / c.chunk) != 0)
    few, all_of_them = (served(prompt, float(output), n, c) for n in (batch, many))
    assert few.tpot <= all_of_them.tpot * 1.02
    assert few.cycle <= all_of_them.cycle * 1.02
    assert few.ttft <= all_of_them.ttft * 1.02
    assert batch / few.cycle <= many / all_of_them.cycle * 1.001  # and none of that costs throughput


@given(st.integers(8, 4000), st.integers(100, 4096), BATCH, st.floats(1.05, 8), ENGINE)
def test_longer_prompts_take_longer(prompt: int, output: int, batch: float, more: float, c: Calibration) -> None:
    longer = int(prompt * more) + 1
    assume(settled(batch * prompt / c.chunk) == settled(batch * longer / c.chunk) != 0 and ceil(longer / c.chunk) == 1)
    short, long = (served(n, float(output), batch, c) for n in (prompt, longer))
    assert short.ttft <= long.ttft * 1.02  # the last of the gain of sharing passes still comes
    assert short.tpot <= long.tpot * 1.02
    assert short.cycle <= long.cycle * 1.02


@given(STEPS, LENGTH, st.floats(32, 4096), st.floats(1.05, 8), BATCH)
def test_longer_answers_keep_a_slot_longer(s: Steps, prompt: int, output: float, more: float, batch: float) -> None:
    """With the step times held: the more tokens a prompt is shared by, the less it adds to each."""
    c = ENGINES["vllm"]
    short, long = (serve(load(prompt, n, batch), s, c) for n in (output, output * more))
    assert short.cycle <= long.cycle * (1 + 1e-9)
    assert long.busy <= short.busy * (1 + 1e-9) and long.ttft <= short.ttft * (1 + 1e-9)
    assert long.tpot <= short.tpot * 1.15  # but for a short answer's TTFT, which takes from its cycle


@given(st.integers(1, 60_000), st.integers(1, 8), st.floats(1, 512), ENGINE)
def test_more_bandwidth_never_serves_less(prompt: int, tokens: int, batch: float, c: Calibration) -> None:
    """Every step is faster, and so is the cycle; TTFT may rise, as slots come back to the prompts' queue sooner."""
    wide = c.moved(weights=2 * c.weights, cache=2 * c.cache, elements=2 * c.elements)
    output = max(batch * tokens, 64.0)
    before, after = (timed(prompt, output, batch, d) for d in (c, wide))
    for f in fields(Steps):
        assert getattr(after, f.name) <= getattr(before, f.name) * (1 + 1e-9)
    slow, fast = (serve(load(prompt, output, batch), s, c) for s in (before, after))
    assert fast.cycle <= slow.cycle * (1 + 1e-6)


@given(st.integers(1, 60_000), st.integers(1, 4096), BATCH, ENGINE)
def test_a_slower_pace_slows_in_proportion(prompt: int, output: int, batch: float, c: Calibration) -> None:
    one, two = (served(prompt, float(output), batch, c.moved(pace=p)) for p in (1.0, 2.0))
    for name in ("ttft", "tpot", "cycle"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))


# -- many at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_and_floats_agree(engine: str) -> None:
    c = ENGINES[engine]
    batch, output = np.array([1.0, 4.0, 9.0, 64.0, 300.0]), 300.0
    many = served(2000, output, batch, c, offered=2 * batch, waves=np.array([0.0, 10.0, 1.0, 0.0, 3.0]))
    for i, (b, w) in enumerate(zip(batch.tolist(), (0.0, 10.0, 1.0, 0.0, 3.0), strict=True)):
        one = served(2000, output, b, c, offered=2 * b, waves=w)
        for f in fields(one):
            assert getattr(one, f.name) == pytest.approx(getattr(many, f.name)[i], rel=1e-9), f.name


# -- whose measurements a model stands on ----------------------------------------------------------


def test_a_fine_tune_stands_on_the_model_of_its_shape_whatever_its_name_class_or_vocabulary() -> None:
    """Llama 3.1 8B was measured on an H100 under vLLM; 8,192 new tokens or another class name change no layer."""
    profile, gpu = catalog.serving_profile(), catalog.gpu("h100")
    measured = catalog.model("llama3.1-8b")
    raw = measured.config

    def basis(**changes: object) -> str:
        raw_tune = {**raw, **changes}
        tune = read_model(raw_tune, name="mine", place="config.json", source=measured.source, classes=class_defaults())
        return profile.calibrate(gpu, "vllm", tune).basis

    assert basis() == profile.calibrate(gpu, "vllm", measured).basis == RELEASE
    assert basis(vocab_size=151_936) == RELEASE, "8.2 B parameters with its embeddings"
    assert basis(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None) == RELEASE
    assert basis(num_hidden_layers=31, intermediate_size=14_848) == SERVER, "8.0 B of another shape"


def test_shapes_of_all_measured_models_in_the_catalogue_are_known() -> None:
    profile = catalog.serving_profile()
    families = {model for _, _, model in profile.cells}
    models = [m for m in map(catalog.model, names("models")) if family(m) in families]
    assert len(models) > 20
    other = {"qwen1.5-0.5b"}  # as large as Qwen2 0.5B and of its class, with keys and values in all heads
    assert {m.name for m in models if shape(m) not in profile.shapes} == other
    assert all(profile.shapes[shape(m)] == family(m) for m in models if m.name not in other)
