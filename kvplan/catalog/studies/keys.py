"""Keys of a study's points: a digest of the point and of what its answer stands on."""

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from kvplan.specs.sweep import Value

#: bytes of a key, and those that the ledger looks at
BYTES, LOOKED_AT = 16, 8


def key_of(ask: str, values: Mapping[str, Value], marks: Iterable[str]) -> bytes:
    """Return the key of a point: of its question, its values, and the digests of what its answer stands on."""
    canonical = json.dumps([ask, sorted(values.items()), list(marks)], separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=BYTES).digest()


class Ledger:
    """The keys of all points of a study, and which of them have an answer; 25 bytes a point.

    Eight bytes tell points apart: among ten million, two would be taken for one with a probability of 3e-6.
    """

    def __init__(self, keys: Iterable[bytes]):
        self.keys = bytearray()
        for key in keys:
            self.keys += key
        self.order = array("Q", sorted(self._short(n) for n in range(len(self))))
        self.seen = bytearray(len(self.order))

    def __len__(self) -> int:
        return len(self.keys) // BYTES

    def __getitem__(self, number: int) -> bytes:
        """Return the key of the point that was given as number `number`."""
        return bytes(self.keys[number * BYTES : (number + 1) * BYTES])

    def _short(self, number: int) -> int:
        return int.from_bytes(self.keys[number * BYTES : number * BYTES + LOOKED_AT], "big")

    def _place(self, key: bytes) -> int | None:
        short = int.from_bytes(key[:LOOKED_AT], "big")
        place = bisect_left(self.order, short)
        return place if place < len(self.order) and self.order[place] == short else None

    def note(self, key: bytes) -> bool:
        """Note that a point has an answer; return whether it is one of the study's and had none before."""
        place = self._place(key)
        if place is None or self.seen[place]:
            return False
        self.seen[place] = 1
        return True

    def has(self, key: bytes) -> bool:
        """Return whether a point has an answer."""
        place = self._place(key)
        return place is not None and bool(self.seen[place])

    def forget(self) -> None:
        """Begin again: no point has an answer."""
        self.seen = bytearray(len(self.order))

    @property
    def answered(self) -> int:
        """Points that have an answer."""
        return sum(self.seen)
