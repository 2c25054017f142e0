"""How messages name options: the core names parameters (`gpus=h200`), a user types flags (`--gpu h200`)."""

import re
from functools import cache
from typing import Any

import click

from kvplan.errors import KvplanError, WrongUse


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
    """Return a refusal with its parameters named as flags, also those it is about: `ttft: must be ...`."""
    known = flags(command)

    def first(match: re.Match[str]) -> str:
        names = match[1].split(", ")
        return f"{', '.join(known[n][0] for n in names)}:" if all(n in known for n in names) else match[0]

    return flagged(re.sub(r"^([a-z_0-9]+(?:, [a-z_0-9]+)*):", first, text), command)


def reworded(refusal: KvplanError, command: click.Command | None) -> KvplanError:
    """Return a refusal as this command's flags say it; wrong use stays wrong use."""
    said = refused(str(refusal), command) if command else str(refusal)
    return WrongUse(said) if isinstance(refusal, WrongUse) else KvplanError(said)


def spoken(value: Any, command: click.Command) -> Any:
    """Return a JSON value whose texts name this command's flags."""
    if isinstance(value, str):
        return flagged(value, command)
    if isinstance(value, list):
        return [spoken(item, command) for item in value]
    return {key: spoken(item, command) for key, item in value.items()} if isinstance(value, dict) else value
