"""Start-up logs of engines that stand in public threads: the room for the cache, and the tokens logged for it."""

import csv
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.planning.memory import Memory

HERE, GIB = Path(__file__).parent, 2**30
#: of the room that a log prints
NEAR = 0.03
#: a GPU that every cache of the logs fits on
ROOMY = "mi355x"
#: columns that are no arguments of the same name
OTHER = {"sequences": "max_num_seqs", "step": "max_num_batched_tokens"}
OUT = ("source", "kv_gib", "kv_tokens")


def rows(name: str) -> list[Any]:
    with (HERE / name).open(encoding="utf-8") as file:
        return [pytest.param(row, id=row["source"].partition("com/")[2]) for row in csv.DictReader(file)]


def asked(row: dict[str, str], **more: Any) -> Memory:
    arguments: dict[str, Any] = {OTHER.get(k, k): v for k, v in row.items() if v and k not in OUT}
    for name in ("tp", "max_num_seqs", "max_num_batched_tokens"):
        arguments |= {name: int(arguments[name])} if name in arguments else {}
    return kvplan.memory(**arguments, layout="engine", **more)


@pytest.mark.parametrize("row", rows("startup_logs.csv"))
def test_the_room_for_the_cache_is_within_three_percent(row: dict[str, str]) -> None:
    found = asked(row).budget
    assert found is not None
    if row["kv_gib"]:
        assert found.kv_cache / GIB == pytest.approx(float(row["kv_gib"]), rel=NEAR)
    if row["kv_tokens"]:
        assert found.kv_tokens == pytest.approx(int(row["kv_tokens"]), rel=NEAR)


@pytest.mark.parametrize("row", rows("paged_logs.csv"))
def test_a_room_holds_the_tokens_that_the_engine_logs(row: dict[str, str]) -> None:
    """The room is printed to a hundredth of a GiB, and a hybrid's blocks are large."""
    found = asked(row, gpu=ROOMY, kv_cache_memory_bytes=f"{row['kv_gib']}GiB").budget
    assert found.kv_tokens == pytest.approx(int(row["kv_tokens"]), rel=0.003)
