"""Who answers batches: this process, or several that a server forks; a worker that dies takes no point with it."""

import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.forkserver import ensure_running
from os import _exit
from threading import Thread, current_thread, main_thread
from typing import Protocol

from kvplan.api.sweeping.batches import Batch, Portion, answered
from kvplan.errors import KvplanError

#: what becomes of a batch: a portion of it, a refusal of the worker, or None where its worker died
Fate = Portion | KvplanError | None


class Crew(Protocol):
    """Takes batches and hands back what became of them."""

    size: int  #: batches that are answered at once

    def take(self, batch: Batch) -> None:
        """Begin to answer a batch."""

    def hand_over(self) -> list[tuple[Batch, Fate]]:
        """Wait for at least one batch and return those that are done."""


class LoneCrew:
    """This process, one batch after another."""

    size = 1

    def __init__(self) -> None:
        self.waiting: deque[Batch] = deque()

    def take(self, batch: Batch) -> None:
        """Keep a batch for later."""
        self.waiting.append(batch)

    def hand_over(self) -> list[tuple[Batch, Fate]]:
        """Answer the next batch."""
        batch = self.waiting.popleft()
        return [(batch, answered(batch))]


def live_with_parent() -> None:
    """End when the process that asks is gone, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            _exit(1)

        Thread(target=follow, daemon=True).start()


def serve_deaf() -> None:
    """Start the server of processes with Ctrl-C ignored, as what it forks inherits: who asks decides."""
    if current_thread() is not main_thread():  # only it may set what a signal does
        ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


class ProcessCrew:
    """Processes that a server forks: none inherits threads, locks or open files of the one that asks."""

    def __init__(self, size: int):
        self.size = size
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload([])  # the server would look for modules in the folder it stands in
        serve_deaf()
        self.running: dict[Future[Portion | KvplanError], Batch] = {}
        self.pool = self.started()

    def started(self) -> ProcessPoolExecutor:
        """Return processes that wait for batches."""
        return ProcessPoolExecutor(self.size, mp_context=self.context, initializer=live_with_parent)

    def take(self, batch: Batch) -> None:
        """Give a batch to the processes."""
        try:
            future = self.pool.submit(answered, batch)
        except BrokenProcessPool:
            future = Future()
            future.set_exception(BrokenProcessPool())
        self.running[future] = batch

    def hand_over(self) -> list[tuple[Batch, Fate]]:
        """Wait for a batch; where a process died, all that were being answered are handed back without an answer."""
        done, _ = wait(self.running, return_when=FIRST_COMPLETED)
        broken = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
        if broken:
            done, _ = wait(self.running)
        over: list[tuple[Batch, Fate]] = []
        for future in done:
            batch = self.running.pop(future)
            error = future.exception()
            if error is not None and not isinstance(error, BrokenProcessPool):
                raise error
            over.append((batch, None if error else future.result()))
        if broken:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = self.started()
        return over


@contextmanager
def pool(size: int) -> Iterator[Crew]:
    """Give as many processes, or this one alone; whatever happens, the processes are gone afterwards."""
    if size == 1:
        yield LoneCrew()
        return
    before = set(active_children())
    crew = ProcessCrew(size)
    try:
        yield crew
        crew.pool.shutdown()
    finally:
        for process in set(active_children()) - before:
            process.kill()
        crew.pool.shutdown(wait=False, cancel_futures=True)
