"""Every error a user can cause. The message says where, what, and what to write instead."""

from collections.abc import Iterable


class KvplanError(Exception):
    """Printed on one line without a traceback; the process exits with 1."""


class SpecError(KvplanError):
    """A file or a value in it cannot be understood."""


class UnknownName(KvplanError):
    """No model, GPU, technique ... of that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "", where: str = ""):
        from difflib import get_close_matches

        known = sorted(set(known))
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        shown = (repr(w) for w in near)
        advice = f"did you mean {' or '.join(shown)}?" if near else hint or f"known: {', '.join(known[:12])}"
        place = f"{where}: " if where else ""
        super().__init__(f"{place}no {kind} named {name!r}; {advice}")


class Incompatible(KvplanError):
    """Two choices, or a choice and a model, that cannot go together."""
