"""Files and places meant to break a planner: refused in one line, written whole, shown as plain text."""

import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import PATIENCE, bounded, python

from kvplan.catalog import files
from kvplan.catalog.files import read_text, write_whole, writing
from kvplan.catalog.rows.samples import SampleLog, read_samples, set_aside
from kvplan.catalog.safe_yaml import DEEPEST, MOST, read_yaml
from kvplan.errors import SpecError, one_line, shown, visible
from kvplan.measuring.device.course import COLUMNS

ROOT = Path(__file__).parent.parent
KVPLAN = (sys.executable, "-m", "kvplan")


def refused(found, *said: str) -> None:
    """Check that a command said no in one short line and did not call it a bug."""
    assert found.code == 1 and found.err.count("\n") == 1 and len(found.err) < 1100, found
    for word in said:
        assert word in found.err


def outside(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    told = {**os.environ, "KVPLAN_TRACEBACK": "", **environment}
    return subprocess.run([*KVPLAN, *words], capture_output=True, env=told, timeout=PATIENCE, check=False)


# -- YAML -----------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases"),
        ("&a\nname: *a\n", "aliases"),
        ("a: !!python/object:os.system {}", "tags"),
        ("a: !!binary aGVsbG8=", "tags"),
        ("a: {<<: {b: 1}}", "merged"),
        ("a: 1\na: 2", "stands twice"),
        ("[1]: 2", "keys must be words"),
        ("a: 1\n---\na: 2", "second document"),
        (f"{'k' * 500}: 1", "a key of 500 letters"),
        ("a: " + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "deep"),
        ("- " * 100_000, "deep"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: \ud800", "cannot be read"),
        ("\n".join(f"k{i}: {i}" for i in range(MOST)), "more than"),
        ("just words", "expected a mapping"),
    ],
)
def test_yaml_that_multiplies_nests_or_runs_is_refused(text: str, said: str) -> None:
    with bounded(), pytest.raises(SpecError, match=said) as refusal:
        read_yaml(text, "x.yaml", typed=True)
    assert str(refusal.value).startswith("x.yaml: ")


def test_yaml_is_read_as_pyyaml_reads_it_but_for_dates() -> None:
    import yaml

    text = "a: [1, 2.5, yes, ~, 'yes', 0x1F, 1_000, .inf, -3e+2, 2026-01-01]\nb: {c: 'x', d: null}\ne: \"\\u00e9\"\n"
    found = read_yaml(text, "x", typed=True)
    expected = yaml.safe_load(text)
    expected["a"][-1] = "2026-01-01"
    assert found == expected
    assert read_yaml(text, "x", typed=False) == yaml.load(text, Loader=yaml.BaseLoader)


# -- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("estimate", "-c", "8k", "-m"), ("fleet",), ("validate",), ("compare",)])
def test_what_is_no_file_is_refused_in_time(run, tmp_path, monkeypatch, command: tuple[str, ...]) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    pipe, folder, box = tmp_path / "pipe.json", tmp_path / "folder.json", tmp_path / "box.json"
    os.mkfifo(pipe)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(box))
        for place in (
            pipe,
            folder,
            box,
            "/dev/zero",
            "/dev/urandom",
            "/",
            "a\0b.json",
            "./a\0b",
            "~nobody-here/x.json",
        ):
            with bounded():
                refused(run(*command, place))


def test_a_pipe_with_a_writer_is_read(tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: (time.sleep(0.2), pipe.write_text("a: 1")))
    writer.start()
    assert read_text(pipe, "pipe") == "a: 1"
    writer.join()


def test_a_file_is_read_up_to_its_bound_whatever_its_size_says(tmp_path) -> None:
    path = tmp_path / "x"
    path.write_text("x" * 101)
    with pytest.raises(SpecError, match="larger than 100 bytes"):
        read_text(path, "x", 100)
    assert len(read_text(path, "x", 101)) == 101
    for content, said in ((b"a\0b", "zero byte"), (b"\xff\xfe", "not UTF-8")):
        path.write_bytes(content)
        with pytest.raises(SpecError, match=said):
            read_text(path, "x")


def test_names_that_no_terminal_should_see(run, tmp_path) -> None:
    path = tmp_path / "x\x1b[31m\udcff.json"
    path.write_text("{}")
    refused(run("memory", "-m", path, "-c", "1k"), "\\x1b[31m")


# -- text -----------------------------------------------------------------------------------------


def test_text_from_outside_is_visible_and_cut() -> None:
    assert visible("a\x1b[31m\u202eb\x9b\u2066\ud800") == "a\\x1b[31m\\u202eb\\x9b\\u2066\\ud800"
    assert visible("é × 模型 🦙\n\t") == "é × 模型 🦙\n\t"
    assert one_line("a\nb\r\x1bc") == "a b \\x1bc" and len(one_line("x" * 10_000)) < 1100
    for value in ("x" * 10**6, [[0] * 10**5] * 10, {"a" * 500: 1}, 10**5000, float("nan")):
        assert len(shown(value)) < 100
    assert shown("a\nb\x1b") == repr("a\nb\x1b")


EVIL = "[red]x[/red] [/red] [link=http://evil]y[/link] :smile: \\e[31m\\e]8;;http://evil\\acl \\u202e \\x9b31m"
STEERING = ("\x1b", "\x07", "\x9b", "\u202e", "😄", "\r")


def evil_files(folder: Path) -> dict[str, str]:
    """Write files whose every text tries to steer the terminal; return their paths by kind."""
    source = f'source: {{kind: quote, ref: "{EVIL}", date: 2026-11-01}}'

    def shipped(path: str) -> str:
        lines = (ROOT / path).read_text("utf-8").splitlines()
        texts = ("name:", "title:")
        return "\n".join(f'{line.split(":")[0]}: "{EVIL}"' if line.startswith(texts) else line for line in lines)

    written = {
        "gpu": shipped("profiles/gpus/h200.yaml"),
        "model": f'title: "{EVIL}"\nname: "{EVIL}"\n{source}\nconfig: {{model_type: llama, hidden_size: 4096, '
        "num_hidden_layers: 32, num_attention_heads: 32, vocab_size: 32000, intermediate_size: 11008, torch_dtype: "
        f'bfloat16, max_position_embeddings: 8192, _note: "{EVIL}"}}',
        "workload": shipped("profiles/workloads/chat.yaml"),
        "prices": f'name: "{EVIL}"\n{source}\nprices: [{{gpu: h200, provider: "{EVIL}", price: 3 USD/h, '
        f'from: 2026-01-01, note: "{EVIL}"}}]',
        "fleet": f'name: "{EVIL}"\ngpus: {{h200: {{count: 8, price: 3.80 USD/h}}}}\n'
        f'workloads: [{{name: "{EVIL}", workload: chat, model: llama3.1-8b}}]\nbuckets: 1',
        "claims": f'name: "{EVIL}"\ntitle: "{EVIL}"\n{source}\nclaims: [{{id: "{EVIL}", about: "{EVIL}", '
        f'claim: "{EVIL}", '
        f'note: "{EVIL}", check: kv_bytes, claimed: 40 GB, cases: {{model: llama3-70b, context: 128k}}}}]',
        "quality": f'name: "{EVIL}"\n{source}\nrows: [{{technique: fp8, task: chat, retained: 0.99, '
        f'condition: "{EVIL}"}}]',
        "serving": shipped("profiles/serving/published.yaml"),
        "kernels": shipped("profiles/calibrations/a100-80gb-sxm.yaml"),
        "ownership": shipped("profiles/ownership/default.yaml"),
    }
    for name, text in written.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return {name: str(folder / f"{name}.yaml") for name in written}


def test_no_command_obeys_what_a_file_says(run, tmp_path) -> None:
    """Every command with files full of markup, emoji codes, links and escapes: all of it is shown, none is obeyed."""
    at = evil_files(tmp_path)
    rows = tmp_path / "rows.csv"
    rows.write_text(
        f"model,gpu,engine,isl,osl,concurrency,tp,ttft_ms,tpot_ms\n[/red]\x1b[31m,{at['gpu']},vllm,9,9,1,1,1,1\n"
    )
    plan = tmp_path / "plan.json"
    asked = ("-w", "chat", "-m", "llama3.1-8b", "-g", "h200", "-t", "baseline")
    assert run("recommend", *asked, "--save", plan).code == 0
    saved = json.loads(plan.read_text())
    steering = "[/red] [link=http://evil]y[/link] :smile: \x1b[31m\x1b]8;;http://evil\x07cl \u202e \x9b31m"
    saved["recommended"]["technique"] = saved["objective"] = saved["recommended"]["lines"][0]["name"] = steering
    plan.write_text(json.dumps(saved))
    commands = [
        ("show", "gpu", at["gpu"]),
        ("show", "model", at["model"]),
        ("show", "workload", at["workload"]),
        ("show", "profile", at["serving"]),
        ("show", "profile", at["kernels"]),
        ("show", "profile", at["kernels"], at["kernels"]),
        ("estimate", "-m", at["model"], "-c", "4k", "-g", at["gpu"], "--explain"),
        ("memory", "-m", at["model"], "-c", "4k", "-g", at["gpu"], "--explain"),
        ("recommend", "-w", at["workload"], "-m", at["model"], "-g", "h200", "-t", "baseline", "--ttft", "none"),
        ("recommend", *asked, "--prices", at["prices"], "--quality", at["quality"], "--profile", at["serving"]),
        ("recommend", *asked, "--own", at["ownership"]),
        ("prices", "--prices", at["prices"]),
        ("prices", "--own", at["ownership"]),
        ("fleet", at["fleet"]),
        ("audit", at["claims"]),
        ("load", "-m", at["model"], "-g", at["gpu"], "--isl", "512", "--osl", "128", "--concurrency", "8"),
        ("compare", plan, plan),
        ("validate", rows),
        ("predict", rows, "-o", tmp_path / "out.csv"),
        ("show", "gpu", steering),
        (steering,),
        ("list", steering),
    ]
    answered = 0
    for command in commands:
        found = run(*command)
        assert "bug" not in found.err and found.err.count("\n") <= 1, (command, found.err)
        assert not [mark for mark in STEERING if mark in found.out + found.err], command
        answered += found.code == 0
    assert answered >= 15
    out = run("show", "model", at["model"]).out
    assert "[red]x[/red]" in out and "[link=http://evil]y[/link]" in out and ":smile:" in out and "\\x1b[31m" in out


def test_a_terminal_is_not_steered_either() -> None:
    """On a terminal rich colours what it prints; nothing that a text says is among its codes."""
    from kvplan.report.blocks import Chart, Heading, Notes, Page, Row, Series, Table, Text
    from kvplan.report.formats import Report, Screen, render

    page = Page(
        (
            Text("\x1b[31mred [red]s[/red]", "answer"),
            Table(
                "[red]t[/red] :smile: \x1b]8;;http://x\x07",
                (Heading("[bold]h[/bold]"), Heading("\x1b]0;x", wraps=True)),
                (Row(("[link=http://x]cell[/link]\x1b[2J", ":smile: \x1b[2J"), "best"),),
            ),
            Notes("[u]n[/u]\x1b]0;title", ("\x1b]0;title",)),
            Chart("\x1b]0;c", "x", "y", (Series("\x1b[2J", (1.0, 2.0), (1.0, 2.0)),)),
        )
    )
    for width in (40, 120):
        text = render(Report(lambda: page, dict), "text", Screen(width=width, colour=True))
        assert "\x1b]" not in text and "\x1b[2J" not in text and "\x1b[31m" not in text and "😄" not in text
        assert "\x1b[1m" in text
    assert "[red]t[/red]" in text and ":smile:" in text and "\\x1b[2J" in text


# -- writing --------------------------------------------------------------------------------------


def test_a_file_keeps_its_mode_and_a_link_its_place(tmp_path) -> None:
    target, link, fresh = tmp_path / "target", tmp_path / "link", tmp_path / "fresh"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("target")
    write_whole(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and stat.S_IMODE(target.stat().st_mode) == 0o640
    before = os.umask(0o027)
    try:
        write_whole(fresh, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o640
    (tmp_path / "dangling").symlink_to("made")
    write_whole(tmp_path / "dangling", "y")
    assert (tmp_path / "made").read_text() == "y"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(SpecError, match="cannot be written"):
        write_whole(tmp_path / "round", "y")


def test_no_trap_laid_at_a_drafts_old_name_is_stepped_into(tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    (tmp_path / ".out.yaml.part").symlink_to(victim)
    write_whole(tmp_path / "out.yaml", "x")
    assert victim.read_text() == "keep"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, OSError])
def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path, failure: type[BaseException]) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises((failure, SpecError)), writing(path) as file:
        file.write("new" * 10**6)
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_drafts_of_killed_writers_go_with_the_next_write(tmp_path) -> None:
    """A writer killed in mid-write leaves a draft; the next write removes it, and no draft of a process that lives."""
    path = tmp_path / "x"
    code = "import sys; from pathlib import Path; from kvplan.catalog.files import writing\n"
    code += "with writing(Path(sys.argv[1])) as file: print('ready', flush=True); sys.stdin.read()"
    begun = [
        subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for writer in begun:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    killed, living = begun
    killed.kill()
    killed.communicate()
    others = [".kvplan-elsewhere-999999999-0.part", f".kvplan-{files._machine()}-x-0.part", "notes.part"]
    for name in others:
        (tmp_path / name).write_text("kept")
    assert len(list(tmp_path.glob(".kvplan-*.part"))) == 4
    write_whole(path, "new")
    drafts = {draft.name for draft in tmp_path.glob(".kvplan-*.part")} - set(others)
    assert len(drafts) == 1 and f"-{living.pid}-" in drafts.pop()
    assert all((tmp_path / name).exists() for name in others)
    living.communicate(b"")
    assert living.returncode == 0 and path.read_text() == ""


def test_what_cannot_be_replaced_is_written_to(tmp_path) -> None:
    write_whole(Path("/dev/null"), "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(SpecError, match="cannot be written"):
        write_whole(Path("/dev/full"), "x" * 10**5)
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "through")
    reader.join()
    assert heard == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(SpecError, match="is a folder"):
        write_whole(tmp_path, "x")


def test_a_folder_that_was_refused_closes_no_file_opened_since(tmp_path) -> None:
    """What refused it lives as long as the error: its end must not close the file that got its number."""
    (tmp_path / "kept.txt").write_text("here", "utf-8")
    with pytest.raises(SpecError) as refused:
        read_text(tmp_path, "folder")
    with (tmp_path / "kept.txt").open(encoding="utf-8") as kept:
        del refused
        gc.collect()
        assert kept.read() == "here"


def test_the_programs_own_output_can_be_named(tmp_path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("gpu,engine,kernel,dtype,m,n,k\nh100-sxm,vllm,torch_matmul,bfloat16,16,4096,4096\n")
    done = outside("predict", str(rows), "-o", "/dev/stdout")
    assert done.returncode == 0 and b"latency_us" in done.stdout and b"1 gemm row " in done.stderr
    with (tmp_path / "out.txt").open("wb") as out:
        words = [*KVPLAN, "predict", str(rows), "-o", "/dev/stdout"]
        done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, check=False)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert done.returncode == 0 and lines[0].startswith("gpu,") and len(lines) == 2 and b"1 gemm row " in done.stderr


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_rows_written_to_a_terminal_do_not_steer_it(tmp_path, output: str) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("gpu,engine,kernel,dtype,m,n,k,mine\nh100,vllm,torch_matmul,bfloat16,16,4096,4096,\x1b]0;x\x07\n")
    terminal, inside = os.openpty()
    words = [*KVPLAN, "predict", str(rows), "-o", output]
    done = subprocess.run(words, stdout=inside, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    os.close(inside)
    shown = os.read(terminal, 10_000)
    os.close(terminal)
    assert done.returncode == 0 and b"\\x1b]0;x\\x07" in shown and b"\x1b]" not in shown, (done.stderr, shown)
    piped = outside(*words[3:5], "-o", "-")
    assert b"\x1b]0;x\x07" in piped.stdout


def test_two_writers_at_once_leave_one_whole_file(tmp_path) -> None:
    path, wanted = tmp_path / "x", {letter * 300_000 for letter in "ab"}

    def write(letter: str) -> None:
        for _ in range(15):
            write_whole(path, letter * 300_000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    write("a")
    for writer in writers:
        writer.start()
    seen = {path.read_text() for _ in range(50)}
    for writer in writers:
        writer.join()
    assert seen <= wanted and path.read_text() in wanted and list(tmp_path.iterdir()) == [path]


def test_samples_survive_a_cut_at_any_byte(tmp_path) -> None:
    path = tmp_path / "s.csv"
    sample = dict.fromkeys(COLUMNS, "1") | {"group": 'a, "b"\né', "latency_us": "2.5"}
    log = SampleLog(str(path), COLUMNS)
    for _ in range(3):
        log.append(sample)
    log.close()
    whole = path.read_bytes()
    kept = read_samples(str(path), COLUMNS)
    assert len(kept) == 3
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        lines = whole[:end].count(b"\n")
        assert read_samples(str(path), COLUMNS) == kept[: max(0, lines - 1)]
        log = SampleLog(str(path), COLUMNS)
        assert log.torn == end - (whole[:end].rfind(b"\n") + 1)
        log.append(sample)
        log.close()
        assert len(read_samples(str(path), COLUMNS)) == max(1, lines)


@pytest.mark.parametrize(("column", "text"), [("latency_us", "abc"), ("bytes", ""), ("m", "1.5"), ("flops", "nan")])
def test_samples_with_a_number_that_is_none_are_refused_with_their_line(run, tmp_path, column: str, text: str) -> None:
    path = tmp_path / "s.csv"
    log = SampleLog(str(path), COLUMNS)
    for sample in ({}, {column: text}):
        log.append(dict.fromkeys(COLUMNS, "1") | {"state": ""} | sample)
    log.close()
    refused(run("calibrate", path, "-o", tmp_path / "x.yaml"), "s.csv: line 3", column)


# -- streams and interpreters ---------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "ascii", "utf-8"])
def test_any_encoding_of_the_output_works(encoding: str) -> None:
    done = outside("show", "profile", "h100-sxm", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and not done.stderr and done.stdout.decode(encoding)
    done = outside("show", "gpu", "模型×\udcff", PYTHONIOENCODING=encoding)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"bug" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_nothing_is_drawn_with_what_an_encoding_lacks(encoding: str) -> None:
    """A chart of question marks says nothing: it is left out, as of --plain."""
    words = ("simulate", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "--rate", "1")
    done = outside(*words, PYTHONIOENCODING=encoding).stdout.decode(encoding)
    assert "a chart, which is left out here." in done and "??" not in done


@pytest.mark.parametrize(("word", "code", "said"), [("-", 2, "or --format html to print"), ("", 1, "name a file")])
def test_a_page_needs_a_name(run, tmp_path, monkeypatch, word: str, code: int, said: str) -> None:
    """`--html -` wrote a file called so, and an empty name none, both without a word."""
    monkeypatch.chdir(tmp_path)
    found = run("list", "gpus", "--html", word)
    assert (found.code, found.err.count("\n")) == (code, 1) and said in found.err
    assert not any(tmp_path.iterdir())


def test_help_and_answers_survive_the_loss_of_docstrings() -> None:
    for words in (("--help",), ("estimate", "--help"), ("list", "techniques"), ("audit", "--help")):
        plain, stripped = outside(*words), outside(*words, PYTHONOPTIMIZE="2")
        assert stripped.returncode == 0 and stripped.stdout == plain.stdout and plain.stdout, stripped.stderr


def test_closed_and_broken_outputs_end_quietly() -> None:
    line = f"{sys.executable} -m kvplan"
    for shell, code, said in (
        (f"{line} list models | head -1; echo ${{PIPESTATUS[0]}}", "0", ""),
        (f"{line} list models >&-; echo $?", "1", "cannot write to stdout: Bad file descriptor"),
        (f"{line} --help >&-; echo $?", "1", "cannot write to stdout: Bad file descriptor"),
        (f"{line} list nothing >&-; echo $?", "1", "no shelf"),
        (f"{line} list models 2>&- >/dev/null; echo $?", "0", ""),
        (f"{line} list nothing 2>&-; echo $?", "1", ""),
        (f"{line} list models <&- >/dev/null; echo $?", "0", ""),
        (f"{line} list models >/dev/full; echo $?", "1", "No space left"),
    ):
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.stdout.split()[-1] == code, (shell, done)
        assert done.stderr.count("\n") <= 1 and "Exception" not in done.stderr, (shell, done.stderr)
        assert not said or said in done.stderr or said == "no shelf", (shell, done.stderr)


def test_ctrl_c_while_writing_leaves_no_draft(tmp_path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from kvplan.catalog.files import writing\n"
        "with writing(Path(sys.argv[1])) as f:\n    f.write('x'); print('ready', flush=True); time.sleep(3600)"
    )
    with python("-c", code, tmp_path / "x", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as started:
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1, "the draft"
        started.send_signal(signal.SIGINT)
        assert started.wait(PATIENCE) == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []


# -- values ---------------------------------------------------------------------------------------


def test_dates_sweeps_and_numbers_that_are_none(run, tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "source: {kind: quote, ref: x, date: soon}\nprices: [{gpu: h200, price: 2 USD/h, from: 2026-01-01}]"
    )
    refused(run("prices", "--prices", path), "source: date", "'soon'")
    sweep = tmp_path / "sweep.json"
    sweep.write_text('{"per_combination_metrics": []}')
    refused(run("validate", sweep), "holds no load")
    served = (ROOT / "profiles/serving/published.yaml").read_text("utf-8")
    for end in (".nan", ".inf", "-1"):
        path.write_text(
            served.replace("intervals:\n", f"intervals:\n  x: {{tpot: [{end}, 1.1], ttft: [0.9, 1.1]}}\n", 1)
        )
        refused(run("estimate", "-m", "qwen3-8b", "-c", "8k", "-g", "h200", "--profile", path), "above zero")
    for listed in ("architectures", "speculative"):
        path.write_text(served.replace(f"{listed}: [", f"{listed}: 5\nx: [", 1))
        refused(run("estimate", "-m", "qwen3-8b", "-c", "8k", "-g", "h200", "--profile", path), "no serving profile")
    kernels = (ROOT / "profiles/calibrations/h200.yaml").read_text("utf-8")
    for broken in ("p90", "interval: {"):
        path.write_text(kernels.replace(broken, "x" + broken))
        refused(run("show", "profile", path), "not a kernel profile")


@pytest.mark.parametrize("release", ["9" * 5000, "0." + "9" * 5000, "0.19rc" + "9" * 5000, "٣.٣", "\x1b[31m", "²"])
def test_releases_of_more_digits_than_a_number_has(run, tmp_path, release: str) -> None:
    """A release is refused or taken for one without a number, wherever it is written."""
    asked = run("estimate", "-m", "qwen3-8b", "-c", "8k", "-g", "h200", "--engine", f"vllm@{release}")
    if "rc" in release:
        assert asked.code == 0, asked.err
    else:
        refused(asked, "vllm@0.")
    rows, own = tmp_path / "rows.csv", tmp_path / "own.yaml"
    rows.write_text(
        "model,gpu,engine,engine_version,isl,osl,concurrency,tp,ttft_ms,tpot_ms\n"
        f"llama3.1-8b,h100-sxm,vllm,{release},512,128,8,1,20,7\n"
    )
    for words in (("validate", rows), ("predict", rows, "-o", tmp_path / "out.csv")):
        found = run(*words)
        assert found.code == 0 and not [mark for mark in STEERING if mark in found.out + found.err], found.err
    engine = (ROOT / "profiles/engines/vllm.yaml").read_text("utf-8")
    own.write_text(engine.replace("releases:\n", f"releases:\n  {json.dumps(release[:200])}: {{}}\n"))
    refused(run("show", "engine", own), "releases", "'0.19'")


LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 10,
    "intermediate_size": 128, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({f"k{i}": i for i in range(400_000)}, "400,007 fields"),
        ({"quantization_config": {"quant_method": "fp8", "ignore": ["re:(a+)+$"]}}, "take forever"),
        ({"quantization_config": {"quant_method": "fp8", "ignore": ["re:" + ".*" * 30 + "b"]}}, "take forever"),
        ({"vocab_size": [0] * 100_000}, "vocab_size must be a whole number"),
        ({"vocab_size": "\x1b" * 10_000}, "\\x1b"),
    ],
    ids=["fields", "nested", "repeats", "list", "text"],
)
def test_configs_that_would_take_forever_are_refused(run, tmp_path, more: dict, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, **more}))
    with bounded():
        refused(run("memory", "-m", path, "-c", "1k"), said)


def test_what_json_lacks_is_shown_in_words(run, tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "a": float("nan"), "b": [float("inf")], "c": 10**400, "d": "x" * 10**6}))
    shown = run("show", "model", path, "--json")
    fields = {entry["field"]: entry["value"] for entry in json.loads(shown.out, parse_constant=pytest.fail)["fields"]}
    assert fields["config.a"] == "nan" and fields["config.b"] == ["inf"] and "config.d" not in fields
    assert run("show", "model", path).code == 0


def test_only_files_of_samples_are_set_aside(tmp_path):
    header = ",".join(COLUMNS) + "\n"
    rows, notes, link, pipe = (tmp_path / name for name in ("mine.csv", "notes.csv", "link.csv", "pipe.csv"))
    rows.write_text(header)
    notes.write_text("my own notes\n")
    link.symlink_to(notes)
    os.mkfifo(pipe)
    assert set_aside(str(rows), COLUMNS) == "mine.previous.csv"
    rows.write_text(header + "second\n")
    assert set_aside(str(rows), COLUMNS) == "mine.previous.2.csv"
    assert (tmp_path / "mine.previous.csv").read_text() == header
    assert set_aside(str(rows), COLUMNS) is None
    with pytest.raises(SpecError, match="holds no samples"):
        set_aside(str(notes), COLUMNS)
    for strange in (link, pipe):
        with pytest.raises(SpecError, match="not a plain file"):
            set_aside(str(strange), COLUMNS)
    assert notes.read_text() == "my own notes\n" and link.is_symlink() and pipe.is_fifo()


def test_an_input_is_never_replaced_or_read_twice(tmp_path, run):
    rows = tmp_path / "all_reduce.csv"
    rows.write_text("gpu,gpus,bytes,dtype,latency_us\nh100,2,1024,float16,10\n")
    for words in (
        ("predict", rows, "-o", rows),
        ("calibrate", rows, "-o", rows),
        ("calibrate", rows, tmp_path / "." / "all_reduce.csv", "-o", tmp_path / "x.yaml"),
    ):
        found = run(*map(str, words))
        assert found.code == 1 and ("would be replaced" in found.err or "given twice" in found.err)
    assert rows.read_text().endswith("10\n") and not (tmp_path / "x.yaml").exists()


@pytest.mark.parametrize("rate", ["1e-300", "1e-10", "1e13"])
def test_a_rate_nobody_has_is_refused(rate, run):
    refused(run("load", "-m", "llama3-8b", "-g", "h100", "--isl", "100", "--osl", "10", "--rate", rate), "--rate")


def test_a_page_wider_than_any_terminal_is_not_laid_out(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "999999999")
    found = run("list", "engines")
    assert found.code == 0 and max(map(len, found.out.splitlines())) < 200


def test_an_error_is_plain_text_wherever_it_is_caught():
    said = str(SpecError("a\x1b]0;title\x07b\n" + "c" * 9000))
    assert "\x1b" not in said and "\n" not in said and len(said) < 1100
