"""What is observed of an event: the outcome that its line and its metric have."""

import pytest
from structlog.testing import capture_logs

from orchestrator.core.dispatch.handling import Observer
from orchestrator.core.errors import TemporaryError
from orchestrator.core.metrics import NO_METRICS
from orchestrator.testing import ManualClock


@pytest.mark.parametrize("expected", ["noted", "failed"])
def test_an_error_counts_whatever_was_expected(expected: str) -> None:
    """An event that is answered 503 is no success of its handling, and isn't over."""
    observer = Observer(clock=ManualClock(), metrics=NO_METRICS, registered={"ORDER"})
    handling = observer.handling("ORDER")
    handling.outcome = expected
    with capture_logs() as logs, pytest.raises(TemporaryError), handling:
        raise TemporaryError("no ledger")
    (line,) = logs
    assert line["outcome"] == "retry"
