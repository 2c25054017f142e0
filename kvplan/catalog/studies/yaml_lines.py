"""On which line of a YAML file each of its values stands."""

from typing import Any

import yaml

#: keys and places in lists, from the outermost in
Route = tuple[str | int, ...]

_Events = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def lines_of(text: str) -> dict[Route, int]:
    """Return the line of every value of a YAML mapping that `read_yaml` has read, by its route.

    The line of a value in a mapping is that of its key.
    """
    lines: dict[Route, int] = {(): 1}
    route: list[str | int] = []
    #: for each open list the next place, for each open mapping whether a key comes next
    state: list[int | None] = []
    events: Any = yaml.parse(text, Loader=_Events)
    for event in events:
        kind = type(event)
        if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            state.pop()
            _leave(route, state)
        elif kind is yaml.ScalarEvent and state and state[-1] is None and _wants_key(route, state):
            route.append(event.value)
            lines[tuple(route)] = int(event.start_mark.line) + 1
        elif kind is yaml.ScalarEvent or kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if state and state[-1] is not None:
                route.append(state[-1])
                lines[tuple(route)] = int(event.start_mark.line) + 1
            if kind is yaml.ScalarEvent:
                _leave(route, state)
            else:
                state.append(0 if kind is yaml.SequenceStartEvent else None)
    return lines


def _wants_key(route: list[str | int], state: list[int | None]) -> bool:
    return len(route) == len(state) - 1


def _leave(route: list[str | int], state: list[int | None]) -> None:
    if route:
        last = route.pop()
        if state and isinstance(last, int):
            state[-1] = last + 1
