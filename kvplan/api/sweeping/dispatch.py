"""A study on its way: batches go out, portions come back and are written, and nothing is lost on the way."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from kvplan.api.sweeping.batches import Batch, KeyedPoint, Portion
from kvplan.api.sweeping.crews import Crew
from kvplan.errors import KvplanError, SpecError

#: batches each worker has at hand, so that none waits for the next
AT_HAND = 2
#: points that ended every worker, before any batch was answered, that are enough
HOPELESS = 3
#: who is told (points, how many of them were refused or failed) of every portion that is on disk
Told = Callable[[int, int], None]


def cut(points: Iterator[KeyedPoint], size: int, like: Batch) -> Iterator[Batch]:
    """Yield batches of at most `size` points."""
    while some := tuple(islice(points, size)):
        yield replace(like, points=some)


class Dispatch:
    """The batches of a study that are still to be answered, and what became of the others.

    When a worker dies, nobody knows whose batch it was: all that were out are answered again, one after another. The
    one with which a worker dies again is cut in halves, until the point is found that ends every worker.
    """

    def __init__(self, batches: Iterator[Batch], crew: Crew, write: Callable[[Portion], None], told: Told):
        self.batches, self.crew, self.write, self.told = batches, crew, write, told
        self.rest: deque[Batch] = deque()
        self.suspects: deque[Batch] = deque()
        self.out, self.portions = 0, 0
        self.lost: list[KeyedPoint] = []

    def run(self) -> list[KeyedPoint]:
        """Answer all batches, and return the points that ended every worker that asked them."""
        while self.give() or self.out:
            alone = self.out == 1 and bool(self.suspects)
            for batch, fate in self.crew.hand_over():
                self.out -= 1
                if isinstance(fate, KvplanError):
                    raise fate
                if fate is None:
                    self.died(batch, alone)
                else:
                    self.returned(batch, fate, alone)
        return self.lost

    def give(self) -> bool:
        """Give the crew batches as far as it has room; return whether there is anything to wait for."""
        if self.suspects:
            if not self.out:
                self.take(self.suspects[0])
            return True
        while self.out < self.crew.size * AT_HAND:
            batch = self.rest.popleft() if self.rest else next(self.batches, None)
            if batch is None:
                break
            self.take(batch)
        return bool(self.out)

    def take(self, batch: Batch) -> None:
        """Give the crew one batch."""
        self.crew.take(batch)
        self.out += 1

    def returned(self, batch: Batch, portion: Portion, alone: bool) -> None:
        """Write a portion, and keep what is left of its batch for later."""
        self.write(portion)
        self.portions += 1
        self.told(portion.points, portion.wrong)
        if alone:
            self.suspects.popleft()
        if left := batch.points[portion.points :]:
            self.rest.append(replace(batch, points=left))

    def died(self, batch: Batch, alone: bool) -> None:
        """Suspect a batch whose worker died; halve the one that was alone with it."""
        if not alone:
            self.suspects.append(batch)
            return
        self.suspects.popleft()
        middle = len(batch.points) // 2
        if not middle:
            self.lost.append(batch.points[0])
            if len(self.lost) >= HOPELESS and not self.portions:
                raise SpecError(
                    "workers: every process ends before it answers; ask with workers=1, and in a script of your own "
                    "put the call under if __name__ == '__main__'"
                )
            return
        self.suspects.extendleft(replace(batch, points=half) for half in (batch.points[middle:], batch.points[:middle]))
