"""What the replay of measured runs takes for granted of them (`benchmarks/simulate_measured.py`)."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "simulate_measured.py"


@pytest.fixture(scope="module")
def bench():
    """Return the benchmark as a module."""
    spec = importlib.util.spec_from_file_location("simulate_measured", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_uneven_lengths_have_the_stated_mean_and_an_exponential_spread(bench):
    drawn = bench.uneven(200, np.random.default_rng(3))
    assert drawn.mean() == pytest.approx(1.0, rel=0.005)
    assert np.median(drawn) == pytest.approx(np.log(2), rel=0.01)
    assert list(drawn) != sorted(drawn)


def test_prompts_of_the_standard_set_are_as_long_as_it_counts_them(bench):
    """Half of its prompts have 198 tokens or fewer, one in a hundred 578 or more; the mean is 236."""
    drawn = bench.standard(500, np.random.default_rng(3))
    assert drawn.mean() == pytest.approx(1.0) and list(drawn) != sorted(drawn)
    assert np.median(drawn) == pytest.approx(198 / 236.3, rel=0.05)
    assert np.percentile(drawn, 99) == pytest.approx(578 / 236.3, rel=0.05) and drawn.max() < 2.6
    row = SimpleNamespace(prompt=1000.0, output=300.0, spread=1.0)
    ours, _ = bench.lengths(row, "suite_C dataset (ISL), EOS allowed, max 512 out", 500, np.random.default_rng(1))
    other, _ = bench.lengths(row, "suite_F dataset (ISL), EOS allowed, max 512 out", 500, np.random.default_rng(1))
    assert ours.max() < 2600 < 4000 < other.max()


def test_uniform_lengths_lie_evenly_in_their_range(bench):
    drawn = bench.even(0.1, 20, np.random.default_rng(3))
    assert sorted(drawn) == pytest.approx([0.905 + 0.01 * i for i in range(20)]) and list(drawn) != sorted(drawn)


@pytest.mark.parametrize(
    ("rate", "version", "words", "found"),
    [
        (16.0, "0.8.5", "sharegpt; 200 prompts only", True),
        (32.0, "0.8.5", "sharegpt; 200 prompts only", False),
        (16.0, "0.7.3", "sharegpt; 200 prompts only", False),
        (16.0, "0.8.5", "sharegpt multi-turn", False),
    ],
)
def test_prompts_are_found_again_where_they_were_sent_before_to_an_engine_that_keeps_them(
    bench, rate, version, words, found
):
    row = SimpleNamespace(arrival=bench.OPEN, engine="vllm", version=version, rate=rate)
    assert bench.again(row, words) is found


def test_a_figure_is_the_median_of_its_replays(bench):
    assert bench.middle([np.array([1.0, 3.0]), np.array([9.0, 9.0]), np.array([4.0, 6.0])], np.mean) == 5.0
