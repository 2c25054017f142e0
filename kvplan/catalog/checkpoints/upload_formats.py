"""The weight format that an upload's name ends with, as in `Qwen3-32B-quantized.w4a16` and `...-UD-Q4_K_XL-GGUF`."""

import re
from dataclasses import dataclass, replace

from kvplan.architectures.formats import DYNAMIC, FORMATS, GGUF, UPLOADED, WIDE_ENDS, WeightFormat
from kvplan.catalog.checkpoints.makers import maker
from kvplan.catalog.lookup import plain
from kvplan.errors import SpecError, shown


def _spelt(width: str) -> str:
    """Return the pattern of a mixture's name; an 'XL' that is nobody else's may stand without its 'UD'."""
    alone = width.endswith("-xl") and width.removeprefix("ud-") not in WIDE_ENDS
    return width.replace("ud-", "(?:ud-)?" if alone else "ud-").replace("-", "[-_]")


#: (ending of a name, format), in the order they are tried
_ENDINGS: tuple[tuple[re.Pattern[str], WeightFormat], ...] = tuple(
    (re.compile(rf"[-.](?:{ending})$"), {**FORMATS, **UPLOADED}[form])
    for ending, form in (
        (r"(?:unsloth-)?bnb-4bit|4bit-bnb|(?:bnb-)?nf4(?:-bf16)?", "bnb-4bit"),
        (r"bnb-8bit", "bnb-8bit"),
        (r"mxfp8", "mxfp8"),
        (r"aqlm(?:-pv)?-2bit-1x16(?:-hf)?", "aqlm-1x16"),
        (r"aqlm(?:-pv)?-2bit-2x8(?:-hf)?", "aqlm-2x8"),
        (r"aqlm(?:-pv)?-1bit-1x16(?:-hf)?", "aqlm-1bit"),
        (r"bf16|bfloat16|(?:qat-)?(?:(?:q4-0|int4)-)?unquantized", "bf16"),
        (r"nvfp4(?:a16)?(?:-(?:fast|kv|fp8-kv))?|fp4", "nvfp4"),
        (r"gguf-mxfp4(?:-moe)?|mxfp4(?:-moe)?-gguf", "mxfp4-moe"),
        (r"mxfp4(?:-(?:moe|a16))?|w-mxfp4-a-fp8", "mxfp4"),
        (r"(?:w8a8-)?fp8(?:-(?:dynamic|static|block|tensorwise|kv|w8a8|e4m3))*", "fp8"),
        (
            r"(?:quantized[-.])?(?:gptq-)?w8a16|(?:gptq|awq)(?:-pro)?-(?:8bit|int8)|int8(?:-auto-?round)?|8bits?",
            "int8",
        ),
        (r"(?:quantized[-.])?w8a8", "w8a8"),
        (
            r"(?:quantized[-.])?(?:gptq-|awq-)?w4a16(?:-g(?:32|64|128))?(?:-rtn)?(?:-auto-?round)?|(?:awq|gptq)(?:-pro)?(?:-(?:4bit|4b|int4|marlin)(?:-(?:32|64|128)g)?)?|"
            r"(?:auto-?round(?:-gptq|-awq)?-)?int4(?:-(?:a?sym|g(?:32|64|128)|inc|auto-?round|awq|gptq|mixed(?:-auto-?round)?))*|auto-?round|4bits?",
            "int4",
        ),
        *((rf"(?:gguf-)?{_spelt(name)}(?:[-.]gguf)?", name) for name in (*DYNAMIC, *WIDE_ENDS)),
        *((rf"(?:gguf-|ud-)?{name.replace('-', '[-_]')}(?:[-.]gguf)?", name) for name in GGUF),
    )
)


def _widths(word: str, form: WeightFormat | None, left: tuple[str, ...]) -> list[str]:
    """Return the widths that a name states and its format is not, as '6' in 'Qwen3.6-27B-AWQ-6Bit'. [bit]"""
    if form is None:
        return [match[1] or match[2] for match in _STATED.finditer(plain(word))]
    stated = [match[1] or match[2] for w in left if (match := _STATED.fullmatch(f"-{w}"))]
    return [width for width in stated if float(width) != int(form.bits)]


#: a width in bits that a name states
_STATED = re.compile(r"-(?:([1-8](?:\.\d{1,2})?)-?bits?(?:gs?\d+)?|int([2-7]))(?=-|$)")


@dataclass(frozen=True)
class Peeled:
    """A name and the weight format that it ends with."""

    name: str  #: without its format
    form: WeightFormat | None = None  #: None where the name ends with none
    kv_bits: float | None = None  #: of the cache, where the name or its maker fixes it [bit]
    after: tuple[str, ...] = ()  #: words that stand after the format


def peeled(word: str) -> Peeled:
    """Return the name of an upload apart from the format of its weights."""
    name = plain(word)
    if match := _PACKED.search(name):
        form = WeightFormat(name=f"int{match['bits']}", bits=int(match["bits"]))
        return Peeled(plain(name[: match.start()]), _grouped(form, word))
    bare = name.replace("-mlx", "")
    apple = bare != name or word.lower().startswith("mlx-community/")
    if apple and (match := _MLX.search(bare)):
        bits = int(match["bits"]) + 32 / int(match["group"] or 64)  # a 16-bit scale and bias a group
        return Peeled(plain(bare[: match.start()]), WeightFormat(name="mlx", bits=bits, everywhere=True))
    if (match := _EXL.search(bare)) and (match["how"] or match["which"]):
        bits, head = float(match["bits"]), float(match["head"] or 6)
        form = WeightFormat(name=match["how"] or match["which"], bits=bits, outer_bits=head)
        return Peeled(plain(bare[: match.start()]), form)
    return _ended(bare, word)


def _ended(name: str, word: str) -> Peeled:
    """Return a name apart from a format of `_ENDINGS`, after which up to MOST_LEFT words may stand."""
    words, made = name.split("-"), maker(word)
    for left in range(min(len(words), MOST_LEFT + 1)):
        front = "-".join(words[: len(words) - left])
        match, form = next(((m, form) for pattern, form in _ENDINGS if (m := pattern.search(front))), (None, None))
        if match is None or form is None:
            continue
        form = _grouped(form, word)
        if not front.endswith(made.other):
            form = replace(form, bits=made.bits.get(form.name, form.bits))
        cached = 8.0 if front.endswith("fp8-kv") or form.name in made.cached else None
        return Peeled(plain(front[: match.start()]), form, cached, tuple(words[len(words) - left :]))
    return Peeled(name)


def refuse_unsized(typed: str, word: str, form: WeightFormat | None, after: tuple[str, ...]) -> None:
    """Raise SpecError where a name says widths of its weights and not what they take.

    `typed` is the name as a user wrote it, `after` what stands after the format it ends with.
    """
    name = plain(word)
    larger = form is not None and form.name in GGUF and after[:1] in (("l",), ("xl",))  # Q2_K_L, UD-Q2_K_XL: not Q2_K
    width = _WIDTH.search(name) if form is None or larger else None
    if _MIXED.search(name):
        why = (
            "the name says weights of several widths, so their size cannot be read from it; give its config.json, or "
            "the model's own name with weights=FORMAT"
        )
    elif width:
        known = ", ".join(name.upper().replace("-", "_") for name in (*GGUF, *WIDE_ENDS, *DYNAMIC))
        said = width[1].upper().replace("-", "_")
        why = f"{said} is no width of GGUF whose bits kvplan knows; known: {known}; or give the file"
    elif stated := next(filter(None, _widths(word, form, after)), ""):
        why = (
            f"the name says weights of {stated} bits, and not how they are packed; give its config.json, or the "
            "model's own name with weights=FORMAT"
        )
    elif re.search(r"-exl[23](?:-|$)", name) and form is None:
        why = (
            "EXL2 and EXL3 uploads keep each width on a branch, which the name does not say; add it as in :4.0bpw, "
            "give the folder of one, or the model's own name with weights=FORMAT"
        )
    else:
        return
    raise SpecError(f"{shown(typed)}: {why}")


def _grouped(form: WeightFormat, word: str) -> WeightFormat:
    """Return a format of integers with the scales of the groups that a name, or who uploads it, is known for."""
    match = re.fullmatch(r"int([234568])", form.name)
    if match is None or form.name == "int8":
        return form
    name, bits = plain(word), int(match[1])
    stated = _GROUP.search(name)
    group = maker(word).group or (32 if "qat" in name.split("-") and not stated else None)  # Google's trains for Q4_0
    if group:
        return replace(form, bits=bits + 16 / group)  # symmetric
    if stated is None and form.name == "int4":
        return form
    zeros = 0 if "w4a16" in name else bits  # compressed-tensors' uploads are symmetric
    return replace(form, bits=bits + (16 + zeros) / int(stated[1] or stated[2] if stated else 128))


#: integers of another width than 4 and 8 bits, as GPTQ and AWQ pack them: 'AWQ-6Bit', 'GPTQ-gptq-3bit-128g-...'
_PACKED = re.compile(r"-(?:gptq|awq)(?:-gptq)?-(?P<bits>[2356])-?bits?(?:-g?(?:32|64|128)g?)?(?:-actorder-true)?$")
#: MLX's bits of an element, and the elements of a group
_MLX = re.compile(r"-(?P<bits>[2-8])bits?(?:-dwq(?:-\d{4})?)?(?:-gs?(?P<group>32|64|128))?$")
#: the size of a group in a name
_GROUP = re.compile(r"-(?:g(32|64|128)|(32|64|128)g)(?=-|$)")
#: the bits an element takes in an EXL2 or EXL3 upload, and in its output head (6 where the name names none), on either
#: side of the format's name: '4.0bpw-h6-exl2', 'exl3-3.50bpw'
_EXL = re.compile(
    r"-(?:(?P<which>exl[23])[-_])?(?P<bits>[1-8](?:\.\d{1,2})?)-?bpw(?:[-_]h(?:b)?(?P<head>[3-8]|16))?(?:[-_](?P<how>exl[23]))?$"
)
#: a width of GGUF at the end of a name
_WIDTH = re.compile(r"[-.]((?:ud-)?i?q\d(?:-[a-z0-9]{1,3})*)(?:[-.]gguf)?$")
#: words that may stand after the format in a name
MOST_LEFT = 3
#: names of mixtures of widths
_MIXED = re.compile(
    r"-(?:bpw\d\.\d+|int4-int8|int8-int4|w4w8|mixed(?:int|fp|nvfp)?\d*|(?:int|fp|bf)\d+-?mix|(?:bf16|fp8)-(?:int4|nvfp4|mxfp4|w4a16)|"
    r"(?:int4|nvfp4|mxfp4|w4a16)-(?:bf16|fp8))(?:-(?!kv)|$)"
)
