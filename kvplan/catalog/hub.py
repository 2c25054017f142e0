"""Names of uploads people type: a known model's shape, and the weight format a name ends with, both said.

`RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16` is Llama 3.1 8B with int4 weights; `Hermes-3-Llama-3.1-8B` holds
the name of the model it was tuned from. A name that holds no known model's, or words of another shape, is refused.
"""

import re
from dataclasses import dataclass, replace
from functools import cache

from kvplan.architectures.formats import DYNAMIC, FORMATS, GGUF, UPLOADED, WIDE_ENDS, WeightFormat
from kvplan.catalog.lookup import every_name, plain, resolve
from kvplan.catalog.makers import maker
from kvplan.catalog.shelves import document
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.units import MILLION, TERA


@dataclass(frozen=True)
class Upload:
    """What the name of an upload says."""

    base: str  #: name of the model on the shelf
    form: WeightFormat | None  #: format of its weights, None: as the model's own
    kv_bits: float | None  #: of the cache, where the name fixes it [bit]
    tuned: bool  #: whether the name only holds the model's, beside words that kvplan does not know
    known: str  #: the name the model goes by in it, which may be that of a release
    remark: str = ""  #: what the name leaves open
    context: int | None = None  #: tokens that the name says it was tuned for, None: as the model [token]
    skip: tuple[str, ...] | None = None  #: modules that its maker leaves in 16 bits, None: as most do
    parameters: float | None = None  #: that its name says and nothing else vouches for, None: nothing to check


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
#: endings that say nothing of the shape: tuning, releases, 16-bit copies
_TUNING = re.compile(
    r"-(?:instruct|it|chat|hf|base|thinking|preview|think|sft|dpo|rl|uncensored|abliterated|fp16|f16|original|"
    r"qat|\d{4}|unquantized)$"
)
#: words that make another shape of a model, or part of one
_OTHER = re.compile(
    r"^(?:eagle\d?|medusa|draft|drafter|dflash|speculator|assistant|mtp|lora|qlora|adapter|peft|reward|rm|reranker|"
    r"embedding|embed|pruned|prune|minitron|reap|vl|vision|visual|omni|audio|asr|tts|ocr|ultravox|llava|blip2|merge|frankenmerge|moe|clip|"
    r"guard|classifier|prm|evals?|dataset|diffusion|mla|mhc|swiftkv|m2kv|cla|yoco|\d+x\d*|x\d+|\d+b|(?!1m)\d+m|\d+v|a\d+b|\d+e|expand\w*|upscaled?|nas)$"
)


#: what a name of GGUF files without a width leaves open; `{}` is what is counted instead
SEVERAL = "its GGUF files are of several widths and {} are counted: add one as in -Q4_K_M, or give a file"


def upload(word: str) -> Upload | None:
    """Return what the name of an upload says, None where it holds no known model's name or words of another shape.

    Raises SpecError for a name that says weights of several widths.
    """
    word = re.sub(r"[-_]MTP[-_]BF16$", "", word.rstrip("/"), flags=re.IGNORECASE)  # says how the layers beside are kept
    if _TAG.fullmatch(tag := _LIBRARY.sub("", word)):
        return _pulled(tag)
    typed, word = word, word.replace(":", "-")  # a tag, as in Qwen3-8B-GGUF:Q8_0
    outer, bracketed = _brackets(word)
    if bracketed:
        return upload(bracketed) or _bracketed(outer, bracketed)
    name, form, cached, left = _peeled(word)
    skip = maker(word).keeps.get(form.name) if form else None
    name = _whole(name, form)
    left = left[:-1] if left[-1:] == ("mtp",) else left  # the MTP layer beside a model that is whole
    if _MIXED.search(plain(word)):
        raise SpecError(
            f"{shown(typed)}: the name says weights of several widths, so their size cannot be read from it; give its "
            "config.json, or the model's own name with weights=FORMAT"
        )
    remark = ""
    larger = form is not None and form.name in GGUF and left[:1] in (("l",), ("xl",))  # Q2_K_L, UD-Q2_K_XL: not Q2_K
    if (form is None or larger) and (width := _WIDTH.search(plain(word))):
        known = ", ".join(name.upper().replace("-", "_") for name in (*GGUF, *WIDE_ENDS, *DYNAMIC))
        raise SpecError(
            f"{shown(typed)}: {width[1].upper().replace('-', '_')} is no width of GGUF whose bits kvplan knows; "
            f"known: {known}; or give the file"
        )
    if stated := next((w for w in _widths(word, form, left) if w), ""):
        raise SpecError(
            f"{shown(typed)}: the name says weights of {stated} bits, and not how they are packed; give its "
            "config.json, or the model's own name with weights=FORMAT"
        )
    if re.search(r"-exl[23](?:-|$)", plain(word)) and form is None:
        raise SpecError(
            f"{shown(typed)}: EXL2 and EXL3 uploads keep each width on a branch, which the name does not say; "
            "add it as in :4.0bpw, give the folder of one, or the model's own name with weights=FORMAT"
        )
    if name.endswith("-gguf"):
        name = name.removesuffix("-gguf")
        remark = SEVERAL
    if form is not None and form.seen:
        remark = "files of that width held {:.3g} to {:.3g} bits, chosen for each model: give the file".format(
            *form.seen
        )
    if any(_OTHER.match(w) for w in left):
        return None
    unsure = bool(left) or bool(form and form.seen)
    if base := _known(plain(name)):
        return Upload(base, form, cached, unsure, name, remark, skip=skip)
    whole = name
    while (shorter := _TUNING.sub("", name)) != name:
        name = shorter
        if base := _known(plain(name)):
            return Upload(base, form, cached, True, name, remark, skip=skip)
    held, known = _held(whole)
    return Upload(held, form, cached, True, known, remark, _context(whole), skip) if held else None


#: a tag of Ollama's library, as in llama3.1:8b: a model without an organisation, and its size or width
_TAG = re.compile(r"[a-z][a-z0-9.-]*:[a-z0-9][\w.-]*")
#: what stands before a tag where programs name Ollama too, as in ollama/llama3.1:8b
_LIBRARY = re.compile(r"^(?:ollama(?:\.com)?|registry\.ollama\.ai)/(?:library/)?")
#: what Ollama's library serves where a tag names no width: llama3.1:8b is 4.9 GB, qwen3:32b 18.81 GiB (4.93 bits as
#: llama.cpp prints them, ollama/ollama#14774), and those published in MXFP4 as they were
PULLED = "q4-k-m"


def _pulled(tag: str) -> Upload | None:
    """Return the model of Ollama's library that a tag names, in the width it says or the library's own."""
    head, _, size = re.sub(r"(?<=\d)vl(?=:)", "-vl", tag).partition(":")
    family, _, kind = head.partition("-")  # lfm2.5-thinking:1.2b is LFM2.5-1.2B-Thinking
    spellings = (f"{head}-{size}", f"{re.sub(r'-(?=[0-9.]+$)', '', head)}-{size}", f"{family}-{size}-{kind}")
    try:
        found = next((one for spelt in spellings if (one := upload(spelt))), None) or _one_size(head, size)
    except SpecError as refusal:  # of the tag as it was typed
        raise SpecError(f"{shown(tag)}: {str(refusal).partition(': ')[2]}") from None
    if found is None or found.form is not None or re.search(r"b?f(?:p)?16$", size.lower()):
        return found
    own = document("models", found.base)["config"].get("quantization_config") or {}
    if own.get("quant_method") == "mxfp4":
        return found
    width = "q4-0" if size.endswith("-qat") else PULLED
    remark = f"the tag names no width and Ollama's library serves {width.upper().replace('-', '_')} then"
    return replace(found, form=replace(UPLOADED[width], averaged=True), remark=remark)


def _one_size(head: str, size: str) -> Upload | None:
    """Return the model before a tag's size, as in phi4-mini:3.8b, which the reader holds against its parameters."""
    base, stated = _known(plain(head)), re.match(r"(\d+(?:\.\d+)?)([bmt])(?=-|$)", size)
    if not base or not stated:
        return None
    found = upload(f"{head}{size[stated.end() :]}") or Upload(base, None, None, True, head)
    return replace(found, parameters=float(stated[1]) * (MILLION, 1e9, TERA)["mbt".index(stated[2])])


def _widths(word: str, form: WeightFormat | None, left: tuple[str, ...]) -> list[str]:
    """Return the widths that a name states and its format is not, as '6' in 'Qwen3.6-27B-AWQ-6Bit'. [bit]"""
    if form is None:
        return [match[1] or match[2] for match in _STATED.finditer(plain(word))]
    stated = [match[1] or match[2] for w in left if (match := _STATED.fullmatch(f"-{w}"))]
    return [width for width in stated if float(width) != int(form.bits)]


#: a width in bits that a name states
_STATED = re.compile(r"-(?:([1-8](?:\.\d{1,2})?)-?bits?(?:gs?\d+)?|int([2-7]))(?=-|$)")


def _whole(name: str, form: WeightFormat | None) -> str:
    """Return a name without the MTP of a quantised upload that keeps the model's MTP layer beside it."""
    gguf = name.endswith("-gguf")
    if form is None and not gguf:
        return name
    return re.sub(r"-mtp(?=-gguf$|$)", "", name)


def _context(name: str) -> int | None:
    """Return the context that a tuned model's name states, as in 'Yi-34B-200K': 1,024s for a power of two. [token]"""
    if "1m" in _words(name):
        return 2**20
    stated = next((w[:-1] for w in _words(name) if re.fullmatch(r"[1-9]\d{0,3}k", w)), None)
    if stated is None:
        return None
    count = int(stated)
    return count * 1024 if count & (count - 1) == 0 else count * 1000


#: names of encoders that embed, rank or sort texts (BERT's kin): `bge-m3`, `multilingual-e5-large`, `all-MiniLM-L6-v2`
_ENCODER = re.compile(
    r"^(?:bge-(?:m3|(?:micro|small|base|large)(?:-|$)|reranker-(?:base|large|v2-m3))|(?:multilingual-)?e5-(?:small|base|large)|"
    r"(?:all|paraphrase|multi-qa)-(?:multilingual-)?(?:minilm|mpnet|distilroberta)|gte-(?:small|base|large|multilingual-base|modernbert)|"
    r"nomic-embed-text|mxbai-(?:embed|rerank)-(?:xsmall|base|large)|snowflake-arctic-embed|jina-embeddings-v[23]|"
    r"(?:distil|xlm-|camem|modern|al|sci|legal-)?(?:bert|roberta|deberta)(?:[-_]|$)|(?:llama-)?prompt-guard|"
    r"embeddinggemma|colbert|splade|electra-)"
)


def encodes(word: str) -> bool:
    """Return whether a name is that of an encoder, which keeps no KV cache."""
    return bool(_ENCODER.match(plain(_peeled(word)[0])))


def why_not(word: str) -> str:
    """Return why the name of an upload is not read as the model it holds the name of; '' where it holds none.

    A word such as VL or Embedding beside a known model's name says another shape, or a part of one.
    """
    name, _, _, left = _peeled(word)
    words, shapes = _words(name) + left, _shapes()
    spans = [(a, b) for a in range(len(words)) for b in range(a + 2, len(words) + 1) if words[a:b] in shapes]
    first, last = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
    rest = _beside(words, first, last)
    other = next((w for w in rest if _OTHER.match(w)), "")
    known = shapes[words[first:last]][0] if last else _known("-".join(w for w in words if w != other))
    return f"{other!r} in its name says another shape than {known}, or a part of it" if other and known else ""


def _bracketed(outer: str, bracketed: str) -> Upload | None:
    """Return a model whose name stands before brackets, in the format that ends what stands in them."""
    name, form, cached, _ = _peeled(outer)
    base = _known(plain(name))
    inner = _peeled(f"x-{bracketed}")
    if not base or inner[1] is None:
        return None
    return Upload(base, inner[1] or form, inner[2] or cached, False, name)


def _brackets(word: str) -> tuple[str, str]:
    """Return a name and what stands in brackets after it, as in 'Qwen3-8B [maker-AWQ]'."""
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*\[([^\[\]]+)\]\s*", word)
    return (match[1], match[2]) if match else (word, "")


def _peeled(word: str) -> tuple[str, WeightFormat | None, float | None, tuple[str, ...]]:
    """Return (the name without its format, that format, bits of the cache, words after the format) of a name."""
    name = plain(word)
    if match := _PACKED.search(name):
        form = WeightFormat(name=f"int{match['bits']}", bits=int(match["bits"]))
        return plain(name[: match.start()]), _grouped(form, word), None, ()
    apple = word.lower().startswith("mlx-community/") or "-mlx" in name
    name = name.replace("-mlx", "")
    if apple and (match := re.search(r"-([2-8])bits?(?:-dwq(?:-\d{4})?)?(?:-gs?(32|64|128))?$", name)):
        bits = int(match[1]) + 32 / int(match[2] or 64)  # a 16-bit scale and bias a group
        return plain(name[: match.start()]), WeightFormat(name="mlx", bits=bits, everywhere=True), None, ()
    if (match := _EXL.search(name)) and (match["how"] or match["which"]):
        bits, head = float(match["bits"]), float(match["head"] or 6)
        form = WeightFormat(name=match["how"] or match["which"], bits=bits, outer_bits=head)
        return plain(name[: match.start()]), form, None, ()
    words = re.split(r"-", name)
    for left in range(min(len(words), MOST_LEFT + 1)):
        front = "-".join(words[: len(words) - left])
        suffix = next(((m, form) for pattern, form in _ENDINGS if (m := pattern.search(front))), None)
        if suffix is not None:
            match, form = suffix
            form = _grouped(form, word)
            made = form.name in maker(word).cached
            if not front.endswith(maker(word).other):
                form = replace(form, bits=maker(word).bits.get(form.name, form.bits))
            cached = 8.0 if front.endswith("fp8-kv") or made else None
            return plain(front[: match.start()]), form, cached, tuple(words[len(words) - left :])
    return name, None, None, ()


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


def _known(name: str) -> str:
    """Return the shelf name of a model, '' for a name that is none; a maker's name may end with its 16 bits."""
    for tried in (name, f"{name}-bf16"):
        try:
            return resolve("models", tried, "model")
        except UnknownName:
            continue
    return ""


#: how tuners write Llama 3 and its releases
_SHORT = re.compile(r"(?:^|(?<=-))l(3(?:[-.][123])?)(?=-(?:[a-z][a-z0-9]*(?:\.\d+)?-){0,4}\d+b)")


def _words(name: str) -> tuple[str, ...]:
    return tuple(w for w in re.split(r"[-_. ]+", _SHORT.sub(r"llama-\1", name.lower())) if w)


@cache
def _shapes() -> dict[tuple[str, ...], tuple[str, str]]:
    """Return the models whose names state a size, and the name meant, by the words of every name they go by."""
    shapes: dict[tuple[str, ...], tuple[str, str]] = {}
    for alias, base in every_name("models").items():
        words = _words(plain(alias))
        if len(words) > 1 and any(re.fullmatch(r"(?:\d+x)?\d+[bm]", w) for w in words):
            shapes.setdefault(words, (base, alias))
    return shapes


#: words that only tell one release of a model from another, whose shape may differ
_RELEASE = re.compile(r"v?\d+|instruct|it|chat|hf|base")


def _beside(words: tuple[str, ...], first: int, last: int) -> tuple[str, ...]:
    """Return the words beside a name: its first is one too where another goes before, as in Llama-3.1-Minitron-4B."""
    return words[:first] + words[last:] + (words[first : first + 1] if first else ())


def _held(name: str) -> tuple[str, str]:
    """Return the one known model whose name another holds, and that name; '' for none, several, or another shape's."""
    words, shapes = _words(name), _shapes()
    spans = [(a, b) for a in range(len(words)) for b in range(a + 2, len(words) + 1) if words[a:b] in shapes]
    widest = [s for s in spans if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in spans)]
    if not widest:
        return _parted(words)
    if len(widest) != 1:
        return "", ""
    first, last = widest[0]
    rest = _beside(words, first, last)
    release = any(re.fullmatch(r"v\d+", w) for w in rest) and all(_RELEASE.fullmatch(w) for w in rest)
    return ("", "") if release or any(_OTHER.match(w) for w in rest) else shapes[words[first:last]]


#: words that a tuner may put between a model's name and its size, as in Llama-3.1-SauerkrautLM-70b, and with them the
#: numbers of the tuner's own release, as in Llama-3.1-Tulu-3.1-8B
MOST_BETWEEN, MOST_NUMBERED = 3, 5
#: a family that one word names with its release, as in Llama3-Med42-8B
_VERSIONED = re.compile(r"^[a-z]+\d$")
#: words that make another family of a model there, as in Falcon-Mamba-7B and Mistral-Small-7B
_APART = re.compile(
    r"^(?:mamba\d*|rwkv\d*|hybrid|linear|next|delta|h\d|bitnet|tiny|mini|small|medium|large|nemo|lite|flash|max)$"
)


def _parted(words: tuple[str, ...]) -> tuple[str, str]:
    """Return the one known model whose name another holds with words before its size, and that name; '' for none."""
    parts: dict[str, str] = {}
    for place, size in enumerate(words):
        for end in range(max(place - MOST_NUMBERED, 0), place):
            for start in range(max(end - 3, 0), end):
                if end - start == 1 and not _VERSIONED.match(words[start]):
                    continue
                rest = (*words[:start], *words[end:place], *words[place + 1 :])
                known = _shapes().get((*words[start:end], size)) if re.fullmatch(r"\d+b", size) else None
                if known and _tuners(words[end:place]) and not any(map(_OTHER.match, rest)):
                    parts.setdefault(*known)
    return next(iter(parts.items())) if len(parts) == 1 else ("", "")


def _tuners(between: tuple[str, ...]) -> bool:
    """Return whether words between a family and a size are a tuner's: a number before them is of another family."""
    named = [word for word in between if not re.fullmatch(r"v?\d+", word)]
    return between[:1] == tuple(named[:1]) and len(named) <= MOST_BETWEEN and not any(map(_APART.match, named))
