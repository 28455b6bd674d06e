"""A witness records all answers and logs of services while a test runs."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import aiohttp
import attrs
import structlog

from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.logs import configure_logs


@attrs.define
class Witness:
    answers: list[str] = attrs.field(factory=list)
    log: io.StringIO = attrs.field(factory=io.StringIO)

    @property
    def ears(self) -> aiohttp.TraceConfig:
        """The trace of the client that sends requests to the services."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._hear_head)
        config.on_response_chunk_received.append(self._hear_body)
        return config

    async def _hear_head(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, end: aiohttp.TraceRequestEndParams
    ) -> None:
        self.answers.append(str(end.response.headers))

    async def _hear_body(
        self,
        _: aiohttp.ClientSession,
        __: SimpleNamespace,
        part: aiohttp.TraceResponseChunkReceivedParams,
    ) -> None:
        self.answers.append(part.chunk.decode())


@contextmanager
def open_witness() -> Iterator[Witness]:
    """Record the whole log, from the level debug on."""
    witness = Witness()
    configure_logs(level="debug", layout="json", redact=SECRET_NAMES)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(witness.log))
    try:
        yield witness
    finally:
        structlog.reset_defaults()
