"""Finds the operation of a job, and stops orphaned jobs, which no operation can have."""

import attrs
import structlog

from orchestrator.core.errors import (
    PermanentError,
    TemporaryError,
)
from orchestrator.core.identifiers import read_start_key
from orchestrator.core.jobs import builder_calls
from orchestrator.core.jobs.builder import StopsJobs
from orchestrator.core.jobs.describe import JobDescriber, not_shown_yet
from orchestrator.core.jobs.job_description import JobDescription
from orchestrator.core.ledger.guards import is_stray, is_under_way, may_record, may_replace
from orchestrator.core.ledger.operations import Adopted, OrphanedJob, adopt, replace
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import JobRecord, OperationRecord
from orchestrator.core.ledger.transactions import Transactions

log = structlog.get_logger("orchestrator.adopt")


@attrs.frozen(kw_only=True)
class JobAdopter:
    """Records jobs with the operations whose starts made them."""

    transactions: Transactions
    describer: JobDescriber

    async def identify(self, job: Job, start_key: str | None) -> OperationRecord | None:
        """The operation of the job that reports on itself, by its id, else by its start key.

        `start_key` is the self-report's: it is used only if the builder can't describe jobs.

        Raises:
            TemporaryError: ledger or builder can't be reached, or the builder doesn't list the job
                yet, and its start has no job.
        """
        known = await self.transactions.find_job(job.builder, job.id)
        if known is not None:
            return await self._started(known)
        named = read_start_key(start_key or "")
        if job.builder not in self.describer.describable:
            adopted = await self._tie(job, *named) if named else None
            return adopted.operation if isinstance(adopted, Adopted) else None
        report = await self.describer.describe(job)
        if report is None:
            if named and await self._waits_for_job(*named):
                raise not_shown_yet(job)
            return None
        start = self.describer.start_of(report)
        operation = await self.transactions.find_operation(start[0]) if start else None
        if start is None or operation is None or start[1] > operation.start_number:
            return None
        return await self.adopt(report, operation, start[1])

    async def adopt(
        self, report: JobDescription, operation: OperationRecord, number: int
    ) -> OperationRecord | None:
        """The operation, if the job of its start `number` is its own, now or before; a job that
        runs though no operation can have it is stopped.

        `report` is the builder's answer, `operation` as it was read before that query.

        Raises:
            TemporaryError: the ledger can't be reached, or the job couldn't be stopped.
        """
        job = report.job
        if operation.job is not None and report.replaces == operation.job.id:
            await self.replace(operation, operation.job, job)
            return None
        current = await self._record(job, operation, number)
        if current is None:
            return None
        if not report.is_over and is_stray(current, number, job):
            await self._stop_stray(job)
            return None
        return current if may_record(current, number, job) else None

    async def _record(
        self, job: Job, operation: OperationRecord, number: int
    ) -> OperationRecord | None:
        """The operation as it is now, with the job if it is its own: the first one, or a rebuild of
        the one that it has. Another process may record one of them meanwhile. None: it is gone."""
        while True:
            former = operation.job
            if former is None:
                if not may_record(operation, number, job):
                    return operation
                adopted = await self._tie(job, operation.operation_id, number)
                recorded = adopted.operation if isinstance(adopted, Adopted) else None
            elif former.is_same_as(job.builder, job.id):
                return operation
            elif may_replace(operation, number, former) and await self._is_rebuild(job, former):
                recorded = await self.replace(operation, former, job)
            else:
                return operation
            if recorded is not None:
                return recorded
            current = await self.transactions.find_operation(operation.operation_id)
            if current is None or current.job == former:
                return current
            operation = current

    async def _is_rebuild(self, job: Job, former: Job) -> bool:
        newest = await self.describer.describe(former)
        return newest is not None and newest.replaces == former.id and newest.job.id == job.id

    async def replace(
        self, operation: OperationRecord, former: Job, newer: Job
    ) -> OperationRecord | None:
        """The builder has rebuilt the job: the newer one is checked from now on. None: the end of
        the former one is claimed."""
        own, number, timings = (
            operation.operation_id,
            operation.start_number,
            self.transactions.timings,
        )
        replaced = await self.transactions.run(
            lambda snapshot: replace(snapshot, own, number, former, newer, timings)
        )
        if replaced is not None:
            log.info("job was built again", job_id=newer.id, former_job_id=former.id)
        return replaced

    async def _started(self, job: JobRecord) -> OperationRecord | None:
        """The operation that the job was started for, unless it has another start by now."""
        operation = await self.transactions.find_operation(job.operation_id)
        is_at_it = operation is not None and operation.start_number == job.start_number
        return operation if is_at_it else None

    async def _waits_for_job(self, operation_id: str, number: int) -> bool:
        operation = await self.transactions.find_operation(operation_id)
        return is_under_way(operation, number) and operation.job is None

    async def _stop_stray(self, job: Job) -> None:
        builder: object = self.describer.builders.get(job.builder)
        if not isinstance(builder, StopsJobs):
            log.error("an orphaned job runs, and its builder can't stop it", job_id=job.id)
            return
        try:
            await builder_calls.stop_job(job.builder, builder, job.id)
        except PermanentError as error:
            raise TemporaryError(f"The orphaned job {job.id} can't be stopped: {error}") from error
        log.warning("stopped an orphaned job: its operation can't have it", job_id=job.id)

    async def _tie(self, job: Job, operation_id: str, number: int) -> Adopted | OrphanedJob:
        timings = self.transactions.timings
        return await self.transactions.run(
            lambda snapshot: adopt(snapshot, operation_id, number, job, None, timings)
        )
