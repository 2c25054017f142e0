"""The known model whose name an upload's name is or holds, as `Hermes-3-Llama-3.1-8B` holds that of Llama 3.1 8B."""

import re
from functools import cache

from kvplan.catalog.lookup import every_name, plain, resolve
from kvplan.errors import UnknownName

#: words that make another shape of a model, or part of one
ANOTHER_SHAPE = re.compile(
    r"^(?:eagle\d?|medusa|draft|drafter|dflash|speculator|assistant|mtp|lora|qlora|adapter|peft|reward|rm|reranker|"
    r"embedding|embed|pruned|prune|minitron|reap|vl|vision|visual|omni|audio|asr|tts|ocr|ultravox|llava|blip2|merge|frankenmerge|moe|clip|"
    r"guard|classifier|prm|evals?|dataset|diffusion|mla|mhc|swiftkv|m2kv|cla|yoco|\d+x\d*|x\d+|\d+b|(?!1m)\d+m|\d+v|a\d+b|\d+e|expand\w*|upscaled?|nas)$"
)


def known(name: str) -> str:
    """Return the shelf name of a model, '' for a name that is none; a maker's name may end with its 16 bits."""
    for tried in (name, f"{name}-bf16"):
        try:
            return resolve("models", tried, "model")
        except UnknownName:
            continue
    return ""


#: how tuners write Llama 3 and its releases
_SHORT = re.compile(r"(?:^|(?<=-))l(3(?:[-.][123])?)(?=-(?:[a-z][a-z0-9]*(?:\.\d+)?-){0,4}\d+b)")


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name, Llama 3 written out."""
    return tuple(w for w in re.split(r"[-_. ]+", _SHORT.sub(r"llama-\1", name.lower())) if w)


@cache
def shapes() -> dict[tuple[str, ...], tuple[str, str]]:
    """Return the models whose names state a size, and the name meant, by the words of every name they go by."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for alias, base in every_name("models").items():
        words = words_of(plain(alias))
        if len(words) > 1 and any(re.fullmatch(r"(?:\d+x)?\d+[bm]", w) for w in words):
            found.setdefault(words, (base, alias))
    return found


#: words that only tell one release of a model from another, whose shape may differ
_RELEASE = re.compile(r"v?\d+|instruct|it|chat|hf|base")


def beside(words: tuple[str, ...], first: int, last: int) -> tuple[str, ...]:
    """Return the words beside a name: its first is one too where another goes before, as in Llama-3.1-Minitron-4B."""
    return words[:first] + words[last:] + (words[first : first + 1] if first else ())


def _spans(words: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return where known models' names stand among words: (first, one more than the last)."""
    every = ((a, b) for a in range(len(words)) for b in range(a + 2, len(words) + 1))
    return [(a, b) for a, b in every if words[a:b] in shapes()]


def longest(words: tuple[str, ...]) -> tuple[int, int]:
    """Return where the longest known name stands among words, (0, 0) for none."""
    return max(_spans(words), key=lambda span: span[1] - span[0], default=(0, 0))


def held(name: str) -> tuple[str, str]:
    """Return the one known model whose name another holds, and that name; '' for none, several, or another shape's."""
    words = words_of(name)
    spans = _spans(words)
    widest = [s for s in spans if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in spans)]
    if not widest:
        return _parted(words)
    if len(widest) != 1:
        return "", ""
    first, last = widest[0]
    rest = beside(words, first, last)
    release = any(re.fullmatch(r"v\d+", w) for w in rest) and all(_RELEASE.fullmatch(w) for w in rest)
    return ("", "") if release or any(ANOTHER_SHAPE.match(w) for w in rest) else shapes()[words[first:last]]


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
                meant = shapes().get((*words[start:end], size)) if re.fullmatch(r"\d+b", size) else None
                if meant and _tuners(words[end:place]) and not any(map(ANOTHER_SHAPE.match, rest)):
                    parts.setdefault(*meant)
    return next(iter(parts.items())) if len(parts) == 1 else ("", "")


def _tuners(between: tuple[str, ...]) -> bool:
    """Return whether words between a family and a size are a tuner's: a number before them is of another family."""
    named = [word for word in between if not re.fullmatch(r"v?\d+", word)]
    return between[:1] == tuple(named[:1]) and len(named) <= MOST_BETWEEN and not any(map(_APART.match, named))
