"""GPUs by the names people and tools give them: with maker and memory, as instances of a cloud, several at once."""

import re

from kvplan.catalog.hardware.instances import instance
from kvplan.catalog.lookup import every_name, plain, resolve
from kvplan.catalog.shelves import document
from kvplan.errors import SpecError, UnknownName, shown

#: words of a card's name that say who made it, and its memory behind it, as in 'NVIDIA RTX 6000 Ada Generation 48GB'
_MADE = re.compile(r"^(?:nvidia[- ]+|amd[- ]+|intel[- ]+)?(?:geforce[- ]+|instinct[- ]+)?")
_SOLD = re.compile(r"[- ]*\(?(\d+) ?g(?:i?b)?\)?(?:[- ]*(?:vram|gddr\d\w?|hbm\d\w?))?$")
#: several GPUs written as one
_SEVERAL = re.compile(r"(\d{1,3}) ?x ?(.+)|(.+?) ?x ?(\d{1,3})")
#: accelerators and computers whose memory engines divide by rules that kvplan does not know
_OTHERS = re.compile(
    r"(?:google |cloud )?tpu.*|v[56][ep](?:-\d+)?|v5litepod.*|ct[56][a-z]*-.*|(?:aws )?(?:trainium|inferentia)\d?.*|"
    r"(?:trn|inf)\d.*|(?:apple )?m[1-9](?: (?:pro|max|ultra))?(?: \d+ ?gb)?|(?:mac|macbook|imac) ?.*|"
    r"(?:kunlun|cambricon|mlu|hygon|dcu|metax|moore threads|mtt|biren|iluvatar|enflame|cerebras|groq|sambanova).*|"
    r"tenstorrent.*"
)


def gpu_name(word: str, location: str = "") -> str:
    """Return the GPU on the shelf that a name means: its own, an alias, a card as sold, an instance of a cloud.

    Raises SpecError for several GPUs in one name and for accelerators that engines treat otherwise, UnknownName.
    """
    try:
        return resolve("gpus", word, "GPU", location)
    except UnknownName:
        named = re.sub(r"[_\s]+", " ", word.strip().lower())
        if found := instance(word) or _card(named):
            return found
        place = f"{location}: " if location else ""
        if several := _SEVERAL.fullmatch(named):
            count, one = several[1] or several[4], several[2] or several[3]
            if found := _card(one):
                raise SpecError(
                    f"{place}{shown(word)} is {count} GPUs in one name; give gpu={found}, and how many beside it"
                ) from None
        if _OTHERS.fullmatch(named.replace("-", " ")) or _OTHERS.fullmatch(named):
            raise SpecError(
                f"{place}{shown(word)}: kvplan knows no figures of it and no engine's memory rules on it; "
                "give a file with its memory, bandwidth and one rate, as in 'fp16: 197 TFLOP/s'"
            ) from None
        raise


def _card(named: str) -> str:
    """Return the GPU that a name means with its maker, its memory or 'Generation' beside it; '' for none.

    A memory that is not the card's own names another card.
    """
    sold = _SOLD.search(named)
    bare = _MADE.sub("", _SOLD.sub("", named)).removesuffix(" generation").removesuffix(" gpu")
    known = every_name("gpus")
    for tried in (named, bare, plain(bare), bare.replace(" ", "").replace("-", "")):
        name = known.get(tried)
        if name and (sold is None or _memory(name) == sold[1]):
            return name
    return ""


def _memory(name: str) -> str:
    """Return the GB that a card on the shelf is sold with, as its file writes them: '80' of '80 GB'."""
    stated = document("gpus", name)["memory"]
    return str(stated["value"] if isinstance(stated, dict) else stated).partition(" ")[0]
