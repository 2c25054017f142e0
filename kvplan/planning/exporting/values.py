"""What is exported, and what it is exported from, as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.planning.launch import Launch, Needs, command
from kvplan.planning.promise import Promise
from kvplan.specs.launch import LaunchOptions

#: where a server listens, inside its container and out
EVERYWHERE = "0.0.0.0"  # noqa: S104  a server is there to be reached
#: letters of a name in Kubernetes that leave room for what is appended
LONGEST_NAME = 40


@dataclass(frozen=True)
class Inline:
    """An options file that stands as text inside a manifest."""

    document: Mapping[str, Any]  #: what the file holds


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A plan in the form of one target: commands or manifests, what goes beside them, and what cannot be said."""

    target: str  #: vllm, guidellm ...
    release: str  #: the engine's first release with these options, '' for a tool
    form: str  #: command, compose ...
    commands: tuple[tuple[str, ...], ...] = ()  #: one a node
    documents: tuple[Mapping[str, Any], ...] = ()  #: manifests
    files: Mapping[str, Mapping[str, Any]]  #: files that the command reads
    missing: tuple[str, ...]  #: what the target cannot be told, or must be given besides, in sentences
    notes: tuple[str, ...] = ()  #: what the reader should know
    then: tuple[tuple[str, ...], ...] = ()  #: commands that come next


@dataclass(frozen=True, kw_only=True)
class ServerPlan:
    """What a server is exported from."""

    engine: str  #: as options spell it
    title: str  #: as reports print it
    release: str  #: first release with these options
    known: LaunchOptions  #: options of the release
    needs: Needs  #: what the plan asks of it
    port: int  #: where it listens
    image: str  #: of the container, '' where none is known for the GPU
    notes: tuple[str, ...] = ()  #: what the reader should know

    @property
    def name(self) -> str:
        """The model's name as a label of DNS: 'llama-3-1-70b'."""
        word = re.sub(r"[^a-z0-9]+", "-", self.needs.model.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-")
        return f"m-{word}"[:LONGEST_NAME].rstrip("-") if not word[:1].isalpha() else word[:LONGEST_NAME].rstrip("-")

    def launch(self, **placed: object) -> Launch:
        """Return the command of a server that can be reached; `placed` say where the other nodes are."""
        return command(self.known, self.title, self.needs, host_name=EVERYWHERE, port=self.port, **placed)


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What a load is exported from."""

    promise: Promise  #: what the plan promises of a replica
    url: str  #: where the replica answers
    requests: int  #: how many are sent at each load
    loads: int = 1  #: loads up to the promised one, in equal steps

    @property
    def rates(self) -> list[str]:
        """The rates that are tried [1/s], or the requests in flight, the promised one last."""
        steps = [n / self.loads for n in range(1, self.loads + 1)]
        if self.promise.rate is None:
            return list(dict.fromkeys(str(max(round(self.promise.concurrency * s), 1)) for s in steps))
        return [f"{self.promise.rate * s:.6g}" for s in steps]
