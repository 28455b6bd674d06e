"""What the command line says of an event that was sent."""

from typing import Any

import pytest

from orchestrator.cli.client import Reply
from orchestrator.cli.sentences import describe_sent

RUN_ID = "abcdef0123456789"


def failed(error_type: str) -> dict[str, Any]:
    """A run as an answer shows it."""
    return {
        "runId": RUN_ID,
        "status": "failed",
        "error": {"type": error_type, "message": "no"},
        "job": None,
        "note": None,
        "tenantId": "t-1",
    }


@pytest.mark.parametrize(
    ("error_type", "way_out"),
    [
        ("PermanentError", "Its run abcdef01 failed: replay that once the cause is fixed."),
        (
            "InvalidPayload",
            (
                "A replay of its run abcdef01 has the same body: send a corrected event with a new "
                "id, or replay it once the handler's model accepts this one."
            ),
        ),
    ],
)
def test_a_failed_event_has_a_way_out(error_type: str, way_out: str) -> None:
    """A replay helps if the cause is outside of the event; a body that doesn't fit stays so."""
    sent = Reply(422, {}, {"detail": "no"}, failed(error_type))
    assert describe_sent(sent, "ORDER", width=None)[1] == way_out
