"""The options that start an engine's server, by release."""

from dataclasses import asdict, fields
from string import Formatter

from kvplan.catalog.fields import known_fields, mapping, read_source, text
from kvplan.errors import SpecError
from kvplan.specs.launch import LaunchOptions

#: what a template may name
PLACES = (
    "model", "tensor", "pipeline", "data", "ranks", "expert", "tokens", "sequences", "chunk", "share",
    "host", "host_rank", "host_bytes", "draft", "drafted", "verified", "host_name", "port", "nodes", "rank", "leader",
)  # fmt: skip
TABLES = ("images", "techniques", "weights", "drafts")
KNOWN = tuple(f.name for f in fields(LaunchOptions))
NEEDED = ("command", "tensor", "source")


def launch_options(raw: object, before: LaunchOptions | None, location: str) -> LaunchOptions:
    """Return the options of a release: those of the one before it, and what changed; raise SpecError, UnknownName."""
    document = mapping(raw, location, "{command: 'serve {model}', tensor: '--tp {tensor}'}")
    known_fields(document, KNOWN, location)
    values = {**asdict(before), "source": before.source} if before else {}
    if missing := next((f for f in NEEDED if f not in {**values, **document}), None):
        raise SpecError(f"{location}: missing {missing}")
    for name in document:
        if name in TABLES:
            table = mapping(document[name], f"{location}: {name}", "{fp8: --kv-cache-dtype fp8}")
            values[name] = {**values.get(name, {}), **{k: template(table, k, f"{location}: {name}") for k in table}}
        elif name == "source":
            values[name] = read_source(document[name], location)
        else:
            values[name] = template(document, name, location)
    return LaunchOptions(**values)


def template(raw: dict[str, object], key: str, location: str) -> str:
    """Return an option, or refuse one that names what no plan has."""
    words = text(raw, key, location)
    named = [name for _, name, _, _ in Formatter().parse(words) if name is not None]
    if wrong := next((name for name in named if name not in PLACES), None):
        raise SpecError(f"{location}: {key}: no plan has {{{wrong}}}; known: {', '.join(PLACES)}")
    return words
