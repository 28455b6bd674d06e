"""What is observed of an event: the outcome that its line and its metric have."""

import pytest
from structlog.testing import capture_logs

from orchestrator.core.dispatch.handling import UNSUPPORTED, Observer
from orchestrator.core.errors import TemporaryError
from orchestrator.core.metrics import NO_METRICS, count_request
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


@pytest.mark.parametrize(
    ("event_type", "label"),
    [("ORDER", "ORDER"), ("RECONCILE", "RECONCILE"), ("a sender's word", UNSUPPORTED)],
)
def test_a_label_is_a_type_with_a_handler_or_a_sweep(event_type: str, label: str) -> None:
    """All other types share one label, since each label makes a series of a metric."""
    observer = Observer(clock=ManualClock(), metrics=NO_METRICS, registered={"ORDER"})
    assert observer.label_of(event_type) == label


def test_requests_are_counted_for_the_innermost_event_alone() -> None:
    """A handler may have another event handled; after that its own requests count again."""
    observer = Observer(clock=ManualClock(), metrics=NO_METRICS, registered={"ORDER"})
    with capture_logs() as logs, observer.handling("ORDER"):
        count_request()
        with observer.handling("ORDER"):
            count_request()
        count_request()
    assert [line["aws_requests"] for line in logs] == [1, 2]
