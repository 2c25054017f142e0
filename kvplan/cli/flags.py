"""How messages name options: the core names parameters (`gpus=h200`), a user types flags (`--gpu h200`)."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import click

from kvplan.errors import KvplanError, WrongUse, shown


@cache
def flags(command: click.Command) -> dict[str, tuple[str, bool]]:
    """Return parameter -> (its longest flag, whether it takes no value)."""
    return {
        p.name: (max(p.opts, key=len), bool(p.is_flag))
        for p in command.params
        if isinstance(p, click.Option) and p.name
    }


def flagged(text: str, command: click.Command) -> str:
    """Return a text with parameters it assigns named as this command's flags: `gpus=h200` becomes `--gpu h200`."""
    known = flags(command)

    def assigned(match: re.Match[str]) -> str:
        flag, bare = known.get(match[1], ("", False))
        return match[0] if not flag else flag if bare or not match[2] else f"{flag} {match[2]}"

    return re.sub(r"(?<![\w.-])([a-z_0-9]+)=([^\s,;)]*)", assigned, text) if "=" in text else text


def refused(text: str, command: click.Command) -> str:
    """Return a refusal with its parameters named as the help names them, also those it is about: `ttft: must be`."""
    known = {p.name: p.human_readable_name for p in command.params if isinstance(p, click.Argument) and p.name}
    known |= {name: flag for name, (flag, _) in flags(command).items()}

    def first(match: re.Match[str]) -> str:
        names = match[1].split(", ")
        return f"{', '.join(known[n] for n in names)}:" if all(n in known for n in names) else match[0]

    return flagged(re.sub(r"^([a-z_0-9]+(?:, [a-z_0-9]+)*):", first, text), command)


def reworded(refusal: KvplanError, command: click.Command | None, words: Sequence[str] = ()) -> KvplanError:
    """Return a refusal as this command's flags say it, with the `words` that were typed; wrong use stays wrong use."""
    said = apart(refused(str(refusal), command) if command else str(refusal), words, command)
    return WrongUse(said) if isinstance(refusal, WrongUse) else KvplanError(said)


#: a comma between names: one before a figure is part of a name, as in streaming:4,64
_COMMA = re.compile(r",\s*(?=[A-Za-z])")
#: what is said of a word that is no name or none of a few
_NO_NAME = re.compile(r" named | is not one of |: expected .* or ")


def apart(message: str, words: Sequence[str], command: click.Command | None) -> str:
    """Return a refusal of names that were joined by commas with what to write instead; any other as it is."""
    typed = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for before, word in pairwise(("", *typed)):
        names = _COMMA.split(word)
        if len(names) < 2 or shown(word) not in message or not _NO_NAME.search(message):
            continue
        flag = before if before.startswith("-") else ""
        return f"{message.partition('; did you mean')[0]}; {one_by_one(names, flag, command)}"
    return message


def one_by_one(names: Sequence[str], flag: str, command: click.Command | None) -> str:
    """Return how several names are given to a flag, '' for arguments: the flag once each, or one alone."""
    option = next((p for p in command.params if flag in p.opts), None) if command else None
    if isinstance(option, click.Option) and not option.multiple:
        return f"{flag} takes one, as in {flag} {names[0]}"
    return f"write {' '.join(f'{flag} {name}'.strip() for name in names)}"


#: what a call holds that a saved answer came from
CALL = {"function", "values"}


def spoken(value: Any, command: click.Command) -> Any:
    """Return a JSON value whose texts name this command's flags; a call keeps its values, to be asked again."""
    if isinstance(value, str):
        return flagged(value, command)
    if isinstance(value, dict) and value.keys() == CALL:
        return value
    if isinstance(value, list):
        return [spoken(item, command) for item in value]
    return {key: spoken(item, command) for key, item in value.items()} if isinstance(value, dict) else value
