"""How often a trace's prefixes are found again in memories of some sizes: the least recently used leaves first."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

Chain = Sequence[tuple[int, int]]


def found_again(chains: Iterable[Chain], rooms: Sequence[float]) -> tuple[list[float], float]:
    """Return of each room [token] the share of tokens found that would be if nothing left, and the share those are.

    A chain is a prompt's shared blocks as (hash, tokens up to its end); only a run of blocks from the start is found.
    All requests come to one memory. Blocks are found as whole ones, in the order of the trace.
    """
    memories = [PrefixMemory(room) for room in (*rooms, float("inf"))]
    asked = 0
    for chain in chains:
        asked += chain[-1][1] if chain else 0
        for memory in memories:
            memory.ask(chain)
    most = memories[-1].found
    return [m.found / most if most else 0.0 for m in memories[:-1]], most / asked if asked else 0.0


class PrefixMemory:
    """Blocks of prefixes, the least recently used one first, in a room of so many tokens."""

    def __init__(self, room: float) -> None:
        self.room, self.held, self.found = room, 0, 0
        self.blocks: OrderedDict[int, int] = OrderedDict()

    def ask(self, chain: Chain) -> None:
        """Count the tokens of a chain that are here, and keep all of it."""
        running, before = True, 0
        for key, end in chain:
            tokens, before = end - before, end
            running = running and key in self.blocks
            self.found += tokens if running else 0
            self.held += tokens - self.blocks.pop(key, 0)
            self.blocks[key] = tokens
        while self.held > self.room:
            self.held -= self.blocks.popitem(last=False)[1]
