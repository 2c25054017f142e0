"""Reading result files of benchmark tools: JSON, JSON lines, YAML, CSV or a printed table, told by what they hold.

Large ones list the time of every token of every request.
"""

import csv
import json
import re
from typing import Any

from kvplan.catalog.files import (
    MAX_FILE,
    MAX_TABLE,
    Document,
    called,
    check_size,
    path_of,
    read_text,
    read_yaml,
    reading,
)
from kvplan.errors import SpecError

#: a result with every token's time of 10,000 requests has some 200 MB
MAX_RESULT = 300_000_000
#: lists with one entry per request or token: never looked at, and nearly all of a detailed file
PER_REQUEST = frozenset(("requests", "itls", "ttfts", "generated_texts", "input_lens", "output_lens", "start_times"))
#: how a file is written by its name, where its first line does not say
NAMES = {"json": (".json", ".jsonl", ".ndjson"), "yaml": (".yaml", ".yml")}
#: how JSON begins, and YAML in braces does not
JSON_OPENS = re.compile(r'\s*[\[{]+\s*(?:$|["}\]])')
#: how YAML begins once its comments are gone: a field
FIELD = re.compile(r"\s*[A-Za-z_]+:(\s|$)")
#: columns of the one tool that writes its results as CSV (llama-bench)
CSV_RESULT = frozenset(("n_prompt", "n_gen", "avg_ns"))
#: columns of the table that it prints, and what it prints before and after it: GPUs at work, and its build
TABLE = frozenset(("model", "test", "t/s"))
DEVICE = re.compile(r"^\s*Device \d+: ([^,\n]+),|^ggml_vulkan: \d+ = ([^(|\n]+)", re.MULTILINE)
BUILD = re.compile(r"^build: \w+ \((\d+)\)", re.MULTILINE)
#: how the summary begins that `vllm bench serve` and SGLang's bench_serving print
SUMMARY = re.compile(r"^.*=+ Serving Benchmark Result =+\s*$", re.MULTILINE)
#: what a line of it is called in the JSON that the tools save
SUMMARY_KEYS = {
    "backend": "backend", "traffic request rate": "request_rate", "request rate configured (rps)": "request_rate",
    "max request concurrency": "max_concurrency", "maximum request concurrency": "max_concurrency",
    "successful requests": "completed", "failed requests": "failed", "benchmark duration (s)": "duration",
    "total input tokens": "total_input_tokens", "total generated tokens": "total_output_tokens",
    "mean e2e latency (ms)": "mean_e2e_latency_ms", "mean e2el (ms)": "mean_e2el_ms", "accept length": "accept_length",
}  # fmt: skip
#: the lines of its times, as in 'P99 TTFT (ms)'
SUMMARY_TIME = re.compile(r"(mean|median|p\d{1,2}) (ttft|tpot|itl) \(ms\)")
#: lines at the head of a file that may be comments, and letters of each that are looked at
HEAD, WIDTH = 50, 4000


def holds_results(word: str) -> bool:
    """Return whether a file holds a benchmark's result, not a table of rows; raise SpecError where it is none at all.

    Nothing but its first lines is read; its name counts only where they do not say.
    """
    return _written(word) != "table"


def _written(word: str) -> str:
    """Return how a file is written: as json, yaml, csv, printed or a summary (results), or as a table of rows."""
    path = path_of(word)
    with reading(path, called(path), MAX_TABLE) as file:
        lines = [file.readline(WIDTH) for _ in range(HEAD)]
    first = next((line for line in lines if line.strip() and not line.startswith(("#", "---"))), "")
    if any(set(_cells(line)) >= TABLE for line in lines):
        return "printed"
    if any(SUMMARY.match(line.rstrip("\n")) for line in lines):
        return "summary"
    named = next((kind for kind, names in NAMES.items() if path.suffix.lower() in names), "table")
    if first.lstrip().startswith(("{", "[")):
        return "yaml" if named == "yaml" and not JSON_OPENS.match(first) else "json"
    if set(next(csv.reader([first]), ())) >= CSV_RESULT:
        return "csv"
    return "yaml" if FIELD.match(first) else named


def _light(key: str, value: Any) -> bool:
    """Whether a value is worth keeping: it is no list of requests or tokens, and no mapping of such lists."""
    if key not in PER_REQUEST:
        return True
    return not isinstance(value, list) and not (
        isinstance(value, dict) and any(isinstance(v, list) for v in value.values())
    )


def _lighter(pairs: list[tuple[str, Any]]) -> Document:
    return {key: value for key, value in pairs if _light(key, value)}


def read_results(word: str) -> tuple[str, list[Document]]:
    """Return a file's name and its results without their per-request lists.

    JSON holds one object, a list of them, or one after another, as tools that append write it; YAML holds one; CSV
    and printed tables hold one a line, all of it text. Raises SpecError.
    """
    path = path_of(word)
    location, written = called(path), _written(word)
    if written == "yaml":
        return location, [read_yaml(read_text(path, location), location, typed=True)]
    if written == "csv":
        return location, _lines(read_text(path, location, MAX_FILE), location)
    if written == "printed":
        return location, _printed(read_text(path, location, MAX_FILE), location)
    if written == "summary":
        return location, _summaries(read_text(path, location, MAX_FILE))
    text = read_text(path, location, MAX_RESULT)
    check_size(text, location)
    objects = _objects(text, location)
    if not objects:
        raise SpecError(f"{location}: is empty; give the file that the benchmark saved")
    for entry in objects:
        if not isinstance(entry, dict):
            raise SpecError(f"{location}: expected an object, got {type(entry).__name__}")
    return location, objects


def _lines(text: str, location: str) -> list[Document]:
    rows = csv.DictReader(text.splitlines())
    try:
        lines = list(rows)
    except csv.Error as error:
        raise SpecError(f"{location}: line {rows.line_num}: {error}") from None
    if short := next((n for n, row in enumerate(lines, 2) if None in row or None in row.values()), None):
        raise SpecError(f"{location}: line {short}: expected {len(rows.fieldnames or ())} values, as line 1 names")
    if not lines:
        raise SpecError(f"{location}: holds no rows below its header")
    return list(lines)


def _cells(line: str) -> list[str]:
    """Return the cells of a line of a printed table, [] for any other line."""
    line = line.strip()
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") and line.endswith("|") else []


def _printed(text: str, location: str) -> list[Document]:
    """Return the rows of the printed tables in a text, with the GPUs and the build that it names."""
    gpus = [(cuda or vulkan).strip() for cuda, vulkan in DEVICE.findall(text)]
    build = BUILD.search(text)
    about = {"gpu_info": ", ".join(gpus), "build_number": build[1] if build else ""}
    heading: list[str] = []
    rows: list[Document] = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = _cells(line)
        if set(cells) >= TABLE:
            heading = cells
        elif heading and cells and not all(set(cell) <= set("-: ") for cell in cells):
            if len(cells) != len(heading):
                raise SpecError(f"{location}: line {number}: expected {len(heading)} cells, as the table's head has")
            rows.append({**dict(zip(heading, cells, strict=True)), **about})
    if not rows:
        raise SpecError(f"{location}: holds no rows below its header")
    return rows


def _summaries(text: str) -> list[Document]:
    """Return the printed summaries in a text, by the names that the JSON of the same tools gives their lines."""
    found: list[Document] = []
    for part in SUMMARY.split(text)[1:]:
        summary: Document = {"printed": "serving"}
        for line in part.splitlines():
            label, _, value = line.rpartition(":")
            label = label.strip().rpartition("] ")[2].lower()
            time = SUMMARY_TIME.fullmatch(label)
            key = f"{time[1]}_{time[2]}_ms" if time else SUMMARY_KEYS.get(label, "")
            if key and value.strip() not in ("", "not set", "None"):
                summary.setdefault(key, _number(value.strip()))
        found.append(summary)
    return found


def _number(value: str) -> float | str:
    """Return a printed number, any other word ('inf', 'sglang') as it is."""
    return float(value) if re.fullmatch(r"\d+(?:\.\d+)?", value) else value


def _objects(text: str, location: str) -> list[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_lighter)
    objects: list[Any] = []
    at, end = 0, len(text.rstrip())
    try:
        while at < end:
            while text[at].isspace():
                at += 1
            value, at = decoder.raw_decode(text, at)
            objects += value if isinstance(value, list) else [value]
    except json.JSONDecodeError as error:
        cut = error.pos >= end or error.msg.startswith("Unterminated")
        more = "; the file ends too early: was it saved whole?" if cut else ""
        raise SpecError(f"{location}: line {error.lineno}: {error.msg}{more}") from None
    except (ValueError, RecursionError):
        raise SpecError(f"{location}: nested too deeply, or a number too large") from None
    return objects
