"""Names of uploads people type: a known model's shape, and the weight format a name ends with, both said.

`RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16` is Llama 3.1 8B with int4 weights; `Hermes-3-Llama-3.1-8B` holds
the name of the model it was tuned from. A name that holds no known model's, or words of another shape, is refused.
"""

import re
from dataclasses import dataclass, replace

from kvplan.architectures.formats import UPLOADED, WeightFormat
from kvplan.catalog.checkpoints.held_names import ANOTHER_SHAPE, beside, held, known, longest, shapes, words_of
from kvplan.catalog.checkpoints.makers import maker
from kvplan.catalog.checkpoints.upload_formats import peeled, refuse_unsized
from kvplan.catalog.lookup import plain
from kvplan.catalog.shelves import document
from kvplan.errors import SpecError, shown
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


#: endings that say nothing of the shape: tuning, releases, 16-bit copies
_TUNING = re.compile(
    r"-(?:instruct|it|chat|hf|base|thinking|preview|think|sft|dpo|rl|uncensored|abliterated|fp16|f16|original|"
    r"qat|\d{4}|unquantized)$"
)
#: what a name of GGUF files without a width leaves open; `{}` is what is counted instead
SEVERAL = "its GGUF files are of several widths and {} are counted: add one as in -Q4_K_M, or give a file"
#: what a width leaves open that is not alike in all files of its name
SEEN = "files of that width held {:.3g} to {:.3g} bits, chosen for each model: give the file"


def upload(word: str) -> Upload | None:
    """Return what the name of an upload says, None where it holds no known model's name or words of another shape.

    Raises SpecError for a name that says widths of its weights and not what they take.
    """
    word = re.sub(r"[-_]MTP[-_]BF16$", "", word.rstrip("/"), flags=re.IGNORECASE)  # says how the layers beside are kept
    if _TAG.fullmatch(tag := _LIBRARY.sub("", word)):
        return _pulled(tag)
    typed, word = word, word.replace(":", "-")  # a tag, as in Qwen3-8B-GGUF:Q8_0
    outer, bracketed = _brackets(word)
    if bracketed:
        return upload(bracketed) or _bracketed(outer, bracketed)
    read = peeled(word)
    form, after = read.form, read.after
    after = after[:-1] if after[-1:] == ("mtp",) else after  # the MTP layer beside a model that is whole
    refuse_unsized(typed, word, form, after)
    if any(map(ANOTHER_SHAPE.match, after)):
        return None
    name = _whole(read.name, form)
    several = SEVERAL if name.endswith("-gguf") else ""
    name = name.removesuffix("-gguf")
    said = Upload(
        base="",
        form=form,
        kv_bits=read.kv_bits,
        tuned=bool(after) or bool(form and form.seen),
        known=name,
        remark=SEEN.format(*form.seen) if form and form.seen else several,
        skip=maker(word).keeps.get(form.name) if form else None,
    )
    return _of_known(said)


def _of_known(said: Upload) -> Upload | None:
    """Return an upload with the known model that its name is, is tuned from, or holds; None for a name of none."""
    if base := known(plain(said.known)):
        return replace(said, base=base)
    whole = name = said.known
    while (shorter := _TUNING.sub("", name)) != name:
        name = shorter
        if base := known(plain(name)):
            return replace(said, base=base, known=name, tuned=True)
    base, name = held(whole)
    return replace(said, base=base, known=name, tuned=True, context=_context(whole)) if base else None


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
    base, stated = known(plain(head)), re.match(r"(\d+(?:\.\d+)?)([bmt])(?=-|$)", size)
    if not base or not stated:
        return None
    found = upload(f"{head}{size[stated.end() :]}") or Upload(base, None, None, True, head)
    return replace(found, parameters=float(stated[1]) * (MILLION, 1e9, TERA)["mbt".index(stated[2])])


def _whole(name: str, form: WeightFormat | None) -> str:
    """Return a name without the MTP of a quantised upload that keeps the model's MTP layer beside it."""
    gguf = name.endswith("-gguf")
    if form is None and not gguf:
        return name
    return re.sub(r"-mtp(?=-gguf$|$)", "", name)


def _context(name: str) -> int | None:
    """Return the context that a tuned model's name states, as in 'Yi-34B-200K': 1,024s for a power of two. [token]"""
    if "1m" in words_of(name):
        return 2**20
    stated = next((w[:-1] for w in words_of(name) if re.fullmatch(r"[1-9]\d{0,3}k", w)), None)
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
    return bool(_ENCODER.match(plain(peeled(word).name)))


def why_not(word: str) -> str:
    """Return why the name of an upload is not read as the model it holds the name of; '' where it holds none.

    A word such as VL or Embedding beside a known model's name says another shape, or a part of one.
    """
    read = peeled(word)
    words = words_of(read.name) + read.after
    first, last = longest(words)
    other = next(filter(ANOTHER_SHAPE.match, beside(words, first, last)), "")
    own = shapes()[words[first:last]][0] if last else known("-".join(w for w in words if w != other))
    return f"{other!r} in its name says another shape than {own}, or a part of it" if other and own else ""


def _bracketed(outer: str, bracketed: str) -> Upload | None:
    """Return a model whose name stands before brackets, in the format that ends what stands in them."""
    read, inner = peeled(outer), peeled(f"x-{bracketed}")
    base = known(plain(read.name))
    if not base or inner.form is None:
        return None
    return Upload(base, inner.form, inner.kv_bits or read.kv_bits, False, read.name)


def _brackets(word: str) -> tuple[str, str]:
    """Return a name and what stands in brackets after it, as in 'Qwen3-8B [maker-AWQ]'."""
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*\[([^\[\]]+)\]\s*", word)
    return (match[1], match[2]) if match else (word, "")
