"""Losses predicted for models and techniques that were left out: how often the range holds, and on which side not."""

import sys
from pathlib import Path

import pytest

from kvplan.catalog.scores import quality_table

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from quality_left_out import models_out, techniques_out


@pytest.mark.parametrize(("left_out", "many"), [(models_out, 400), (techniques_out, 250)])
def test_ranges_hold_three_quarters_to_nine_tenths_and_miss_on_the_safe_side(left_out, many: int) -> None:
    tried = list(left_out(quality_table()))
    assert len(tried) > many
    assert 0.72 <= sum(t.held for t in tried) / len(tried) <= 0.88
    assert sum(t.kinder > 0 for t in tried) / len(tried) < 0.06
    assert sum(t.kinder > 1 for t in tried) / len(tried) < 0.02
