"""One source for plain Python and for numba: functions that are compiled only when `fast` is asked for."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: no references are counted: a function only borrows the arrays it is given. Those inside need no way in from Python
OPTIONS = {"_nrt": False}
INSIDE = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: functions that compiled code may call, in the order of their definition
_inner: list[Callable[..., Any]] = []
#: of these, functions whose arguments are handed over too often: compiled into whoever calls them
_hot: set[str] = set()
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


@cache
def fast() -> dict[str, Callable[..., Any]]:
    """Return the compiled form of every outer function, by name; each compiles when it is first called.

    Compiled code is kept on disk where numba keeps it, beside this file or in the user's cache.
    """
    from numba import njit
    from numba.extending import register_jitable

    for function in _inner:
        register_jitable(**INSIDE, forceinline=function.__name__ in _hot)(function)
    return {f.__name__: njit(cache=True, nogil=True, **OPTIONS)(f) for f in _outer}


def ready() -> bool:
    """Return whether compiled functions are in use already."""
    return fast.cache_info().currsize > 0


def plain() -> dict[str, Callable[..., Any]]:
    """Return the same functions as they stand."""
    return {f.__name__: f for f in _outer}
