"""Work of more than a second says on stderr how far it is: a bar where a person waits, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

#: how long nobody minds to wait [s]
PATIENCE = 1.0


@contextmanager
def waiting(say: Callable[[str], object] | None = None) -> Iterator[Callable[[float, str], None] | None]:
    """Give a function of (share done, what is going on), None where nobody would see it.

    Where stderr is no terminal `say` gets a line now and then; without it nothing is shown there.
    """
    if say is None and not sys.stderr.isatty():
        yield None
        return
    begun = time.monotonic()
    shown = None
    with ExitStack() as stack:

        def report(share: float, text: str) -> None:
            nonlocal shown
            if shown is None and time.monotonic() - begun >= PATIENCE:
                from kvplan.report.progress import shares  # rich is loaded for those who wait

                shown = stack.enter_context(shares(say))
            if shown is not None:
                shown(share, text)

        yield report
