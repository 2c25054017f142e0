"""One source for plain Python and for numba: functions that are compiled only when `fast` is asked for."""

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: no references are counted: a function only borrows the arrays it is given. Those inside need no way in from Python
OPTIONS = {"_nrt": False}
INSIDE = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: functions that compiled code may call, in the order of their definition
_inner: list[Callable[..., Any]] = []
#: of these, functions whose arguments are handed over too often: compiled into whoever calls them
_hot: set[str] = set()
#: the folder that compiled code is kept in, none for numba's own
_kept: list[str] = []
#: functions that are called from outside
_outer: list[Callable[..., Any]] = []


def inner(function: F) -> F:
    """Mark a function that compiled functions call; plain Python calls it as it is."""
    _inner.append(function)
    return function


def hot(function: F) -> F:
    """Mark an inner function that is compiled into its callers: ten times as fast, for a longer compilation."""
    _hot.add(function.__name__)
    return inner(function)


def outer(function: F) -> F:
    """Mark a function that is called from plain Python, where it runs compiled if it was asked for."""
    _outer.append(function)
    return function


@cache
def available() -> bool:
    """Return whether numba (the extra kvplan[fast]) is installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def digest() -> str:
    """Return a number for the text of all compiled functions: code kept under another is of other sources."""
    text = "".join(f"{f.__name__}{f.__code__.co_code.hex()}{f.__code__.co_consts}{f.__code__.co_names}" for f in
                   (*_inner, *_outer))  # fmt: skip
    return blake2b(f"{text}{sorted(_hot)}".encode(), digest_size=8).hexdigest()


def keep(folder: str) -> None:
    """Say where compiled code is kept; numba's own place where nobody does."""
    _kept[:] = [folder] * bool(folder)


@cache
def fast() -> dict[str, Callable[..., Any]]:
    """Return the compiled form of every outer function, by name; each compiles when it is first called.

    Compiled code is kept on disk: numba looks at the file of an outer function alone, so the folder is of one digest.
    """
    from numba import config, njit
    from numba.extending import register_jitable

    if _kept:
        config.CACHE_DIR = _kept[0]

    for function in _inner:
        register_jitable(**INSIDE, forceinline=function.__name__ in _hot)(function)
    return {f.__name__: njit(cache=True, nogil=True, **OPTIONS)(f) for f in _outer}


def ready() -> bool:
    """Return whether compiled functions are in use already."""
    return fast.cache_info().currsize > 0


def plain() -> dict[str, Callable[..., Any]]:
    """Return the same functions as they stand."""
    return {f.__name__: f for f in _outer}
