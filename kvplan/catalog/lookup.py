"""Names, aliases and paths, interchangeable wherever a spec is wanted."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kvplan.catalog.files import path_of
from kvplan.catalog.shelves import names, shipped
from kvplan.errors import SpecError, UnknownName, shown

#: shelves of a few names, which kvplan list does not show
UNLISTED = ("apis", "claims", "collections", "drafts", "instances", "makers", "ownership", "quality", "recipes")
#: lines of other names in a file of a shelf: of the same thing, and of models made from it
_ALIASES = re.compile(r"^(?:aliases|derived):\s*\[(.*)\]\s*(?:#.*)?$", re.MULTILINE)
_SUFFIX = re.compile(r"-(instruct|it|chat|hf|base)$")


def plain(name: str) -> str:
    """Return a name as it is compared: lower case, no organisation, no '-Instruct', one kind of separator."""
    bare = name.strip().lower().rsplit("/", 1)[-1].replace("_", "-").replace(" ", "-")
    shorter = _SUFFIX.sub("", bare)
    while shorter != bare:
        bare, shorter = shorter, _SUFFIX.sub("", shorter)
    return bare


@cache
def _aliases(kind: str) -> dict[str, str]:
    """Map every alias on a shelf to its name. Reads only the lines that matter of each file."""
    aliases: dict[str, str] = {}
    for name in names(kind):
        for line in _ALIASES.findall(shipped(kind, name)):
            for alias in re.findall(r'"([^"]*)"|([^,\s][^,]*)', line):
                aliases.setdefault((alias[0] or alias[1]).strip().lower(), name)
    for alias, name in list(aliases.items()):
        aliases.setdefault(plain(alias), name)
    return aliases


#: the quantised uploads that a file of a shelf describes, one a line
_UPLOADS = re.compile(r"^uploads:\n((?:  \S.*\n)+)", re.MULTILINE)


@cache
def uploads() -> dict[str, str]:
    """Map every quantised upload whose own config the shelf of models describes to its model, by its full name."""
    found: dict[str, str] = {}
    for name in names("models"):
        block = _UPLOADS.search(shipped("models", name))
        for line in block[1].splitlines() if block else ():
            found[line.strip().partition(":")[0].lower()] = name
    return found


def every_name(kind: str) -> dict[str, str]:
    """Return the shelf name behind every name and alias on a shelf."""
    return {**_aliases(kind), **{name: name for name in names(kind)}}


def named(kind: str, word: str) -> bool:
    """Return whether a word is a name or an alias on a shelf."""
    known = every_name(kind)
    return word.strip().lower() in known or plain(word) in known


def swapped(word: str, noun: str, other: str, example: str) -> SpecError:
    """Return what to say of a `noun` given where the `other` is asked for."""
    given = f"give it as {noun}={word} and a {other} as {other}={example}"
    return SpecError(f"{shown(word)} is a {noun}, not a {other}; {given}")


def _exists(word: str) -> bool:
    """Return whether a file of this name is here; a word too long for a name is none."""
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False


def resolve(kind: str, word: str, noun: str, location: str = "", others: Iterable[str] = ()) -> str:
    """Return the shelf name for a name or an alias.

    UnknownName suggests the nearest, also of `others` that may stand there, and says `location` it stands.
    """
    for tried in (word, word.strip().lower(), plain(word)):
        if tried in names(kind):
            return tried
    aliases = _aliases(kind)
    for tried in (word.strip().lower(), plain(word)):
        if tried in aliases:
            return aliases[tried]
    listed = {"serving": "profiles", "calibrations": "profiles"}.get(kind, kind)
    fetched = ", or fetch its config with online=True" if kind == "models" and word.count("/") == 1 else ""
    here = f"write ./{word} for the file here" if "/" not in word and _exists(word) else "give a path"
    shelf = f"known: {', '.join(names(kind))}" if kind in UNLISTED else f"see `kvplan list {listed}`"
    other = f"{shelf}, or {here}{fetched}"
    raise UnknownName(noun, word, (*names(kind), *aliases, *others), other, location)


def as_path(word: str) -> Path | None:
    """Return the path a word means: it exists, or is written like one; None for a name, SpecError where none is."""
    try:
        path = path_of(word)
        if path.exists() and (path.suffix in (".json", ".yaml", ".yml", ".gguf") or path.is_dir() or "/" in word):
            return path
    except PermissionError as error:
        raise SpecError(f"{word}: cannot be read ({error.strerror})") from None
    except (OSError, SpecError):
        raise SpecError(f"{shown(word)} is neither a name nor a path") from None
    written = word.startswith(("./", "../", "/", "~")) or word.endswith((".json", ".yaml", ".yml", ".gguf"))
    if written:
        raise SpecError(f"{word}: no such file or folder")
    return None
