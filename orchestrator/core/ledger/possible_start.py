"""A possible start: one that may have been sent, and whose answer is unknown."""

from datetime import datetime

import attrs

from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.records import RunRecord


@attrs.frozen
class PossibleStart:
    """A start that was sent by `until` at the latest, and may have made a job.

    `builder` is the name of the builder that it was sent to, `job_identifier` the job that it was
    to start; None: the process crashed before it stored them.
    """

    until: datetime
    builder: str | None = None
    job_identifier: str | None = None

    @classmethod
    def of(cls, run: RunRecord) -> "PossibleStart | None":
        """The possible start in the run's item; None if no start may be out."""
        if run.possible_until is None:
            return None
        return cls(run.possible_until, run.sent_to, run.sent_job)


def with_possible_start(run: RunRecord, start: PossibleStart | None) -> RunRecord:
    """The run with the possible start in its item; a run with a job needs no lookup."""
    if start is None or run.job is not None:
        return evolve(run, possible_until=None, sent_to=None, sent_job=None)
    return evolve(
        run,
        possible_until=start.until,
        sent_to=start.builder,
        sent_job=start.job_identifier,
    )
