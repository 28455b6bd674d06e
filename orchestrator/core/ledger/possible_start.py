"""A possible start: one that was sent, and whose answer is unknown."""

from datetime import datetime

import attrs

from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.records import RunRecord


@attrs.frozen
class PossibleStart:
    """A start that was sent by `until` at the latest, and may have made a job.

    `builder` is the name of the one that it was sent to, `job_identifier` what it was to start;
    None: the process crashed before it stored them.
    """

    until: datetime
    builder: str | None = None
    job_identifier: str | None = None

    @classmethod
    def of(cls, run: RunRecord) -> "PossibleStart | None":
        """What the run's item says of it; None: no start can be out."""
        if run.possible_until is None:
            return None
        return cls(run.possible_until, run.sent_to, run.sent_job)


def with_possible_start(run: RunRecord, start: PossibleStart | None) -> RunRecord:
    """The run, whose item says so; while it has a job, no other start is looked for."""
    if start is None or run.job is not None:
        return evolve(run, possible_until=None, sent_to=None, sent_job=None)
    return evolve(
        run,
        possible_until=start.until,
        sent_to=start.builder,
        sent_job=start.job_identifier,
    )
