"""The stand-in as a process: `python -m benchmarks.standin PORT`.

It reads HTTP itself, what the SDK and aiohttp send of it: a POST with a Content-Length. So a
request costs it less than it costs any client.
"""

import asyncio
import gc
import inspect
import sys
import uuid
import zlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from benchmarks.standin.codebuild import CodeBuild
from benchmarks.standin.dynamodb import DynamoDB, Table
from benchmarks.standin.refusal import Refused
from benchmarks.standin.sqs import SQS
from orchestrator.adapters.ledger_indexes import INDEXES

Document = Mapping[str, Any]

LEDGER = "orchestrator-ledger"
TIERS = "tier-details"
_TIER = {
    "tier": {"S": "STANDARD"},
    "jobIdentifier": {"S": "provision-standard"},
    "STATE_BUCKET": {"S": "tenants-state"},
    "CLUSTER": {"S": "shared-1"},
    "REPLICAS": {"N": "2"},
}
_SERVICES = {
    "DynamoDB_20120810": "DynamoDB",
    "CodeBuild_20161006": "CodeBuild",
    "AmazonSQS": "SQS",
    "Benchmark": "Benchmark",
}


class StandIn:
    """All services, and the benchmark's own requests (`Benchmark.…`)."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._forget()

    def _forget(self) -> None:
        self._ledgers: dict[str, Table] = defaultdict(_new_ledger)
        tables = {LEDGER: self._ledgers[""], TIERS: Table("tier", {})}
        tables[TIERS].put(_TIER)
        self._dynamodb = DynamoDB(tables)
        self._codebuild = CodeBuild()
        self._sqs = SQS()

    def perform(self, target: str, request: Document) -> Document | Awaitable[Document]:
        version, _, operation = target.partition(".")
        service = _SERVICES[version]
        if service == "Benchmark":
            return self._perform_own(operation, request)
        self._counts[f"{service}.{operation}"] += 1
        match service:
            case "DynamoDB":
                return self._dynamodb.perform(operation, request)
            case "CodeBuild":
                return self._codebuild.perform(operation, request)
        return self._sqs.perform(operation, request)

    def _perform_own(self, operation: str, request: Document) -> Document:
        match operation:
            case "Counts":
                counts, self._counts = self._counts, Counter()
                return {"requests": counts}
            case "Forget":
                self._forget()
                self._counts.clear()
            case "UseLedger":
                self._dynamodb.tables[LEDGER] = self._ledgers[request["name"]]
            case "Items":
                return {"items": list(self._ledger.items.values())}
            case "PutItems":
                for item in request["items"]:
                    self._ledger.put(item)
            case "RunStatuses":
                statuses = (item.get("status") for item in self._ledger.items.values())
                return {"statuses": Counter(one["S"].split("#")[1] for one in statuses if one)}
            case "SendMessages":
                for body in request["bodies"]:
                    self._sqs.send(body)
            case "MessagesLeft":
                return {"left": self._sqs.left}
            case "Builds":
                return {"builds": list(self._codebuild.builds.values())}
            case "PutBuilds":
                self._codebuild.builds.update({one["id"]: one for one in request["builds"]})
            case "LookedAt":
                return {"builds": len(self._codebuild.looks)}
            case "Looks":
                looks, self._codebuild.looks = self._codebuild.looks, {}
                return {"looks": looks}
        return {}

    @property
    def _ledger(self) -> Table:
        return self._dynamodb.tables[LEDGER]


def _new_ledger() -> Table:
    return Table("key", {index.name: (index.partition, index.sort) for index in INDEXES})


class _Connection(asyncio.Protocol):
    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self._received = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if len(body) < int(headers[b"content-length"]):
            return
        self._received = b""
        target = headers[b"x-amz-target"].decode()
        try:
            answer = self._standin.perform(target, msgspec.json.decode(body))
        except Refused as refused:
            self._write(400, refused.document)
            return
        if inspect.isawaitable(answer):
            task = asyncio.ensure_future(self._write_later(answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._write(200, answer)

    def connection_lost(self, _: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    async def _write_later(self, answer: Awaitable[Document]) -> None:
        self._write(200, await answer)

    def _write(self, status: int, document: object) -> None:
        body = msgspec.json.encode(document)
        head = (
            f"HTTP/1.1 {status} OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\nx-amz-crc32: {zlib.crc32(body)}\r\n"
            f"x-amzn-RequestId: {uuid.uuid4()}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


async def main(port: int) -> None:
    standin = StandIn()
    gc.disable()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(standin), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
