"""predict, validate and calibrate as a user types them."""

import csv
import tracemalloc
from pathlib import Path

import pytest

GEMM = "gpu,engine,kernel,dtype,m,n,k,latency_us\n"
ROWS = """\
H100-SXM-80GB,vllm-0.24.0,torch.nn.functional.linear,bfloat16,1024,8192,8192,1
H100-SXM-80GB,vllm-0.24.0,torch.nn.functional.linear,bfloat16,1,8192,8192,1
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def products(count: int) -> str:
    """Return rows of a made-up device of 700 TFLOP/s, 3 TB/s and 5 us, as a file holds them."""
    lines = []
    for i in range(count):
        m, n, k = 2 ** (i % 15), 1024 * (1 + i % 13), 1024 * (1 + i % 7)
        us = 5 + max(2 * m * n * k / 7e8, 2 * (n * k + m * k + m * n) / 3e6)
        lines.append(f"H100-SXM-80GB,mine-1,cublas,bfloat16,{m},{n},{k},{us:.3f}\n")
    return GEMM + "".join(lines)


def test_predictions_keep_rows_and_columns_and_ignore_measured_times(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", GEMM.replace("m,n", "tag,m,n") + ROWS.replace("16,", "16,x,"))
    out = tmp_path / "out.csv"
    assert run("predict", str(source), "-o", str(out)).code == 0
    found = read(out)
    assert list(found[0]) == [
        *("gpu", "engine", "kernel", "dtype", "tag", "m", "n", "k"),
        *("latency_us", "latency_us_low", "latency_us_high", "note"),
    ]
    assert [(row["m"], row["tag"]) for row in found] == [("1024", "x"), ("1", "x")]
    for row in found:
        low, middle, high = (float(row[c]) for c in ("latency_us_low", "latency_us", "latency_us_high"))
        assert low < middle < high and row["note"] == ""
    assert 150 < float(found[0]["latency_us"]) < 230, "137 GFLOP at 600 to 900 TFLOP/s"
    assert 40 < float(found[1]["latency_us"]) < 65, "134 MB at 2.1 to 3.35 TB/s"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (("1024,8192", "262144,8192"), "outside the fitted range (m 262144"),
        (("vllm-0.24.0", "lmdeploy-1"), "lmdeploy was not measured here"),
        (("torch.nn.functional.linear", "my_kernel"), "kernel my_kernel was not measured"),
        (("H100-SXM-80GB", "MI300X"), "mi300x was not measured; scaled from h"),
        (("bfloat16", "nvfp4"), "no nvfp4"),
    ],
)
def test_what_is_not_known_is_noted_and_widens_the_interval(run, tmp_path, change, note) -> None:
    first = ROWS.splitlines()[0]
    source = write(tmp_path / "rows.csv", f"{GEMM}{first}\n{first.replace(*change)}\n")
    assert run("predict", str(source), "-o", str(tmp_path / "out.csv")).code == 0
    plain, other = read(tmp_path / "out.csv")
    assert note in other["note"] and plain["note"] == ""

    def width(row: dict[str, str]) -> float:
        return float(row["latency_us_high"]) / float(row["latency_us_low"])

    assert width(other) > width(plain)


def test_other_gpus_are_scaled_by_their_datasheet(run, tmp_path) -> None:
    """A decode of 4.3 GB is bound by bandwidth: an L4 reads at 300 / 864 of an L40S."""
    header = "gpu,engine,kernel,compute_dtype,kv_dtype,batch,q_heads,kv_heads,head_dim,kv_len\n"
    body = "".join(
        f"{gpu},vllm-0.24.0,any,bfloat16,bfloat16,64,32,8,128,16384\n" for gpu in ("h100-nvl", "h100", "l4", "l40s")
    )
    source = write(tmp_path / "rows.csv", header + body)
    ran = run("predict", str(source), "-o", str(tmp_path / "out.csv"), "--json")
    assert ran.json["kind"] == "decode_attention" and ran.json["tiers"] == {"datasheet": 2, "measured elsewhere": 2}
    nvl, sxm, l4, l40s = (float(row["latency_us"]) for row in read(tmp_path / "out.csv"))
    assert 4.29e9 / 3.94e6 < nvl < 4.29e9 / 2.5e6 and 0.6 < nvl / sxm < 1.1
    assert l4 / l40s == pytest.approx(864 / 300, rel=0.1)


def test_half_precision_is_as_fast_as_bfloat16_and_no_interval_grows_without_end(run, tmp_path) -> None:
    header = "gpu,engine,kernel,compute_dtype,kv_dtype,batch,q_heads,kv_heads,head_dim,kv_len\n"
    body = "t4,mine-1,any,float16,float16,16,32,8,128,32768\nt4,mine-1,any,bfloat16,bfloat16,16,32,8,128,32768\n"
    source = write(tmp_path / "rows.csv", header + body)
    assert run("predict", str(source), "-o", str(tmp_path / "out.csv")).code == 0
    half, wide = read(tmp_path / "out.csv")
    assert half["latency_us"] == wide["latency_us"] and "scaled from a100" in half["note"]
    assert 1.5 < float(half["latency_us_high"]) / float(half["latency_us"]) < 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GEMM + ROWS.replace("1024", "many"), "rows.csv: line 2: m: expected a plain number, got 'many'"),
        (GEMM + ROWS.replace("1,8192", "-1,8192"), "rows.csv: line 3: m: expected a whole number from 1, got '-1'"),
        (GEMM + ROWS.replace("8192,8192,1\n", "8192.5,8192,1\n", 1), "line 2: n: expected a whole number"),
        (GEMM + ROWS.replace("bfloat16", "float13"), "line 2: dtype: dtype 'float13' is unknown"),
        (GEMM + ROWS.replace("H100-SXM-80GB", "H1000"), "line 2: gpu: no GPU named 'H1000'"),
        (GEMM + ROWS.replace("H100-SXM-80GB", ""), "line 2: gpu: is empty"),
        (GEMM.replace(",k,", ",") + "a,b,c,d,1,2,3\n", "missing column 'k'"),
        (GEMM + "H100,vllm\n", "line 2: expected 8 values"),
        (GEMM, "holds no rows"),
        ("", "line 1"),
        ("\x00\x01", "missing column"),
        ("\x00\x01\n1\n", "missing column"),
        ("model,gpu,isl,osl,concurrency\nx,h100,1,1,1\n", "missing column 'engine', which e2e rows need"),
    ],
)
def test_bad_rows_are_refused_in_one_line(run, tmp_path, text, complaint) -> None:
    source = write(tmp_path / "rows.csv", text)
    ran = run("predict", str(source), "-o", str(tmp_path / "out.csv"))
    assert ran.code == 1 and complaint in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_a_kind_that_does_not_fit_the_file_is_refused(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", GEMM + ROWS)
    ran = run("predict", str(source), "-o", str(tmp_path / "o.csv"), "--kind", "all_reduce")
    assert ran.code == 1 and "missing column 'message_size'" in ran.err
    ran = run("predict", str(source), "-o", str(tmp_path / "o.csv"), "--kind", "e2e")
    assert ran.code == 1 and "missing column 'model', which e2e rows need" in ran.err


@pytest.mark.parametrize("latency", ["-3", "0", "fast", "nan", "inf"])
def test_validate_refuses_times_that_are_none(run, tmp_path, latency) -> None:
    source = write(tmp_path / "rows.csv", GEMM + ROWS.replace("8192,1\n", f"8192,{latency}\n", 1))
    ran = run("validate", str(source))
    assert ran.code == 1 and "rows.csv: line 2: latency_us" in ran.err


def test_a_file_that_is_not_there_is_refused(run, tmp_path) -> None:
    ran = run("validate", str(tmp_path / "none.csv"))
    assert ran.code == 1 and "none.csv: cannot be read" in ran.err


@pytest.mark.slow
def test_calibrate_then_predict_with_it(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", products(90))
    profile = tmp_path / "mine.yaml"
    ran = run("calibrate", str(source), "-o", str(profile), "--on", "2026-11-23", "--json")
    assert ran.code == 0 and ran.json["fitted"][0]["median"] < 0.05
    first = profile.read_text("utf-8")
    assert run("calibrate", str(source), "-o", str(profile), "--on", "2026-11-23").code == 0
    assert profile.read_text("utf-8") == first
    ran = run("validate", str(source), "--profile", str(profile), "--json")
    last = ran.json["groups"][-1]
    assert last["group"][0] == "all" and last["rows"] == 90 and last["median"] < 0.05
    assert "rows" in run("validate", str(source), "--profile", str(profile)).out


@pytest.mark.slow
def test_calibrate_can_check_itself(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", products(90))
    ran = run("calibrate", str(source), "--check", "--json")
    checks = {c["left_out"]: c["groups"][-1] for c in ran.json["checks"]}
    assert checks["gemm: one row in 5"]["median"] < 0.1 and checks["gemm: m from 8192"]["rows"] > 5
    assert run("calibrate", str(source)).code == 2


def test_calibrate_refuses_too_few_rows_and_a_gpu_without_any(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", products(4))
    ran = run("calibrate", str(source), "-o", str(tmp_path / "x.yaml"))
    assert ran.code == 1 and "too few rows" in ran.err and not (tmp_path / "x.yaml").exists()
    ran = run("calibrate", str(source), "-o", str(tmp_path / "x.yaml"), "--gpu", "h200")
    assert ran.code == 1 and "no row is of h200" in ran.err
    ran = run("calibrate", str(source), "-o", str(tmp_path / "x.yaml"), "--on", "someday")
    assert ran.code == 1 and "--on" in ran.err


def test_a_profile_that_is_none_is_refused(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", GEMM + ROWS)
    for text in ("a: 1\n", "name: x\nsource: {kind: measured, ref: r, date: 2026-11-23}\nkernels: {h100-sxm: 3}\n"):
        bad = write(tmp_path / "bad.yaml", text)
        ran = run("predict", str(source), "-o", str(tmp_path / "o.csv"), "--profile", str(bad))
        assert ran.code == 1 and "bad.yaml" in ran.err and ran.err.count("\n") == 1


def test_thousands_of_rows_are_predicted_one_by_one(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", products(5000))
    assert run("predict", str(source), "-o", str(tmp_path / "out.csv")).code == 0
    found = read(tmp_path / "out.csv")
    assert len(found) == 5000
    shape = {(row["m"], row["n"], row["k"]): row["latency_us"] for row in found}
    assert all(row["latency_us"] == shape[row["m"], row["n"], row["k"]] for row in found)


# -- blocks of rows -------------------------------------------------------------------------------


def served_rows(count: int) -> str:
    """Return end-to-end rows of two models on two GPUs; one in seven cannot be predicted."""
    head = "model,gpu,engine,isl,osl,concurrency,tp,tag\n"
    models, gpus = ("llama3.1-8b", "qwen3-32b"), ("h100", "h200")
    return head + "".join(
        f"{'nobody/none' if i % 7 == 6 else models[i % 2]},{gpus[i % 2]},vllm,{512 + i % 900},128,{1 + i % 64},2,{i}\n"
        for i in range(count)
    )


@pytest.mark.parametrize("text", [products(250), served_rows(250)], ids=["kernels", "servers"])
def test_blocks_of_any_size_predict_the_same_bytes(run, tmp_path, monkeypatch, text) -> None:
    from kvplan.api import predict

    source, out = write(tmp_path / "rows.csv", text), tmp_path / "out.csv"
    found = []
    for size in (1000, 1, 64, 250):
        monkeypatch.setattr(predict, "BLOCK", size)
        ran = run("predict", str(source), "-o", str(out), "--json")
        found.append((ran.json, out.read_bytes()))
    assert all(one == found[0] for one in found) and found[0][0]["rows"] == 250


@pytest.mark.parametrize(("make", "bad"), [(products, "h100,mine-1,cublas\n"), (served_rows, "llama3.1-8b,h100\n")])
def test_a_bad_line_in_a_late_block_leaves_the_old_file(run, tmp_path, monkeypatch, make, bad) -> None:
    from kvplan.api import predict

    monkeypatch.setattr(predict, "BLOCK", 10)
    source, out = write(tmp_path / "rows.csv", make(95) + bad), write(tmp_path / "out.csv", "before\n")
    ran = run("predict", str(source), "-o", str(out))
    assert ran.code == 1 and "rows.csv: line 97: expected" in ran.err
    assert out.read_text("utf-8") == "before\n" and sorted(p.name for p in tmp_path.iterdir()) == [
        "out.csv",
        "rows.csv",
    ]


@pytest.mark.parametrize("make", [products, served_rows], ids=["kernels", "servers"])
def test_memory_does_not_grow_with_the_rows(run, tmp_path, monkeypatch, make) -> None:
    """The peak of four times as many rows is the same to 10 %."""
    from kvplan.api import predict

    monkeypatch.setattr(predict, "BLOCK", 40)
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    peaks = []
    for count in (120, 120, 480):  # the first fills what is remembered
        write(source, make(count))
        tracemalloc.start()
        assert run("predict", str(source), "-o", str(out)).code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1] + 50_000


def test_rows_can_go_to_stdout(run, tmp_path) -> None:
    source, out = write(tmp_path / "rows.csv", GEMM + ROWS), tmp_path / "out.csv"
    assert run("predict", str(source), "-o", str(out)).code == 0
    ran = run("predict", str(source), "-o", "-")
    assert ran.code == 0 and ran.out == out.read_text("utf-8")
    assert "2 gemm rows" in ran.err and list(tmp_path.glob("*-*")) == []
    both = run("predict", str(source), "-o", "-", "--json")
    assert both.code == 1 and both.out == "" and "--json" in both.err


def test_a_line_no_table_has_is_refused(run, tmp_path) -> None:
    source = write(tmp_path / "rows.csv", GEMM + "x" * 1_100_000)
    ran = run("predict", str(source), "-o", str(tmp_path / "out.csv"))
    assert ran.code == 1 and "rows.csv: line 2: longer than 1,000,000 characters" in ran.err
