"""Rows of measured kernels: which kind they are, and reading them strictly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.errors import KvplanError, SpecError, shown
from kvplan.perf.kernel_profile import KINDS, KernelCall, Kind, element_bits, product_bits
from kvplan.units import parse

MEASURED = "latency_us"
#: columns that only a file of serving points has
SERVING = {"concurrency", "osl"}
#: columns that rows of any kind have
COMMON = {"gpu", "engine", "kernel", "dtype", "model", "isl", "tpot_ms", "ttft_ms", MEASURED, *SERVING}
#: what is to be handed in where a file holds nothing of the kind
WANTED = (
    "give a CSV file whose first line names columns such as gpu, kernel, latency_us (docs/files.md), or the result "
)
WANTED += "file (.json) of a benchmark tool"
#: sizes no kernel comes near; beyond them a number is a slip
LARGEST = 10**12


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One call of a kernel as a file holds it."""

    shape: KernelCall  #: the call that was measured
    line: int  #: its line in the file
    time: float | None  #: measured time [s], None where the file has none


def is_serving(columns: list[str], stated: str | None) -> bool:
    """Return whether a file holds end-to-end rows: as stated, or by its columns."""
    return stated == "e2e" or (stated is None and set(columns) >= SERVING)


def kind_of(columns: list[str], stated: str | None, name: str, measured: bool) -> Kind:
    """Return the kind of rows a file called `name` holds, as stated, else by its columns.

    Raises SpecError where columns are missing, that of the time too where it is to be `measured`.
    """
    kind = _kind(columns, stated, name)
    if measured and MEASURED not in columns:
        raise SpecError(f"{name}: line 1: missing column {shown(MEASURED)}, the measured time")
    return kind


def _kind(columns: list[str], stated: str | None, name: str) -> Kind:
    if is_serving(columns, stated):
        raise SpecError(f"{name}: holds end-to-end rows; expected rows of kernels: {', '.join(KINDS)}")
    fitting = [k for k in KINDS.values() if set(columns) >= {*k.sizes, *k.texts}]
    if stated is not None:
        missing = sorted({*KINDS[stated].sizes, *KINDS[stated].texts} - set(columns))
        if missing:
            raise SpecError(f"{name}: line 1: missing column {shown(missing[0])}, which {stated} rows need")
        return KINDS[stated]
    if not fitting:
        near = max(KINDS.values(), key=lambda k: len({*k.sizes, *k.texts} & set(columns)))
        if not {*near.sizes, *near.texts, *COMMON} & set(columns):
            raise SpecError(f"{name}: line 1: missing columns of measured rows; {WANTED}")
        missing = sorted({*near.sizes, *near.texts} - set(columns))
        raise SpecError(
            f"{name}: line 1: missing column {shown(missing[0])}; taken for {near.name} rows, else write kind=NAME"
        )
    return max(fitting, key=lambda k: len(k.sizes))


def read_rows(
    kind: Kind, raw: list[dict[str, Any]], place: str, gpu: Callable[[str], str], line: str, measured: bool
) -> list[KernelRow]:
    """Return the rows of a file; `gpu` resolves a GPU's spelling, `line` names the field with a row's line."""
    seen: dict[str, str] = {}
    return [_row(kind, entry, f"{place}: line {entry[line]}", entry[line], gpu, seen, measured) for entry in raw]


def _row(
    kind: Kind,
    entry: Mapping[str, Any],
    place: str,
    line: int,
    gpu: Callable[[str], str],
    seen: dict[str, str],
    measured: bool,
) -> KernelRow:
    for name in kind.texts:
        if not entry[name].strip():
            raise SpecError(f"{place}: {name}: is empty")
    spelled = entry["gpu"].strip()
    if spelled not in seen:
        seen[spelled] = _checked(gpu, spelled, f"{place}: gpu")
    dtypes = tuple(entry[name].strip() for name in kind.dtypes)
    for name, dtype in zip(kind.dtypes, dtypes, strict=True):
        _checked(product_bits if kind.name == "gemm" else element_bits, dtype, f"{place}: {name}")
    version = entry["engine"].strip()
    shape = KernelCall(
        kind=kind.name,
        gpu=seen[spelled],
        engine=version.split("-")[0].lower(),
        version=version,
        kernel=entry[kind.kernel].strip(),
        dtypes=dtypes,
        sizes={name: _size(entry[name], f"{place}: {name}") for name in kind.sizes},
    )
    if shape.kind == "all_reduce" and shape.sizes["n_gpus"] < 2:
        raise SpecError(f"{place}: n_gpus: expected at least 2, got {shown(entry['n_gpus'])}")
    return KernelRow(shape=shape, line=line, time=_time(entry, place) if measured else None)


def _checked(read: Callable[[str], Any], text: str, place: str) -> Any:
    try:
        return read(text)
    except KvplanError as error:
        raise SpecError(f"{place}: {error}") from None


def _size(text: str, place: str) -> int:
    number = parse(text, "1", place)
    if number != int(number) or not 1 <= number <= LARGEST:
        raise SpecError(f"{place}: expected a whole number from 1, got {shown(text)}")
    return int(number)


def _time(entry: Mapping[str, Any], place: str) -> float:
    time = parse(f"{entry[MEASURED]} us", "s", f"{place}: {MEASURED}")
    if time <= 0:
        raise SpecError(f"{place}: {MEASURED}: expected a time above zero, got {shown(entry[MEASURED])}")
    return time
