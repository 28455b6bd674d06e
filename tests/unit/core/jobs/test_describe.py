"""What a builder answers about jobs: one answer for each, whatever becomes of the query."""

import asyncio
from collections.abc import Collection

import pytest

from orchestrator.core.errors import TemporaryError
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.describe import Answers, JobDescriber
from orchestrator.core.jobs.job_description import (
    JobDescription,
    JobStatus,
    NotDescribed,
    SomeNotDescribed,
)
from orchestrator.core.ledger.record_parts import Job
from orchestrator.testing import InMemoryBuilder
from tests.desk import operation_id
from tests.unit.core.jobs.watching import (
    Broken,
    Down,
    OnlyStarts,
    Partial,
    Picky,
    PickyAndBlind,
    running,
)

FAILED, HIDDEN, NOT_ASKED, UNKNOWN = (
    NotDescribed.FAILED,
    NotDescribed.HIDDEN,
    NotDescribed.NOT_ASKED,
    NotDescribed.UNKNOWN,
)
KEY = f"{operation_id('k')}-1"


def job(job_id: str, builder: str = "A") -> Job:
    return Job(id=job_id, builder=builder, job_identifier="standard")


def runs(job_id: str, *, start_key: str | None = None, builder: str = "A") -> JobDescription:
    return JobDescription(
        job=job(job_id, builder), status=JobStatus.IN_PROGRESS, start_key=start_key
    )


async def ask(builder: Builder, *job_ids: str) -> Answers:
    return await JobDescriber({"A": builder}).answers("A", job_ids)


def found(answers: Answers) -> dict[str, object]:
    """The answers; a description by its job's id."""
    return {
        job_id: answer.job.id if isinstance(answer, JobDescription) else answer
        for job_id, answer in answers.by_job.items()
    }


async def test_a_builder_that_cannot_describe_jobs_is_not_queried() -> None:
    """Neither it nor a builder that isn't registered any more is queried, which is no error."""
    describer = JobDescriber({"A": OnlyStarts()})
    for name in ("A", "GONE"):
        assert await describer.answers(name, ["b-1"]) == Answers({"b-1": NOT_ASKED})
        assert await describer.describe(job("b-1", name)) is None


async def test_a_job_that_is_left_out_is_unknown() -> None:
    """The builder has answered the query, so that it is no trouble."""
    builder = await asyncio.to_thread(running, InMemoryBuilder("A"), "b-1")
    answers = await ask(builder, "b-1", "b-2")
    assert (found(answers), answers.trouble) == ({"b-1": "b-1", "b-2": UNKNOWN}, None)


@pytest.mark.parametrize("builder", [Down("A"), Broken("A")])
async def test_of_a_builder_that_fails_nothing_is_known(builder: InMemoryBuilder) -> None:
    """Each of its jobs may run: none of them is taken for unknown."""
    answers = await ask(builder, "b-1", "b-2")
    assert found(answers) == {"b-1": FAILED, "b-2": FAILED}
    assert isinstance(answers.trouble, TemporaryError)


@pytest.mark.parametrize("failed", [{"failed"}, set()])
async def test_a_builder_may_describe_some_jobs_only(failed: Collection[str]) -> None:
    """Those that can't be described now are a trouble; hidden ones are none."""
    builder = Partial("A")
    builder.known, builder.failed, builder.hidden = {"known": runs("known")}, failed, {"hidden"}
    answers = await ask(builder, "known", "hidden", "gone", *failed)
    expected = {"known": "known", "hidden": HIDDEN, "gone": UNKNOWN}
    assert found(answers) == expected | dict.fromkeys(failed, FAILED)
    assert isinstance(answers.trouble, SomeNotDescribed) is bool(failed)


async def test_a_job_for_which_the_query_is_refused_is_unknown() -> None:
    """A job that the builder refuses to describe is unknown, alone and as one of several."""
    builder = await asyncio.to_thread(running, Picky("A"), "b-1", "b-2", "b-3")
    assert found(await ask(builder, "bad")) == {"bad": UNKNOWN}
    answers = await ask(builder, "b-1", "bad", "b-2", "b-3")
    expected = {"b-1": "b-1", "bad": UNKNOWN, "b-2": "b-2", "b-3": "b-3"}
    assert (found(answers), answers.trouble) == (expected, None)


async def test_a_refused_job_changes_no_answer_about_another() -> None:
    """The parts of the query are answered differently: described, hidden, failed."""
    builder = await asyncio.to_thread(running, PickyAndBlind("A"), "b-1", "b-2", "b-3")
    answers = await ask(builder, "b-1", "bad", "failed", "b-2", "hidden", "b-3")
    assert found(answers) == {
        "b-1": "b-1",
        "bad": UNKNOWN,
        "failed": FAILED,
        "b-2": "b-2",
        "hidden": HIDDEN,
        "b-3": "b-3",
    }
    assert isinstance(answers.trouble, SomeNotDescribed)


class Owner(InMemoryBuilder):
    """Other programs run jobs on it, too."""

    def owns(self, job_id: str) -> bool:
        return job_id != "foreign"


@pytest.mark.parametrize(
    ("report", "start"),
    [
        (runs("b-1", start_key=KEY), (operation_id("k"), 1)),
        (runs("b-1"), None),
        (runs("b-1", start_key="odd"), None),
        (runs("b-1", start_key="another-1"), None),
        (runs("foreign", start_key=KEY), None),
        (runs("b-1", start_key=KEY, builder="GONE"), None),
    ],
)
def test_a_job_names_a_start_only_where_it_may_be_ours(
    report: JobDescription, start: tuple[str, int] | None
) -> None:
    """Start key and builder must be ours, and the job too, as far as the builder can say."""
    assert JobDescriber({"A": Owner("A")}).start_of(report) == start
