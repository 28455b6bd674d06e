"""Connections that take up resources, against a process that may open few files."""

import asyncio
import gzip
import json
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator.settings import child_environment
from tests import zygote
from tests.integration.commands import PATIENCE_S

KEY = "first-key-4711"
MEBIBYTE = 1024 * 1024
FILES = 256

#: What a silent connection has sent before.
HALVES = {
    "silent": b"",
    "half a request line": b"POST /eve",
    "half a head": b"POST /events HTTP/1.1\r\nHost: x\r\nx-api-",
    "no body": b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    b"x-api-key: " + KEY.encode() + b"\r\nContent-Type: application/json\r\n\r\n",
    "half a body": b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"x-api-key: " + KEY.encode() + b'\r\nContent-Type: application/json\r\n\r\n5\r\n{"a',
    "half a body without a key": b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    "idle": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "an answer that nobody reads": b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\n"
    b"Host: x\r\n\r\n" * 8,
}


@attrs.frozen
class Server:
    """A process of `orchestrator serve`, which may open few files."""

    port: int
    process: zygote.Child
    connections: list[asyncio.StreamWriter] = attrs.field(factory=list)

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    @property
    def memory_mib(self) -> float:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize() / MEBIBYTE

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections.append(writer)
        writer.write(sent)
        return reader, writer

    async def ask(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to the given bytes."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await self.connect(sent)
            answer = await read_answer(reader)
            writer.close()
            return answer

    async def is_healthy(self) -> bool:
        status, _, _ = await self.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return status == 200

    async def stop(self) -> list[dict[str, Any]]:
        """Stop it; returns the lines of its log."""
        assert self.process.stderr is not None
        self.process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            text = await self.process.stderr.read()
            assert await self.process.wait() == 0
        return [json.loads(line) for line in text.splitlines()]


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers, body


OpenServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def open_server(tmp_path: Path) -> AsyncIterator[OpenServer]:
    """Start servers with settings of the section `http`."""
    async with AsyncExitStack() as stack:

        async def start(**http: float) -> Server:
            return await stack.enter_async_context(running(tmp_path, http))

        yield start


@asynccontextmanager
async def running(directory: Path, http: dict[str, float]) -> AsyncIterator[Server]:
    config = directory / "service.toml"
    lines = [f"http.{name} = {value}" for name, value in http.items()]
    config.write_text(
        "\n".join(
            [
                'ledger.backend = "memory"',
                'tiers.backend = "static"',
                'auth.methods = ["api_key"]',
                f'auth.api_key.keys = ["{KEY}"]',
                "operations.reconcile_every_s = 0",
                *lines,
            ]
        )
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ("serve", "--config", str(config), "--port", str(port))
    process = await zygote.start(
        "orchestrator",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({}),
        open_files=FILES,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"listening" not in await process.stderr.readline():
                assert process.returncode is None
        server = Server(port, process)
        yield server
        for writer in server.connections:
            writer.transport.abort()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
async def test_silent_connections_take_no_place_from_others(
    open_server: OpenServer, half: bytes
) -> None:
    """500 silent connections in bursts, with 256 files to open, leave health checks answered."""
    server = await open_server()
    for _ in range(5):
        await asyncio.gather(*(server.connect(half) for _ in range(100)))
        assert await server.is_healthy()
    lines = await server.stop()
    assert not [line for line in lines if line["level"] == "error"]


@pytest.mark.parametrize(
    ("half", "status"),
    [
        pytest.param(HALVES[name], status, id=name)
        for name, status in (
            ("silent", b""),
            ("half a request line", b""),
            ("half a head", b""),
            ("no body", b"HTTP/1.1 503 Service Unavailable"),
            ("half a body", b"HTTP/1.1 503 Service Unavailable"),
            ("half a body without a key", b"HTTP/1.1 401 Unauthorized"),
            ("idle", b"HTTP/1.1 200 OK"),
        )
    ],
)
async def test_a_connection_is_closed_once_its_client_takes_too_long(
    open_server: OpenServer, half: bytes, status: bytes
) -> None:
    """A connection is closed after the time for its head or its body, or the idle time; an earlier
    answer can still be read."""
    server = await open_server(receive_timeout_s=0.2, idle_timeout_s=0.2)
    reader, _ = await server.connect(half)
    async with asyncio.timeout(PATIENCE_S):
        answered = await reader.read()
    assert answered.partition(b"\r\n")[0] == status


def event(body: bytes, *headers: bytes, key: bytes = KEY.encode()) -> bytes:
    lines = (
        b"POST /events HTTP/1.1",
        b"Host: x",
        b"x-api-key: " + key,
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *headers,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bomb() -> bytes:
    """A gzip body of 1 MiB that inflates to 1 GiB: after a full flush a block may be repeated."""
    stream = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    first, block = (
        stream.compress(bytes(MEBIBYTE)) + stream.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + block * ((MEBIBYTE - len(first)) // len(block))


BOMB = _bomb()


@pytest.mark.parametrize("key", [KEY, "wrong"])
async def test_compressed_bombs_cost_little(open_server: OpenServer, key: str) -> None:
    """Ten simultaneous compressed bombs are refused by their key or size, and health checks are
    answered meanwhile."""
    server = await open_server()
    assert await server.is_healthy()
    cpu_s, memory_mib = server.cpu_s, server.memory_mib
    sent = event(BOMB, b"Content-Encoding: gzip", key=key.encode())
    asked = [asyncio.create_task(server.ask(sent)) for _ in range(10)]
    for _ in range(5):
        assert await server.is_healthy()
    statuses = [status for status, _, _ in await asyncio.gather(*asked)]
    assert statuses == [413 if key == KEY else 401] * 10
    assert server.cpu_s - cpu_s < 10 * 0.05
    assert server.memory_mib - memory_mib < 64


#: A body with its Content-Encoding and the status; a readable one without an event's type is 400.
ENCODED = {
    "gzip": (gzip.compress(b"{}"), 400, "type"),
    "x-gzip": (gzip.compress(b"{}"), 400, "type"),
    "deflate": (zlib.compress(b"{}"), 400, "type"),
    "Deflate": (zlib.compress(b"{}")[2:-4], 400, "type"),
    "identity": (b"{}", 400, "type"),
    "GZIP": (gzip.compress(b"{}")[:-1], 400, "too early"),
    "gZip": (gzip.compress(b"{}") * 2, 400, "more after its end"),
    "Gzip": (b"{}", 400, "can't be decoded"),
    "br": (b"{}", 415, "'br'"),
    "zstd": (b"{}", 415, "'zstd'"),
    "gzip, gzip": (gzip.compress(gzip.compress(b"{}")), 415, "'gzip, gzip'"),
}


async def test_bodies_are_decompressed(open_server: OpenServer) -> None:
    """Bodies in gzip and deflate are decompressed; other encodings are 415, and a broken body is
    400."""
    server = await open_server()
    for encoding, (body, status, said) in ENCODED.items():
        sent = event(body, b"Content-Encoding: " + encoding.encode())
        answered, headers, answer = await server.ask(sent)
        problem = json.loads(answer)
        assert (answered, headers["content-type"]) == (status, PROBLEM), encoding
        assert said in problem["detail"], encoding
        assert ("accept-encoding" in headers) == (status == 415), encoding


PROBLEM = "application/problem+json"
SECRET = "a-key-that-nobody-may-see"
GET = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
#: Malformed HTTP with a credential in the malformed part, and the sentence about it.
MALFORMED = {
    f"{SECRET}\r\n\r\n": (400, "request line"),
    f"GET /?{SECRET} HTTP/9.9\r\n\r\n": (400, "HTTP/1.1"),
    f"GET /{SECRET}\x01 HTTP/1.1\r\nHost: x\r\n\r\n": (400, "URL"),
    f"{GET}x-api-key {SECRET}\r\n\r\n": (400, "HTTP/1.1"),
    f"{GET}x-api-key: {SECRET}\x00\r\n\r\n": (400, "HTTP/1.1"),
    f"{GET}x-api-key: {SECRET * 1000}\r\n\r\n": (400, "too long"),
    f"GET /{SECRET * 1000} HTTP/1.1\r\nHost: x\r\n\r\n": (400, "too long"),
    f"{GET}" + f"x-api-key: {SECRET}\r\n" * 500 + "\r\n": (400, "HTTP/1.1"),
    f"GET / HTTP/1.1\r\nx-api-key: {SECRET}\r\n\r\n": (400, "HTTP/1.1"),
    f"{GET}Content-Length: {SECRET}\r\n\r\n": (400, "HTTP/1.1"),
    f"{GET}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": (400, "HTTP/1.1"),
    f"{GET}Expect: {SECRET}\r\n\r\n": (417, "100-continue"),
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": (400, "HTTP/1.1"),
}


async def test_a_malformed_request_is_a_problem_too(open_server: OpenServer) -> None:
    """A malformed request is a problem without a quotation, and many of them are one line of the
    log, without a traceback or the malformed part, which may be the API key."""
    server = await open_server()
    for sent, (status, said) in MALFORMED.items():
        answered, headers, body = await server.ask(sent.encode("latin-1"))
        problem = json.loads(body)
        assert (answered, headers["content-type"]) == (status, PROBLEM), sent[:100]
        assert said in problem["detail"], (sent[:100], problem)
        assert headers["x-content-type-options"] == "nosniff"
        assert SECRET not in body.decode()
    lines = await server.stop()
    assert SECRET not in json.dumps(lines)
    assert {line["level"] for line in lines} <= {"info", "warning"}
    refused = [line for line in lines if line["event"] == "request refused"]
    assert len(refused) > 0
    assert sum(line["count"] for line in refused) == len(MALFORMED)


async def test_a_client_that_goes_away_is_no_error(open_server: OpenServer) -> None:
    """A client that disconnects in the middle of its body is one refusal, without a traceback."""
    server = await open_server()
    _, writer = await server.connect(event(b"{}")[:-1])
    assert await server.is_healthy()
    writer.close()
    await writer.wait_closed()
    assert await server.is_healthy()
    lines = await server.stop()
    assert not [line for line in lines if line["level"] == "error"]


async def send_forever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(MEBIBYTE))
        await writer.drain()


async def test_a_refused_body_is_not_read_beyond_the_limit(open_server: OpenServer) -> None:
    """The 401 is sent while a body is being sent, and then the connection is closed."""
    server = await open_server()
    endless = event(b"", key=b"wrong").replace(b"Content-Length: 0", b"Content-Length: 9999999999")
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await server.connect(endless)
        status, headers, _ = await read_answer(reader)
        assert (status, headers["connection"]) == (401, "close")
        with pytest.raises(ConnectionError):
            await send_forever(writer)


async def unread(reader: asyncio.StreamReader) -> bytes:
    """The bytes until the connection ends, which is reset if the server closes it before it has
    read the next request."""
    blocks = []
    with suppress(ConnectionResetError):
        while block := await reader.read(MEBIBYTE):
            blocks.append(block)
    return b"".join(blocks)


TRAILERS = (
    b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\nx-other: 1\r\nx-api-key: " + KEY.encode() + b"\r\n\r\n"
)
WITHOUT_A_KEY = b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_gets_no_header_of_the_one_before(
    open_server: OpenServer, at_once: bool
) -> None:
    """The trailer of one request isn't a header of the next, which may be another client's on the
    connection of a proxy."""
    server = await open_server()
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await server.connect(TRAILERS + (WITHOUT_A_KEY if at_once else b""))
        assert (await read_answer(reader))[0] == 401
        writer.write(b"" if at_once else WITHOUT_A_KEY)
        assert await unread(reader) == b""
