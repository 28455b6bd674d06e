"""Sends events over kept connections, each as soon as the one before is answered; in a process of
its own, so that its CPU time isn't counted as the server's.

It reads a plan as JSON from standard input and prints the answers' figures as JSON. Exactly as many
events are sent as the plan says, each with a number of its own, and each is awaited.
"""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from benchmarks.events import NUMBER

ROOT = Path(__file__).parents[1]
CONNECTIONS = 32
#: The number of events whose answer's Location is kept, spread over all.
_SAMPLE = 10
#: Digits of an event's number, so that all events are of one length.
_DIGITS = 9


@attrs.frozen(kw_only=True)
class Plan:
    """POST requests with one body, or GET requests if it is empty."""

    port: int
    path: str
    body: str
    first: int
    """The number of the first event."""
    count: int
    connections: int = CONNECTIONS


@attrs.frozen(kw_only=True)
class Answers:
    statuses: Mapping[str, int]
    replayed: int
    """Answers with Idempotent-Replayed."""
    p50_us: float
    p99_us: float
    locations: tuple[str, ...]
    """Where a sample of the runs can be read."""


class _Sender:
    """What all connections share: the events to send, and the answers."""

    def __init__(self, plan: Plan) -> None:
        method = "POST" if plan.body else "GET"
        head = (
            f"{method} {plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(plan.body.replace(NUMBER, '0' * _DIGITS).encode())}\r\n\r\n"
        )
        self._parts = (head + plan.body).encode().split(NUMBER.encode())
        self._left = iter(range(plan.first, plan.first + plan.count))
        self._every = max(1, plan.count // _SAMPLE)
        self.open = plan.connections
        self.statuses: Counter[str] = Counter()
        self.replayed = 0
        self.latencies: list[float] = []
        self.locations: list[str] = []
        self.done = asyncio.get_running_loop().create_future()

    def next_request(self) -> bytes | None:
        number = next(self._left, None)
        return None if number is None else b"%09d".__mod__(number).join(self._parts)

    def note(self, head: bytes, took_s: float) -> None:
        self.statuses[head[9:12].decode()] += 1
        self.latencies.append(took_s)
        self.replayed += b"\r\nidempotent-replayed: true" in head.lower()
        if len(self.latencies) % self._every == 0:
            self.locations += _locations(head)


def _locations(head: bytes) -> Iterator[str]:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"location":
            yield value.strip().decode()


class _Connection(asyncio.Protocol):
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._received = b""
        self._sender.note(head, time.perf_counter() - self._sent_at)
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if self._sent_at and not self._sender.done.done():
            self._sender.done.set_exception(ConnectionError("the server closed a connection"))

    def _send(self) -> None:
        request = self._sender.next_request()
        if request is not None:
            self._sent_at = time.perf_counter()
            self._transport.write(request)
            return
        self._sent_at = 0.0
        self._transport.close()
        self._sender.open -= 1
        if self._sender.open == 0:
            self._sender.done.set_result(None)


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    return int(after.partition(b"\r\n")[0])


async def _send_all(plan: Plan) -> Answers:
    gc.disable()
    sender = _Sender(plan)
    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(
            loop.create_connection(lambda: _Connection(sender), "127.0.0.1", plan.port)
            for _ in range(plan.connections)
        )
    )
    await sender.done
    latencies = sorted(sender.latencies)
    return Answers(
        statuses=sender.statuses,
        replayed=sender.replayed,
        p50_us=latencies[len(latencies) // 2] * 1e6,
        p99_us=latencies[len(latencies) * 99 // 100] * 1e6,
        locations=tuple(sender.locations),
    )


class Load:
    """A load that is being sent by its own process."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdin is not None
        json.dump(attrs.asdict(plan), self._process.stdin)
        self._process.stdin.close()

    def wait(self) -> Answers:
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait() != 0:
            raise RuntimeError("The load could not be sent: see above.")
        return Answers(**json.loads(text))


if __name__ == "__main__":
    sent = asyncio.run(_send_all(Plan(**json.load(sys.stdin))))
    json.dump(attrs.asdict(sent), sys.stdout)
