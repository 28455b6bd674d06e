"""Messages about jobs: state changes of a builder's cloud, and self-reports of a job.

Any sender can forge either, so they only make the service query the builder. State changes contain
all inputs of a job, secrets included; none of them is passed on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from orchestrator.core.events.event_types import BUILD_STATE_CHANGE
from orchestrator.core.events.json_text import parse_json
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.record_parts import Job


class JobNotifications(Protocol):
    """The messages about one builder's jobs."""

    @property
    def builder(self) -> str:
        """The name under which the builder is registered."""

    @property
    def source(self) -> str:
        """The source of its cloud's events, which no other sender can publish on a bus."""

    @property
    def state_changes(self) -> frozenset[str]:
        """The event types of its cloud that say how a job's state has changed."""

    @property
    def inputs(self) -> frozenset[str]:
        """The fields of its events with a job's inputs and outputs; they are never passed on."""

    @property
    def excerpts(self) -> Mapping[str, Callable[[object], object]]:
        """The fields of its events of which only a part is passed on, and how to extract it."""

    def sends(self, event_type: str) -> bool:
        """Whether its cloud sends events of that type, the `state_changes` among them."""

    def read_state_change(self, detail: Mapping[str, Any]) -> JobDescription | None:
        """The job in a state change; None if it is not one of the builder's."""

    def read_self_report(self, body: Mapping[str, Any]) -> Job | None:
        """The job in a self-report; None if it is not one of the builder's."""


@attrs.frozen
class Notifications:
    """The notifications of all known builders, configured or not: those of one that isn't may
    contain secrets, too."""

    of_builders: Sequence[JobNotifications]

    @property
    def aliases(self) -> Mapping[str, str]:
        """Event types by their names in the builders' clouds."""
        return {name: BUILD_STATE_CHANGE for one in self.of_builders for name in one.state_changes}

    def sends(self, event_type: str) -> bool:
        """Whether a builder's cloud sends events of that type."""
        return any(one.sends(event_type) for one in self.of_builders)

    def is_source(self, source: str, builder: str) -> bool:
        """Whether the source is that of the builder's cloud."""
        return any(one.builder == builder and one.source == source for one in self.of_builders)

    def read_state_change(self, detail: Mapping[str, Any]) -> JobDescription | None:
        """The job in a state change; None if it can't be parsed."""
        read = (one.read_state_change(detail) for one in self.of_builders)
        return next((report for report in read if report is not None), None)

    def read_self_report(self, body: Mapping[str, Any]) -> Job | None:
        """The job in a self-report; None if the body names none."""
        read = (one.read_self_report(body) for one in self.of_builders)
        return next((job for job in read if job is not None), None)

    def without_inputs(self, value: Any) -> Any:
        """A state change, or an envelope around one, without the job's inputs."""
        match value:
            case Mapping():
                shown = ((name, item) for name, item in value.items() if not self._hides(name))
                return {name: self._excerpt(name, item) for name, item in shown}
            case list():
                return [self.without_inputs(item) for item in value]
            case str() if value.removeprefix("\ufeff").lstrip()[:1] in ("{", "["):
                # Details may be JSON text; text that isn't JSON has no inputs.
                try:
                    return json.dumps(self.without_inputs(parse_json(value)))
                except ValueError:
                    return value
        return value

    def _hides(self, name: str) -> bool:
        return any(name in one.inputs for one in self.of_builders)

    def _excerpt(self, name: str, value: object) -> Any:
        excerpts = (one.excerpts[name] for one in self.of_builders if name in one.excerpts)
        return next(excerpts, self.without_inputs)(value)
