"""The PTX that quantised decode converts codes with, which no interpreter runs: here it is run, for all codes."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from kvplan.kernels import quantised_decode  # noqa: E402

#: every pair of bytes, beside another
PAIRS = np.stack([np.arange(2**16), np.random.default_rng(0).permutation(2**16)], 1).astype(np.uint32)


def executed(ptx: str, given: np.ndarray) -> np.ndarray:
    """Return $0 of a few instructions over 32-bit registers (PTX ISA 8: shr, mov, lop3, prmt, sub, fma, cvt) for $1."""
    kept: dict[str, np.ndarray] = {"$1": given.astype(np.uint32)}

    def value(word: str) -> np.ndarray:
        return kept[word] if word in kept else np.full(given.shape, int(word, 0), np.uint32)

    def halves(word: str) -> np.ndarray:
        return value(word).view(np.float16).astype(np.float64)

    for line in filter(None, (part.strip() for part in ptx.strip("{}").split(";"))):
        name, rest = line.split(" ", 1)
        words = re.findall(r"[$\w]+", rest)
        match name:
            case ".reg":
                continue
            case "mov.b32" if len(words) == 3:
                kept[words[0]], kept[words[1]] = value(words[2]) & 0xFFFF, value(words[2]) >> 16
            case "mov.b32":
                kept[words[0]] = value(words[1])
            case "shr.u32":
                kept[words[0]] = value(words[1]) >> value(words[2])
            case "lop3.b32":
                a, b, c = (value(word) for word in words[1:4])
                assert int(words[4], 0) == (0xF0 & 0xCC) ^ 0xAA  # the look-up table of (a & b) ^ c
                kept[words[0]] = (a & b) ^ c
            case "prmt.b32":
                both = value(words[1]).astype(np.uint64) | value(words[2]).astype(np.uint64) << np.uint64(32)
                chosen = [int(words[3], 0) >> 4 * place & 7 for place in range(4)]
                taken = [(both >> np.uint64(8 * byte) & np.uint64(255)).astype(np.uint32) for byte in chosen]
                kept[words[0]] = sum(byte << np.uint32(8 * place) for place, byte in enumerate(taken))
            case "sub.f16x2":
                kept[words[0]] = (halves(words[1]) - halves(words[2])).astype(np.float16).view(np.uint32)
            case "fma.rn.f16x2":
                found = halves(words[1]) * halves(words[2]) + halves(words[3])
                kept[words[0]] = found.astype(np.float16).view(np.uint32)
            case "cvt.rn.f16x2.e4m3x2":
                codes = torch.from_numpy(value(words[1]).astype(np.uint16).view(np.uint8).copy())
                numbers = codes.view(torch.float8_e4m3fn).to(torch.float16).numpy()
                kept[words[0]] = numbers.view(np.uint32)
            case _:
                raise AssertionError(line)
    return kept["$0"].view(np.float16).reshape(-1, 2)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("INT8_FIRST", lambda x: (x & 255).astype(np.uint8).view(np.int8)),
        ("INT8_SECOND", lambda x: (x >> 8).astype(np.uint8).view(np.int8)),
        ("FP8_FIRST", lambda x: (x & 255).astype(np.uint8)),
        ("FP8_SECOND", lambda x: (x >> 8).astype(np.uint8)),
        ("LOW_FIRST", lambda x: x & 15),
        ("LOW_SECOND", lambda x: x >> 8 & 15),
        ("HIGH_FIRST", lambda x: x >> 4 & 15),
        ("HIGH_SECOND", lambda x: x >> 12),
    ],
)
def test_every_code_becomes_its_number(name: str, wanted) -> None:
    found = executed(getattr(quantised_decode, name).value, PAIRS[:, 0] | PAIRS[:, 1] << 16)
    codes = wanted(PAIRS)
    if name.startswith("FP8"):
        numbers = torch.from_numpy(codes.copy()).view(torch.float8_e4m3fn).to(torch.float32).numpy()
    else:
        numbers = codes.astype(np.float32)
    assert np.array_equal(found.astype(np.float32), numbers, equal_nan=True)
