"""Work in a process of its own: what goes wrong on a device costs one answer, and a fresh process takes over.

After some errors (an illegal access, a hang, a failed capture) nothing more runs in the process that met them. So the
process that measures holds no samples and no files; the one that asks it holds both and touches no device.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from threading import Thread, current_thread, main_thread
from typing import Any

from kvplan.errors import KvplanError
from kvplan.measuring.device.course import Failed, Sample, TooLarge, reason
from kvplan.measuring.device.probes import Probe
from kvplan.units import show_time

#: time for a process to load torch and open its device, for one answer (compilation included), and to say after a
#: failure whether it is still fit for work [s]
START, ANSWER, FIT = 180.0, 45.0, 10.0
#: processes lost one after the other, without an answer between them, before the device is given up
LOSSES = 12


class Lost(KvplanError):
    """A device no longer answers, not even a fresh process."""


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: it is for us, and we end them."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Worker:
    """A process that makes one object and calls its methods for us; a lost one is replaced at the next question.

    make: a function of a module, called there with `arguments`. Its object may have a method `fit`, which says after a
    failure whether the process can go on.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        self.make, self.arguments = make, arguments
        self.process: Any = None
        self.pipe: Any = None
        self.losses = 0

    def ask(self, name: str, *arguments: Any, limit: float | None = None) -> Any:
        """Return what a method answers within `limit` [s, default ANSWER].

        Raises TooLarge or Failed, which say why there is no answer, and Lost when no process can be started, or one
        after the other is lost.
        """
        if self.process is None:
            self._begin()
        try:
            self.pipe.send((name, arguments))
            state, answer = self._receive(limit or ANSWER)
        except Failed:
            self._count_loss()
            raise
        except OSError:
            raise Failed(self._count_loss()) from None
        if state == "":
            self.losses = 0
            return answer
        try:
            fit = self._receive(FIT)[1]
        except Failed:
            fit = False
        if not fit:
            self._count_loss()
        raise (Failed if state == Failed.state else TooLarge)(answer)

    def _begin(self) -> None:
        if self.losses >= LOSSES:
            raise Lost(f"the device was lost {self.losses} times in a row")
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(self.make, self.arguments, theirs), daemon=True)
        with interrupts_ignored():
            self.process.start()
        theirs.close()
        try:
            state, answer = self._receive(START)
        except Failed as error:
            self.close()
            raise Lost(f"the process that measures does not start: it {error}") from None
        if state:
            self.close()
            raise Lost(answer)

    def _receive(self, limit: float) -> Any:
        """Return the next message; Failed when none comes in time, or the process is gone."""
        try:
            if self.pipe.poll(limit):
                return self.pipe.recv()
        except (EOFError, OSError):
            raise Failed(self._ending()) from None
        raise Failed(f"did not answer within {show_time(limit)}")

    def _ending(self) -> str:
        """Return in words how the process ended."""
        self.process.join(FIT)
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"ended with exit status {code}" if code is not None else "closed its pipe"
        return f"was killed by {signal.Signals(-code).name}"

    def _count_loss(self) -> str:
        """End a process that is no longer of use; return how it ended."""
        self.losses += 1
        ending = self._ending() if not self.process.is_alive() else "closed its pipe"
        self.close()
        return ending

    def close(self) -> None:
        """End the process by force; a later question starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.join(FIT)  # a driver that hangs may keep it for longer
            self.pipe.close()
        self.process = self.pipe = None


class Remote:
    """A device's timer, in a worker."""

    def __init__(self, worker: Worker, gpu: str, engine: str):
        self.worker, self.gpu, self.engine = worker, gpu, engine

    def sample(self, probe: Probe) -> Sample:
        """Return the worker's sample of a probe; TooLarge, Failed or Lost as `Worker.ask`."""
        sampled: Sample = self.worker.ask("sample", probe)
        return sampled


# -- in the worker's own process ---------------------------------------------------------------------


def follow() -> None:
    """End this process when its parent is gone."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    signal.raise_signal(signal.SIGKILL)


def serve(make: Callable[..., Any], arguments: tuple[Any, ...], pipe: Any) -> None:
    """Make an object and answer until the pipe closes: (state, answer), and after a failure whether to go on."""
    Thread(target=follow, daemon=True).start()
    with suppress(EOFError, OSError):
        try:
            made = make(*arguments)
        except Exception as error:  # whatever it is, it must reach the one who waits
            pipe.send((Failed.state, reason(error)))
            pipe.recv()  # never: the other side ends us
            return
        pipe.send(("", None))
        while True:
            name, given = pipe.recv()
            try:
                answer = "", getattr(made, name)(*given)
            except Exception as error:
                pipe.send((error.state if isinstance(error, TooLarge) else Failed.state, reason(error)))
                answer = "", getattr(made, "fit", lambda: True)()
            pipe.send(answer)
    signal.raise_signal(signal.SIGKILL)  # a device's own threads may hang at exit
