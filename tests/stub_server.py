"""A server that speaks the OpenAI API and takes a given time: a stub of an engine, with vLLM's page of metrics.

It goes step by step, as engines do: a request waits `host` and for the step in flight, its prompt is read in the next
one, which takes `prefill` a token longer, and every step gives each request a token. Steps are kept on the clock, so
that a late wake-up is not added to the next. No test stands here.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from metric_pages import BOUNDS, page_of


@dataclass
class Turn:
    """A request inside: its prompt, the tokens left to give, and when each was given."""

    prompt: int
    left: int
    tokens: asyncio.Queue[float] = field(default_factory=asyncio.Queue)


@dataclass
class Stub:
    """A model and its times [s], and what was served so far."""

    model: str = "meta-llama/Llama-3.1-8B"
    host: float = 0.05
    step: float = 0.02
    prefill: float = 1e-5
    served: int = 0
    prompt: int = 0
    output: int = 0
    running: int = 0
    most: int = 0
    first: float = 0.0
    gaps: float = 0.0
    whole: float = 0.0
    below: dict[float, int] = field(default_factory=lambda: dict.fromkeys(BOUNDS, 0))
    started: list[float] = field(default_factory=list)
    lengths: list[tuple[int, int]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    waiting: "list[Turn]" = field(default_factory=list)
    inside: "list[Turn]" = field(default_factory=list)
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    engine: "asyncio.Task[None] | None" = None

    async def steps(self) -> None:
        """Run step after step while there is a request."""
        due = time.monotonic()
        while True:
            if not self.waiting and not self.inside:
                self.bell.clear()
                await self.bell.wait()
                due = time.monotonic()
            new, self.waiting = self.waiting, []
            self.inside += new
            due += self.step + self.prefill * sum(turn.prompt for turn in new)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            self.late.append(time.monotonic() - due)
            for turn in self.inside:
                turn.left -= 1
                turn.tokens.put_nowait(time.monotonic())
            self.inside = [turn for turn in self.inside if turn.left]

    async def joined(self, prompt: int, output: int) -> "Turn":
        """Return the place of a request among those served, once the host has made it ready."""
        await asyncio.sleep(self.host)
        turn = Turn(prompt, output)
        self.waiting.append(turn)
        self.bell.set()
        return turn

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
                method, path, _ = head.split(" ", 2)
                length = next(
                    (int(h.split(":")[1]) for h in head.lower().splitlines() if h.startswith("content-le")), 0
                )
                body = await reader.readexactly(length)
                await self.reply(writer, method, path.partition("?")[0], body)
        writer.close()

    async def reply(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
        """Answer one request."""
        if path == "/metrics":
            return await whole(writer, self.page(), "text/plain; version=0.0.4")
        if path == "/health":
            return await whole(writer, "", "text/plain")
        if path == "/v1/models":
            return await whole(writer, json.dumps({"object": "list", "data": [{"id": self.model, "object": "model"}]}))
        if method == "POST" and path in ("/v1/completions", "/v1/chat/completions"):
            return await self.complete(writer, json.loads(body), chat="chat" in path)
        return await whole(writer, '{"error": "not found"}', status="404 Not Found")

    async def complete(self, writer: asyncio.StreamWriter, asked: dict[str, Any], chat: bool) -> None:
        """Complete a prompt token by token, each a chunk of a stream where one is asked for."""
        begun = time.monotonic()
        self.started.append(begun)
        self.bodies.append({k: v for k, v in asked.items() if k not in ("prompt", "messages")})
        text = asked["messages"] if chat else asked["prompt"]
        said = " ".join(str(m.get("content")) for m in text) if chat else text
        prompt = len(said) if isinstance(said, list) else len(said.split())
        output = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or 16)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.stream(writer, asked, chat, begun, prompt, output)
        finally:
            self.running -= 1

    async def stream(
        self, writer: asyncio.StreamWriter, asked: dict[str, Any], chat: bool, begun: float, prompt: int, output: int
    ) -> None:
        """Send the tokens at their times, then count the request."""
        streams, kind = bool(asked.get("stream")), "chat.completion" if chat else "text_completion"
        turn = await self.joined(prompt, output)
        if streams:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        times = []
        for n in range(output):
            times.append(await turn.tokens.get())
            if streams:
                last = "length" if n + 1 == output else None
                choice = {"delta": {"content": " a"}} if chat else {"text": " a"}
                send(writer, self.chunk(kind, [{"index": 0, "finish_reason": last, **choice}]))
                await writer.drain()
        usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
        self.count(begun, times, prompt, output)
        if not streams:
            choice = {"message": {"role": "assistant", "content": " a" * output}} if chat else {"text": " a" * output}
            choices = [{"index": 0, "finish_reason": "length", **choice}]
            return await whole(writer, json.dumps({**self.chunk(kind, choices), "usage": usage}))
        if (asked.get("stream_options") or {}).get("include_usage"):
            send(writer, {**self.chunk(kind, []), "usage": usage})
        send(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return None

    def chunk(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a piece of an answer."""
        name = f"{kind}.chunk" if kind.startswith("chat") else kind
        return {"id": "cmpl-1", "object": name, "created": 0, "model": self.model, "choices": choices}

    def count(self, begun: float, times: list[float], prompt: int, output: int) -> None:
        """Add a request to what the metrics say."""
        first = times[0] - begun
        self.served, self.prompt, self.output = self.served + 1, self.prompt + prompt, self.output + output
        self.first, self.gaps, self.whole = (
            self.first + first, self.gaps + times[-1] - times[0], self.whole + times[-1] - begun,
        )  # fmt: skip
        self.lengths.append((prompt, output))
        for bound in self.below:
            self.below[bound] += first <= bound

    def page(self) -> str:
        """Return the metrics as vLLM writes them."""
        return page_of(
            self.model, requests=self.served, prompt=self.prompt, output=self.output, ttft=self.first, gaps=self.gaps,
            e2e=self.whole, running=self.running, waiting=0, kept=0.0, below=self.below,
        )  # fmt: skip


def send(writer: asyncio.StreamWriter, chunk: object) -> None:
    """Write one event of a stream."""
    event = f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n".encode()
    writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")


async def whole(
    writer: asyncio.StreamWriter, text: str, kind: str = "application/json", status: str = "200 OK"
) -> None:
    """Write an answer that is no stream."""
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


@contextmanager
def serving(stub: Stub, port: int = 0) -> Iterator[str]:
    """Serve a stub on this machine, in a thread of its own, and give its address."""
    loop, ready, place = asyncio.new_event_loop(), threading.Event(), []

    async def run() -> None:
        server = await asyncio.start_server(stub.answer, "127.0.0.1", port)
        stub.engine = asyncio.create_task(stub.steps())  # a task that nobody holds may be dropped
        place.append(server.sockets[0].getsockname()[1])
        ready.set()
        with suppress(asyncio.CancelledError):
            await server.serve_forever()

    task = loop.create_task(run())

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(task)
        left = asyncio.all_tasks(loop)
        for each in left:
            each.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{place[0]}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()
