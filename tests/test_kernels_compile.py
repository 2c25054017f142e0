"""Every shipped kernel configuration compiled for sm_90, with no GPU: no spills, memory within limits, wide loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

#: shared memory one program may use on an H100 or H200 [bytes]
SHARED_LIMIT = 227 * 1024
#: kernels whose tiles of keys and values must arrive by 16-byte asynchronous copies
PIPELINED = {
    "decode_split_kernel",
    "quantised_split_kernel",
    "absorbed_split_kernel",
    "fused_split_kernel",
    "streaming_split_kernel",
    "prefill_kernel",
    "prefill_scores_kernel",
}
FAMILIES = ("decode", "quantised", "absorbed", "fused", "prefill", "small", "single")


def compiled(family: str, folder: Path) -> list[dict]:
    """Compile a family in a process of its own: here triton may be interpreting."""
    env = {**os.environ, "TRITON_CACHE_DIR": str(folder)}
    env.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-W", "ignore", "-m", "kvplan.kernels.aot", family]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_configurations_compile_clean_for_sm_90(family: str, tmp_path: Path) -> None:
    rows = compiled(family, tmp_path)
    assert rows
    for row in rows:
        assert row["spills"] == 0, row
        assert row["shared"] <= SHARED_LIMIT, row
        if row["kernel"] in PIPELINED:
            assert row["wide_async_loads"] > 0, row
            assert row["mma"] + row["wgmma"] > 0 or "4 bytes" in row["variant"], row
