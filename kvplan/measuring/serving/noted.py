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


def with_noted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns with what its note says besides; a column that is filled counts before its note."""
    note = str(values.get("note") or "")
    found = {column: match[1] for column, words in WORDED.items() if (match := words.search(note))}
    return {**found, **{column: value for column, value in values.items() if column not in found or value}}


def uncounted_hits(values: Mapping[str, Any]) -> bool:
    """Return whether a row's prompts were partly in a prefix cache, by how much nobody says."""
    return bool(UNCOUNTED.search(str(values.get("note") or ""))) and not values.get("prefix_hit")
