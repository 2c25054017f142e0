"""Errors a user can cause: where, what, and what to write instead; and how text from outside is shown."""

import re
from collections.abc import Iterable
from reprlib import Repr

#: letters of a value that a message repeats, and of the longest message
ECHOED, LONGEST = 80, 1000
#: names of which an abbreviation says one
FEW = 30
#: control characters (C0 but for tab and newline, DEL, C1), marks that turn the direction of text, separators of lines
#: and paragraphs, halves of surrogate pairs, byte-order marks, invisible tags: what could steer a terminal or a reader
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)
_bounded = Repr()
_bounded.maxstring = _bounded.maxother = ECHOED
_bounded.maxlevel = 2


def visible(text: str) -> str:
    r"""Return text with every character that could steer a terminal written out: \x1b, \u202e."""
    return _STEERING.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(message: str) -> str:
    """Return a message as one line of plain text, of a length one can read."""
    line = visible(" ".join(message.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def shown(value: object) -> str:
    """Return a value from outside as a message repeats it: quoted, on one line, cut at ECHOED characters."""
    try:
        text = _bounded.repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= ECHOED + 2 else f"{text[:ECHOED]}..."


class KvplanError(Exception):
    """Printed on one line without a traceback; the process exits with 1. The text is plain and of a bounded length."""

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class SpecError(KvplanError):
    """A file or a value in it cannot be understood."""


class WrongUse(SpecError):
    """Options that contradict each other, or one that says nothing without another; exits with 2."""


def alike(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names that are most like one, the nearest first; else the one of a few that it abbreviates."""
    from difflib import get_close_matches

    word, names = name[:ECHOED].lower(), sorted(set(known))
    near = get_close_matches(word, names, n=most, cutoff=0.6)
    short = [] if near or len(names) > FEW else [one for one in names if abbreviates(word, one.lower())]
    return near or (short if len(short) == 1 else [])


def abbreviates(word: str, name: str) -> bool:
    """Return whether a word is short for a name: 'k8s' counts the letters it leaves out, 'lws' has some in order."""
    counted = re.fullmatch(r"([a-z])(\d{1,2})([a-z])", word)
    if counted:
        return bool(re.fullmatch(f"{counted[1]}.{{{counted[2]}}}{counted[3]}", name))
    letters = iter(name)
    return len(word) > 1 and word[0] == name[:1] and all(letter in letters for letter in word)


def meant(name: object, choices: Iterable[str], most: int = 3) -> str:
    """Return what a wrong word of a few choices was meant to be: "; did you mean 'cost'?", '' where nobody knows.

    The choices that are like it, else those that begin with it.
    """
    if not isinstance(name, str) or not name.strip():
        return ""
    known = {choice.lower(): choice for choice in choices}
    begun = [choice for choice in known if choice.startswith(name.lower())][:most]
    near = [known[choice] for choice in alike(name, known, most) or begun]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


class UnknownName(KvplanError):
    """No model, GPU, technique ... of that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "", location: str = ""):
        known = sorted(set(known))
        begun = [one for one in known if one.lower().startswith(f"{name.strip().lower()}-")]
        near = [*begun, *(one for one in alike(name, known) if one not in begun)][:3]
        advice = f"did you mean {' or '.join(map(repr, near))}?" if near else hint or f"known: {', '.join(known[:12])}"
        place = f"{location}: " if location else ""
        super().__init__(f"{place}no {kind} named {shown(name)}; {advice}")


class Incompatible(KvplanError):
    """Two choices, or a choice and a model, that cannot go together."""
