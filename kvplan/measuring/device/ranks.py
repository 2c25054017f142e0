"""All-reduce under torch.distributed: a process a rank, watched from outside so that none hangs or outlives us.

Ranks talk to each other through NCCL (CUDA) or gloo (CPU) and to us through a pipe each. A rank that does not answer in
time ends all of them; a rank whose parent is gone, however it went, ends itself.
"""

import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NoReturn

from kvplan.measuring.device.course import Failed, Sample, Timer, reason
from kvplan.measuring.device.probes import WIDTH, Probe
from kvplan.measuring.device.worker import follow, interrupts_ignored
from kvplan.units import show_time

KIND = "all_reduce"
#: time for ranks to load torch and to meet, and for one sample [s]
MEET, ANSWER = 60.0, 10.0
#: time for ranks to end by themselves [s]
LEAVE = 2.0
#: a sample repeats its all-reduce for at least so long [s]
LEAST = 4e-3
MOST_REPEATS = 200
#: dtype and messages, as powers of two elements, by backend
MESSAGES = {"nccl": ("bfloat16", range(9, 29)), "gloo": ("float32", range(8, 23))}


def sizes(count: int) -> list[int]:
    """Return the numbers of ranks that reduce together: powers of two, and all of them."""
    return sorted({*(2**p for p in range(1, count.bit_length()) if 2**p <= count), count})


def all_reduce_probes(backend: str, engine: str, count: int) -> Iterator[Probe]:
    """Yield all-reduces among 2, 4, ... ranks; `moved` is what a ring sends and receives a rank."""
    dtype, powers = MESSAGES[backend]
    for n in sizes(count):
        for p in powers:
            yield Probe(
                group=f"all_reduce of {n}", kind=KIND, kernel=KIND, dtype=dtype, engine=engine,
                sizes={"n_gpus": n, "message_size": 2**p}, moved=WIDTH[dtype] * 2**p * 2 * (n - 1) / n, flops=0.0,
            )  # fmt: skip


class Ranks:
    """Processes that reduce together. Failed when they do not start, answer or agree; no process is left then."""

    def __init__(self, backend: str, count: int):
        self.backend, self.count = backend, count
        self.folder = TemporaryDirectory(prefix="kvplan-")
        self.pipes: list[Any] = []
        self.processes: list[Any] = []
        context = get_context("spawn")
        with interrupts_ignored():
            for rank in range(count):
                ours, theirs = context.Pipe()
                arguments = (rank, count, backend, f"{self.folder.name}/store", theirs)
                process = context.Process(target=serve, args=arguments, daemon=True)
                process.start()
                theirs.close()
                self.pipes.append(ours)
                self.processes.append(process)

    @property
    def first(self) -> int:
        """Return the process of the first GPU."""
        return int(self.processes[0].pid)

    def meet(self, limit: float = MEET) -> None:
        """Wait until every rank has reduced once with the others and got the right sum."""
        self._answers(len(self.pipes), limit)

    def seconds(self, probe: Probe, repeats: int, limit: float = ANSWER) -> float:
        """Return the time of so many all-reduces at the rank that came last: it waited for nobody. [s]"""
        n = probe.sizes["n_gpus"]
        for rank, pipe in enumerate(self.pipes[:n]):
            try:
                pipe.send((n, probe.sizes["message_size"], probe.dtype, repeats))
            except OSError:
                self._lose(rank, "ended")
        return min(self._answers(n, limit))

    def _answers(self, count: int, limit: float) -> list[float]:
        if not self.pipes:
            raise Failed("the processes of all-reduce were ended")
        deadline, answers = time.monotonic() + limit, []
        for rank, pipe in enumerate(self.pipes[:count]):
            try:
                late = not pipe.poll(max(deadline - time.monotonic(), 0.0))
                answer = f"did not answer within {show_time(limit)}" if late else pipe.recv()
            except (EOFError, OSError):
                answer = "ended"
            if isinstance(answer, str):
                self._lose(rank, answer)
            answers.append(answer)
        return answers

    def _lose(self, rank: int, how: str) -> NoReturn:
        """End all processes, as one of them is of no more use, and say which and why."""
        self.close(0.0)
        raise Failed(f"all-reduce: rank {rank} {how}")

    def close(self, patience: float = LEAVE) -> None:
        """End every process, by force after `patience` [s]."""
        for pipe in self.pipes:
            pipe.close()
        deadline = time.monotonic() + patience
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0.0))
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()
        self.pipes, self.processes = [], []
        self.folder.cleanup()


class Together:
    """A device's timer, and ranks beside it for all-reduce; ranks that were ended are started anew, so many times."""

    def __init__(self, timer: Timer, ranks: Ranks, again: int = 2):
        self.timer, self.ranks, self.again = timer, ranks, again
        self.gpu, self.engine = timer.gpu, timer.engine
        self.repeats: dict[tuple[str, ...], int] = {}

    def close(self) -> None:
        """End all ranks; none is started again."""
        self.again = 0
        self.ranks.close()

    def sample(self, probe: Probe) -> Sample:
        """Return one timed sample: of an all-reduce by the ranks, of anything else by the device's own timer."""
        if probe.kind != KIND:
            return self.timer.sample(probe)
        if not self.ranks.processes and self.again:
            self.again -= 1
            self.ranks = Ranks(self.ranks.backend, self.ranks.count)
            self.ranks.meet()
        begun = time.perf_counter()
        if probe.key not in self.repeats:
            self.ranks.seconds(probe, 1)
            single = max(self.ranks.seconds(probe, 1), 1e-6)
            self.repeats[probe.key] = min(MOST_REPEATS, int(LEAST / single) + 1)
        repeats = self.repeats[probe.key]
        spent = self.ranks.seconds(probe, repeats)
        return Sample(time=spent / repeats, wall=time.perf_counter() - begun, repeats=repeats)


# -- in a rank's own process -------------------------------------------------------------------------


def serve(rank: int, count: int, backend: str, meeting: str, pipe: Any) -> None:
    """Meet the other ranks, then reduce what the pipe asks for until it closes; errors are sent, not raised."""
    Thread(target=follow, daemon=True).start()
    try:
        reducer = Reducer(rank, count, backend, meeting)
        pipe.send(0.0)
        while True:
            pipe.send(reducer.seconds(*pipe.recv()))
    except (EOFError, OSError):
        pass
    except Exception as error:  # whatever it is, it must reach the one who waits
        pipe.send(f"failed: {reason(error)}")
    signal.raise_signal(signal.SIGKILL)  # torch's own threads would wait for each other, or complain


class Reducer:
    """One rank: its process groups and what it has made ready."""

    def __init__(self, rank: int, count: int, backend: str, meeting: str):
        import torch
        import torch.distributed as dist

        self.torch, self.dist, self.cuda = torch, dist, backend == "nccl"
        self.device = torch.device("cuda", rank) if self.cuda else torch.device("cpu")
        if self.cuda:
            torch.cuda.set_device(rank)
        else:
            torch.set_num_threads(1)
        store = dist.FileStore(meeting, count)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=count, timeout=timedelta(seconds=MEET)
        )  # fmt: skip
        self.groups = {n: dist.new_group(list(range(n))) for n in sizes(count)}
        dtype, powers = MESSAGES[backend]
        self.buffer = torch.zeros(2 ** powers[-1], dtype=getattr(torch, dtype), device=self.device)
        self.graphs: dict[tuple[int, int, str, int], Any] = {}
        for n, group in self.groups.items():
            self._agree(rank, n, group)

    def _agree(self, rank: int, n: int, group: Any) -> None:
        if rank < n:
            x = self.torch.full((8,), float(rank + 1), device=self.device)
            self.dist.all_reduce(x, group=group)
            if x.tolist() != [n * (n + 1) / 2] * 8:
                raise ValueError(f"{n} ranks added up to {x.tolist()}")

    def seconds(self, n: int, elements: int, dtype: str, repeats: int) -> float:
        """Return this rank's time for so many all-reduces, started together. [s]"""
        group, key = self.groups[n], (n, elements, dtype, repeats)
        if self.cuda:
            return self._on_gpu(group, key)
        x = self.buffer[:elements]
        self.dist.all_reduce(x, group=group)
        self.dist.barrier(group)
        begun = time.perf_counter()
        for _ in range(repeats):
            self.dist.all_reduce(x, group=group)
        return time.perf_counter() - begun

    def _on_gpu(self, group: Any, key: tuple[int, int, str, int]) -> float:
        torch, (_, elements, _, repeats) = self.torch, key
        if key not in self.graphs:
            x = self.buffer[:elements]
            self.dist.all_reduce(x, group=group)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                for _ in range(repeats):
                    self.dist.all_reduce(x, group=group)
            self.graphs[key] = graph
        first, last = (torch.cuda.Event(enable_timing=True) for _ in "fl")
        self.dist.all_reduce(torch.zeros(1, device=self.device), group=group)
        first.record()
        self.graphs[key].replay()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3
