"""A field's meaning and unit, told at the field; tables of them are made from the class."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def about(meaning: str, unit: str = "", *, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Return the metadata of a field: what it means, its unit, and the least and greatest value it may have."""
    return {"meaning": meaning, "unit": unit, "low": low, "high": high}


def described(owner: type) -> dict[str, Mapping[str, Any]]:
    """Return the metadata of every field of a dataclass that `about` describes, in the order of the class."""
    return {f.name: f.metadata for f in fields(owner) if f.metadata}
