"""Batches on a Ray cluster: the same points and the same answers, from workers on many machines.

Portions come back to this process, which alone writes, so machines need no disk in common unless a study names files.
Ray restarts what dies with a worker by itself; what it gives up is handed back like the batch of a dead process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from secrets import token_hex
from typing import Any

from kvplan.api.sweeping.batches import Batch, answered
from kvplan.api.sweeping.crews import Crew, Fate
from kvplan.errors import SpecError

#: the oldest release whose behaviour was checked
OLDEST = (2, 60)
#: an address that starts a cluster on this machine
LOCAL = "local"
#: how often Ray asks a batch again whose worker died
AGAIN = 3
#: settings that stand where nobody set them: a busy machine takes longer to start than Ray waits, and nobody reads the
#: metrics of a sweep, whose agent is what most often fails to start
USUAL = {"RAY_raylet_start_wait_time_s": "120", "RAY_enable_metrics_collection": "0", "RAY_USAGE_STATS_ENABLED": "0"}
#: where a cluster's secret may stand; without any of them Ray writes one into the home folder
SECRETS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
#: how often a cluster on this machine is started
TRIES = 3


def library() -> Any:
    """Return Ray; raise SpecError where it is not installed or too old."""
    for name, value in USUAL.items():
        environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        ray = None
    if ray is None or tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise SpecError(f"engine: needs Ray {oldest} or newer; install it with: pip install 'kvplan[ray]'")
    return ray


class ClusterCrew:
    """Workers of a Ray cluster."""

    def __init__(self, ray: Any, size: int):
        self.ray, self.size = ray, size
        self.running: dict[Any, Batch] = {}
        self.ask = ray.remote(num_cpus=1, max_retries=AGAIN)(answered)

    def take(self, batch: Batch) -> None:
        """Give a batch to the cluster."""
        self.running[self.ask.remote(batch)] = batch

    def hand_over(self) -> list[tuple[Batch, Fate]]:
        """Wait for a batch and return what is done."""
        done, _ = self.ray.wait(list(self.running), num_returns=1)
        return [(self.running.pop(ref), self.fate(ref)) for ref in done]

    def fate(self, ref: Any) -> Fate:
        """Return what became of a batch."""
        try:
            fate: Fate = self.ray.get(ref)
        except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.OutOfMemoryError,
                self.ray.exceptions.NodeDiedError, self.ray.exceptions.ObjectLostError):  # fmt: skip
            return None
        except self.ray.exceptions.RayError as error:
            why = str(error).strip().partition("\n")[0]
            raise SpecError(f"engine: Ray gave up ({why}); what was answered is on disk: ask again to go on") from None
        return fate


@contextmanager
def cluster(address: str | None, workers: int | None) -> Iterator[Crew]:
    """Give the workers of a cluster: the one at an address, the one that runs here, or one of this process alone."""
    ray = library()
    mine = not ray.is_initialized()
    if mine:
        begin(ray, address, workers)
    try:
        most = int(ray.cluster_resources().get("CPU", 1))
        yield ClusterCrew(ray, min(workers or most, most))
    finally:
        if mine:
            ray.shutdown()


def begin(ray: Any, address: str | None, workers: int | None) -> None:
    """Connect to a cluster, or start one of this process; raise SpecError."""
    tries = TRIES if address == LOCAL else 1
    for left in reversed(range(tries)):
        try:
            if address == LOCAL:
                local(ray, workers)
            else:
                ray.init(address=address or environ.get("RAY_ADDRESS") or "auto", log_to_driver=False)
            return
        except Exception as error:
            ray.shutdown()
            if not left:
                why = str(error).strip().partition("\n")[0]
                start = "start one with `ray start`, name it with address=HOST:6379, or try address=local"
                raise SpecError(f"address: no Ray cluster answers ({why}); {start}") from None


def local(ray: Any, workers: int | None) -> None:
    """Start a cluster on this machine whose secret lives as long as this process and is in no file."""
    if not any(name in environ for name in SECRETS):
        environ["RAY_AUTH_TOKEN"] = token_hex(32)
    ray.init(address=LOCAL, num_cpus=workers, include_dashboard=False, log_to_driver=False)
