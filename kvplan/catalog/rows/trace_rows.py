"""Requests of a trace, as each format writes them: rows of CSV files, lines of JSON, results of benchmark tools."""

import hashlib
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kvplan.errors import SpecError, shown

#: tokens of a block of Mooncake's hashes; digits of a moment that Python reads
BLOCK, MICROSECONDS = 512, 26
#: more tokens than a request has
MOST_TOKENS = 100_000_000
#: higher priorities than anyone has
MOST_RANK = 1_000_000_000
#: nanoseconds and milliseconds of a second
NANO, MILLI = 1e9, 1e3


class Arrival(NamedTuple):
    """One request of a trace."""

    at: float  #: arrival [s]
    input: int  #: tokens of its prompt [token]
    output: int  #: tokens of its answer, 0 where there was none [token]
    rank: int = 0  #: priority, the lowest first
    chain: tuple[tuple[int, int], ...] = ()  #: (hash, tokens up to its end) of shared prefix blocks


Row = dict[str, Any]
#: reads a row; its place stands in messages
Read = Callable[[Row, str], Arrival]


# -- values ---------------------------------------------------------------------------------------


def _count(value: object, location: str, least: int) -> int:
    number = _number(value, location)
    if not least <= number <= MOST_TOKENS or number != int(number):
        wanted = f"a whole number of tokens from {least} to {MOST_TOKENS:,}"
        raise SpecError(f"{location}: expected {wanted}, got {shown(value)}")
    return int(number)


def _rank(value: object, location: str) -> int:
    number = _number(value, location)
    if number != int(number) or abs(number) > MOST_RANK:
        raise SpecError(f"{location}: expected a whole number, the lowest first, got {shown(value)}")
    return int(number)


def _number(value: object, location: str) -> float:
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SpecError(f"{location}: expected a number, got {shown(value)}")
    return number


def _moment(value: str, location: str) -> float:
    """Return a time of day or a number of seconds as seconds."""
    text = value.strip()
    if ":" not in text:
        return _number(text, location)
    base, sign, zone = text, "", ""
    for mark in ("+", "Z"):
        if mark in text[11:]:
            base, sign, zone = text[: text.rindex(mark)], mark, text[text.rindex(mark) + 1 :]
    try:
        moment = datetime.fromisoformat(base[:MICROSECONDS] + sign + zone)
    except ValueError:
        raise SpecError(
            f"{location}: expected a date and time, as in 2023-11-16 18:15:46.68, got {shown(value)}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def hash_of(text: str) -> int:
    """Return a number that stands for a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


# -- formats of rows ------------------------------------------------------------------------------


def azure(row: Row, location: str) -> Arrival:
    """Read a row of Azure's traces of LLM inference (Splitwise and after)."""
    return Arrival(
        _moment(row["TIMESTAMP"], f"{location}: TIMESTAMP"),
        _count(row["ContextTokens"], f"{location}: ContextTokens", 1),
        _count(row["GeneratedTokens"], f"{location}: GeneratedTokens", 0),
    )


def mooncake_csv(row: Row, location: str) -> Arrival:
    """Read a row of Mooncake's traces without hashes."""
    return Arrival(
        _number(row["timestamp_ms"], f"{location}: timestamp_ms") / MILLI,
        _count(row["input_length"], f"{location}: input_length", 1),
        _count(row["output_length"], f"{location}: output_length", 0),
    )


def mooncake(row: Row, location: str) -> Arrival:
    """Read a line of Mooncake's traces, with the hashes of its blocks."""
    length, hashes = _count(row.get("input_length"), f"{location}: input_length", 1), row.get("hash_ids", [])
    if not isinstance(hashes, list) or not all(isinstance(h, int) and 0 <= h < 1 << 60 for h in hashes):
        raise SpecError(f"{location}: hash_ids: expected a list of whole numbers, got {shown(hashes)}")
    chain = tuple((h, min(BLOCK * (i + 1), length)) for i, h in enumerate(hashes) if BLOCK * i < length)
    return Arrival(
        _number(row.get("timestamp"), f"{location}: timestamp") / MILLI, length,
        _count(row.get("output_length"), f"{location}: output_length", 0), 0, chain,
    )  # fmt: skip


def burstgpt(row: Row, location: str) -> Arrival:
    """Read a row of BurstGPT's traces; a failed request has no response tokens."""
    return Arrival(
        _number(row["Timestamp"], f"{location}: Timestamp"),
        _count(row["Request tokens"], f"{location}: Request tokens", 0) or 1,
        _count(row["Response tokens"], f"{location}: Response tokens", 0),
    )


def generic(row: Row, location: str) -> Arrival:
    """Read a row of a trace of one's own: arrival, input, output, and maybe prefix, prefix_tokens and priority."""
    length = _count(row["input"], f"{location}: input", 1)
    prefix = str(row.get("prefix", "")).strip()
    chain: tuple[tuple[int, int], ...] = ()
    if prefix:
        prefix_text = str(row.get("prefix_tokens", "")).strip()
        tokens = _count(prefix_text, f"{location}: prefix_tokens", 0) if prefix_text else length
        chain = ((hash_of(prefix), min(tokens, length)),) if tokens else ()
    rank = _rank(row["priority"], f"{location}: priority") if str(row.get("priority", "")).strip() else 0
    output = _count(row["output"], f"{location}: output", 0)
    return Arrival(_moment(row["arrival"], f"{location}: arrival"), length, output, rank, chain)


def aiperf(row: Row, location: str) -> Arrival:
    """Read a line of AIPerf's profile_export.jsonl."""
    metrics, start = row.get("metrics") or {}, (row.get("metadata") or {}).get("request_start_ns")

    def tokens(name: str, least: int) -> int:
        metric = metrics.get(name)
        return _count(metric.get("value") if isinstance(metric, dict) else metric, f"{location}: metrics.{name}", least)

    failed = row.get("error") is not None
    output = 0 if failed else tokens("output_sequence_length", 0)
    length = 1 if failed else tokens("input_sequence_length", 1)
    return Arrival(_number(start, f"{location}: metadata.request_start_ns") / NANO, length, output)


# -- results of benchmark tools -------------------------------------------------------------------


def vllm(document: Row, location: str) -> list[Arrival]:
    """Return the requests in a result of vLLM's benchmark, saved in detail."""
    columns = [document.get(name) for name in ("start_times", "input_lens", "output_lens")]
    if not isinstance(columns[0], list):
        raise SpecError(f"{location}: start_times: not there, so when its requests came is unknown; give a result of "
                        "vLLM 0.11 or later with --save-detailed")  # fmt: skip
    if not all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns):
        raise SpecError(f"{location}: start_times, input_lens and output_lens differ in length")
    rows = enumerate(zip(*columns, strict=True))
    return [
        Arrival(
            _number(at, f"{location}: start_times[{i}]"), _count(read, f"{location}: input_lens[{i}]", 1),
            _count(written, f"{location}: output_lens[{i}]", 0),
        )
        for i, (at, read, written) in rows
    ]  # fmt: skip


def _at(holder: Any, *names: str) -> Any:
    for name in names:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def guidellm(document: Row, location: str) -> list[Arrival]:
    """Return the requests in a result of GuideLLM."""
    if len(document["benchmarks"]) != 1:
        raise SpecError(f"{location}: benchmarks: holds {len(document['benchmarks'])} loads; give a result of one")
    here = f"{location}: benchmarks[0].requests.successful"
    requests = _at(document["benchmarks"][0], "requests", "successful")
    if not isinstance(requests, list) or not requests:
        raise SpecError(f"{here}: not there; save the result as JSON with all requests")
    rows = []
    for i, one in enumerate(requests):
        lengths = [
            _at(one, f"{kind}_tokens") or _at(one, f"{other}_metrics", "text_tokens")
            for kind, other in (("prompt", "input"), ("output", "output"))
        ]
        rows.append(
            Arrival(
                _number(_started(one), f"{here}[{i}].request_start_time"),
                _count(lengths[0], f"{here}[{i}].prompt_tokens", 1),
                _count(lengths[1], f"{here}[{i}].output_tokens", 0),
            )
        )
    return [*rows, *_unanswered(document["benchmarks"][0])]


def _started(one: Row) -> object:
    """Return when GuideLLM sent a request, as its releases name it. [s]"""
    starts = (
        _at(one, "request_start_time"), _at(one, "info", "timings", "request_start"),
        _at(one, "scheduler_info", "request_timings", "request_start"), _at(one, "start_time"),
    )  # fmt: skip
    return next((s for s in starts if s is not None), None)


def _unanswered(benchmark: Row) -> list[Arrival]:
    """Return requests that failed, or were cut off at the end; those that were never sent have no time."""
    others = (*(_at(benchmark, "requests", "errored") or ()), *(_at(benchmark, "requests", "incomplete") or ()))
    times = (_started(one) for one in others if isinstance(one, dict))
    return [Arrival(float(at), 1, 0) for at in times if isinstance(at, (int, float)) and math.isfinite(at)]
