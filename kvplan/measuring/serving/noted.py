"""What a row's note says of its server in passing: settings and counts that collections of rows keep no column for."""

import re
from collections.abc import Mapping
from typing import Any

#: column -> how notes word it, the number in its first group
WORDED = {
    # replicas behind one address: requests of the row are those of all
    "replicas": re.compile(r"\b(\d+) replicas? of\b"),
    "prefix_hit": re.compile(r"\bprefix hit rate (\d+(?:\.\d+)?)"),
    "running": re.compile(r"\brunning batch (\d+(?:\.\d+)?)"),
    "kv_memory_gib": re.compile(r"\bAvailable KV cache memory[^:;]*: (\d+(?:\.\d+)?) GiB"),
    "max_num_seqs": re.compile(r"(?:--|\b)max[-_](?:num[-_]seqs|running[-_]requests)[ =](\d+)"),
    "max_num_batched_tokens": re.compile(
        r"(?:--|\b)(?:max[-_]num[-_]batched[-_]tokens|max_num_tokens|chunked-prefill-size)[ =](\d+)"
    ),
}
#: prefixes were found in a cache, and nobody counted how much of a prompt
UNCOUNTED = re.compile(r"\bprefix hits \(|\bmost of the prompt is reused", re.IGNORECASE)

#: runs of one suite that a row counts together. Its open loops at three rates end after 4.1 s a request each where 100
#: are of a run, and at 135 % of an H20's peak where 200 are; those of the other suites have theirs all in one run
POOLED = re.compile(r"\bruns pooled \((\d+) for suite (\w)\)")

#: SGLang's attention data parallelism, whose ranks are inside the tensor-parallel group
INSIDE = re.compile(r"-{2}enable-dp-attention\b")

#: sections in which rows of a baseline on another engine stand beside those of the command that all of them name
MIXED = re.compile(r"\bOther Benchmark Cases\b")


def with_noted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns with what its note says besides; a column that is filled counts before its note."""
    note = str(values.get("note") or "")
    found = {column: match[1] for column, words in WORDED.items() if (match := words.search(note))}
    read = {**found, **{column: value for column, value in values.items() if column not in found or value}}
    tensor, ranks = (str(values.get(column) or "") for column in ("tp", "attention_dp"))
    if INSIDE.search(note) and tensor == ranks:  # GPUs are tp x attention_dp: those of one group were counted twice
        read["tp"] = "1"
    return read


def pooled(values: Mapping[str, Any]) -> int:
    """Return how many runs of an open loop a row's requests are of."""
    match = POOLED.search(str(values.get("note") or ""))
    if not match or not values.get("rate") or f"suite_{match[2]}" not in str(values.get("group") or ""):
        return 1
    return int(match[1])


def uncounted_hits(values: Mapping[str, Any]) -> bool:
    """Return whether a row's prompts were partly in a prefix cache, by how much nobody says."""
    return bool(UNCOUNTED.search(str(values.get("note") or ""))) and not values.get("prefix_hit")


def mixed(values: Mapping[str, Any]) -> bool:
    """Return whether a row's note stands for rows of two servers, of which nothing says whose it is."""
    return bool(MIXED.search(str(values.get("note") or "")))


def folder_named(source: str) -> str:
    """Return what the folder of the file that a row is from is called, '' where it says none."""
    _, _, path = source.partition(":")
    return "".join(path.split("/")[-2:-1])
