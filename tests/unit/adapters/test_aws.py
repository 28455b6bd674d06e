"""AWS's refusals, and the errors that they become."""

import pytest
from botocore.exceptions import ClientError
from structlog.testing import capture_logs

from orchestrator.adapters.aws import aws_errors
from orchestrator.core.errors import (
    NotPermitted,
    OrchestratorError,
    PermanentError,
    TemporaryError,
)


def refused(code: str, message: str) -> OrchestratorError:
    """The error of a call that AWS refuses so at the first try."""
    about = {"RetryAttempts": 0, "HTTPStatusCode": 400}
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": about}
    with pytest.raises(OrchestratorError) as raised, aws_errors("A Call"):
        raise ClientError(answer, "Call")  # type: ignore[arg-type]
    return raised.value


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("AccessDeniedException", "no", NotPermitted),
        (
            "InvalidInputException",
            "Not authorized to perform DescribeSecurityGroups",
            NotPermitted,
        ),
        ("InvalidInputException", "x is not authorized to perform: a:Do", NotPermitted),
        ("InvalidInputException", "Project name is invalid", PermanentError),
        ("ValidationException", "The table does not have the specified index: due", TemporaryError),
        ("ValidationException", "Type mismatch for key tier expected: S actual: N", TemporaryError),
        ("ValidationException", "Item size has exceeded the maximum allowed size", PermanentError),
        ("ValidationException", "Size of hashkey has exceeded the maximum", PermanentError),
    ],
)
def test_only_what_is_refused_for_its_content_is_permanent(
    code: str, message: str, kind: type[OrchestratorError]
) -> None:
    """What operators can fix is temporary; a refusal at the first try certainly did nothing."""
    error = refused(code, message)
    assert type(error) is kind
    assert str(error) == f"A Call: {code}: {message}"
    assert not isinstance(error, TemporaryError) or error.nothing_done


@pytest.mark.parametrize("bug", [KeyError("build"), TypeError("int"), ValueError("7")])
def test_an_answer_that_cannot_be_read_is_temporary(bug: Exception) -> None:
    """What was requested may have been done; the log has the traceback, should it be a bug."""
    with (
        capture_logs() as logs,
        pytest.raises(TemporaryError, match="answer doesn't match the API") as raised,
        aws_errors("A Call"),
    ):
        raise bug
    assert not raised.value.nothing_done
    assert [line["exc_info"] for line in logs] == [bug]
