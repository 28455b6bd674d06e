"""What a user's builder raises besides our errors is trouble of its own, and no bug of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from orchestrator.core.errors import OrchestratorError, TemporaryError

log = structlog.get_logger("orchestrator.builder_errors")


@contextmanager
def builder_errors(name: str, cannot: str) -> Iterator[None]:
    """Raises TemporaryError for any other error: the builder `name` can't do what it was asked."""
    try:
        yield
    except OrchestratorError:
        raise
    except Exception as error:
        log.error("a builder broke down", builder=name, exc_info=error)
        raise TemporaryError(f"The builder {name} broke down: it can't {cannot}.") from error
