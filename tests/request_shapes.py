"""Compares each request to AWS with the operation's shape, since the service's clients don't
(`parameter_validation=False`)."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from botocore.model import OperationModel
from botocore.validate import ParamValidator

from orchestrator.adapters.aws import _handlers


@attrs.define
class Requests:
    """The requests of this process's clients: `seen` are services and operations, `wrong` the
    reports on parameters that don't fit."""

    seen: set[tuple[str, str]] = attrs.field(factory=set)
    wrong: list[str] = attrs.field(factory=list)

    def note(self, params: dict[str, Any], model: OperationModel, **_: Any) -> None:
        """Handle botocore's event `before-parameter-build`.

        It doesn't raise: `aws_errors` would translate that, and a test might expect it.
        """
        service = model.service_model.service_name
        self.seen.add((service, model.name))
        assert model.input_shape is not None
        report = ParamValidator().validate(params, model.input_shape)
        if report.has_errors():
            self.wrong.append(f"{service} {model.name}: {report.generate_report()}")


@pytest.fixture(scope="session", autouse=True)
def recorder() -> Requests:
    """The recorder of this process, called by every client that is opened later."""
    recorder = Requests()
    _handlers().register_last("before-parameter-build", recorder.note)
    return recorder


@pytest.fixture(autouse=True)
def requests(recorder: Requests) -> Iterator[Requests]:
    """Fails the test if a request to AWS doesn't fit the operation's shape."""
    recorder.seen.clear()
    # Tests elsewhere, such as those of the proxy, may send anything.
    recorder.wrong.clear()
    yield recorder
    assert recorder.wrong == []
