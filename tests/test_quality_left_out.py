"""Losses predicted for models and techniques that were left out: how often the range holds, and on which side not."""

import sys
from pathlib import Path

import pytest

from kvplan.catalog.scores import quality_table

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from quality_left_out import models_out, rounded_out, techniques_out


@pytest.mark.parametrize(("left_out", "many"), [(models_out, 400), (techniques_out, 250)])
def test_ranges_hold_three_quarters_to_nine_tenths_and_miss_on_the_safe_side(left_out, many: int) -> None:
    tried = list(left_out(quality_table()))
    assert len(tried) > many
    assert 0.72 <= sum(t.held for t in tried) / len(tried) <= 0.88
    assert sum(t.kinder > 0 for t in tried) / len(tried) < 0.06
    assert sum(t.kinder > 1 for t in tried) / len(tried) < 0.02


def test_losses_of_formats_hold_without_their_model_and_never_miss_by_more_than_the_range() -> None:
    tried = list(rounded_out(quality_table(), lambda score: score.model))
    assert len(tried) > 20 and 0.72 <= sum(t.held for t in tried) / len(tried) <= 0.88
    assert not any(t.kinder > 1 for t in tried)
