"""Users' builders that raise unexpected errors, or return unexpected values."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Job, JobDescription, JobStatus, Settings
from orchestrator.settings import Runs, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock
from tests.acceptance.answers import read_problem, read_success
from tests.acceptance.stories import TENANT, list_runs, read_tenant, state_of, sweep
from tests.conftest import Client, StartService

PROVISION = "/events/TENANT_PROVISIONING"
BODY = {"tenantId": TENANT, "tier": "FULL"}
TIER = {"jobIdentifier": "make", "builder": "MINE"}
ATTEMPTS = 3


@pytest.fixture
def few_attempts(settings: Settings) -> Settings:
    """A tier for the builder MINE, and few attempts for each run."""
    return attrs.evolve(
        settings,
        runs=Runs(max_attempts=ATTEMPTS),
        tiers=Tiers(backend="static", static={"FULL": TIER}),
    )


async def start(start_service: StartService, settings: Settings, builder: Any) -> Client:
    return await start_service(settings, extension=Extension(builders={"MINE": builder}))


async def let_time_pass(service: Client, clock: ManualClock, *, sweeps: int = 20) -> None:
    """Some minutes pass, with a sweep in each."""
    for _ in range(sweeps):
        clock.turn(61)
        await sweep(service)


class OnlyStarts:
    """The minimal builder: its jobs can't be looked up."""

    def __init__(self) -> None:
        self.calls = 0

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        self.calls += 1
        job: Job = self.answer(job_identifier)
        return job

    def answer(self, job_identifier: str) -> Any:
        raise KeyError(job_identifier)


class FindsNothing(OnlyStarts):
    """A builder that can be queried, and finds no job."""

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        return None


class AnswersWith(OnlyStarts):
    """A builder that returns the given value instead of a job."""

    def __init__(self, answered: Any) -> None:
        super().__init__()
        self.answered = answered

    def answer(self, job_identifier: str) -> Any:
        return self.answered


@pytest.mark.parametrize(
    "builder",
    [
        OnlyStarts(),
        FindsNothing(),
        AnswersWith({"id": "j-1"}),
        AnswersWith(Job(id=None, job_identifier="make")),  # type: ignore[arg-type]
        AnswersWith(Job(id="", job_identifier="make")),
        AnswersWith(Job(id="\ud800", job_identifier="make")),
        AnswersWith(Job(id="j" * 3000, job_identifier="make")),
    ],
    ids=["raises", "finds nothing", "no job", "no id", "empty id", "half a character", "long id"],
)
async def test_a_start_that_raises_each_time_comes_to_an_end(
    start_service: StartService, few_attempts: Settings, clock: ManualClock, builder: OnlyStarts
) -> None:
    """Each attempt counts as a bug; once no start can be out the run fails and the tenant is given
    back, and a redelivery is a new attempt."""
    service = await start(start_service, few_attempts, builder)
    await read_problem(await service.post(PROVISION, json=BODY), 500)
    await let_time_pass(service, clock)
    (run,) = await list_runs(service)
    assert (run["status"], builder.calls) == ("failed", ATTEMPTS)
    assert "3 attempts (runs.max_attempts) ended by bugs" in run["error"]["message"]
    assert await state_of(service) == "unseen"
    await read_problem(await service.post(PROVISION, json=BODY), 500)
    await let_time_pass(service, clock)
    (run,) = await list_runs(service)
    assert (run["status"], builder.calls) == ("failed", ATTEMPTS + 1)
    assert await state_of(service) == "unseen"


class RaisesAfterStarting(InMemoryBuilder):
    """A builder that starts the job and then raises; while `is_blind` it doesn't list the job."""

    is_blind = False

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        await super().start_job(job_identifier, params, start_key=start_key)
        raise KeyError("buildUrl")

    async def find_job(self, **asked: Any) -> Job | None:
        return None if self.is_blind else await super().find_job(**asked)


@pytest.mark.parametrize("max_attempts", [1, ATTEMPTS])
@pytest.mark.parametrize("is_blind", [False, True], ids=["lists at once", "lists late"])
async def test_a_job_of_a_start_that_raised_is_found(
    start_service: StartService,
    few_attempts: Settings,
    clock: ManualClock,
    max_attempts: int,
    is_blind: bool,
) -> None:
    """A job whose start raised is the operation's, even when the attempts are used up, and its end
    is the operation's."""
    builder = RaisesAfterStarting("MINE")
    builder.is_blind = is_blind
    settings = attrs.evolve(few_attempts, runs=Runs(max_attempts=max_attempts))
    service = await start(start_service, settings, builder)
    await read_problem(await service.post(PROVISION, json=BODY), 500)
    clock.turn(7)
    builder.is_blind = False
    await let_time_pass(service, clock, sweeps=3)
    (started,) = builder.started
    (run,) = await list_runs(service)
    at_the_last = max_attempts == 1 and not is_blind
    assert run["status"] == ("failed" if at_the_last else "succeeded")
    assert await state_of(service) == "provisioning"
    builder.finish(started.job.id)
    await let_time_pass(service, clock, sweeps=3)
    assert await state_of(service) == "provisioned"


@pytest.mark.parametrize("named", ["SOMETHING_ELSE", "", None, 7])
async def test_a_job_is_recorded_under_its_builders_registered_name(
    start_service: StartService, few_attempts: Settings, clock: ManualClock, named: Any
) -> None:
    """A job is checked under its builder's registered name until its end, whatever name the builder
    itself returns."""
    builder = InMemoryBuilder(named)
    service = await start(start_service, few_attempts, builder)
    await read_success(await service.post(PROVISION, json=BODY))
    operation = (await read_tenant(service))["operation"]
    assert operation["job"]["builder"] == "MINE"
    builder.finish(builder.started[0].job.id)
    await let_time_pass(service, clock, sweeps=2)
    assert await state_of(service) == "provisioned"


@attrs.define
class Tells(InMemoryBuilder):
    """A builder that describes jobs as the test says."""

    descriptions: Any = None

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        if self.descriptions is None:
            return await super().describe_jobs(job_ids=job_ids)
        described: Mapping[str, JobDescription] = self.descriptions(job_ids)
        return described


def report(**fields: Any) -> JobDescription:
    job = Job(id="make:1", job_identifier="make", log_url="javascript:alert(1)")
    return JobDescription(**{"job": job, "status": JobStatus.SUCCEEDED, **fields})


@pytest.mark.parametrize(
    "descriptions",
    [
        lambda job_ids: 7,
        lambda job_ids: [report()],
        lambda job_ids: dict.fromkeys(job_ids, "SUCCEEDED"),
        lambda job_ids: {job_id: report(job=None) for job_id in job_ids},
        lambda job_ids: {job_id: report(status="DONE") for job_id in job_ids},
        lambda job_ids: {job_id: report(status=["SUCCEEDED"]) for job_id in job_ids},
        lambda job_ids: {job_ids[0]: 7, 7: report(), "x": report(), None: None},
    ],
)
async def test_a_report_that_is_none_leaves_the_job_as_it_was(
    start_service: StartService, few_attempts: Settings, clock: ManualClock, descriptions: Any
) -> None:
    """A description that can't be read leaves the job as it was: the sweep is 503, and describes
    the job again until the answer can be read."""
    builder = Tells("MINE", descriptions=descriptions)
    service = await start(start_service, few_attempts, builder)
    await read_success(await service.post(PROVISION, json=BODY))
    for _ in range(4):
        clock.turn(61)
        assert (await service.post("/events/RECONCILE", json={})).status == 503
    assert await state_of(service) == "provisioning"
    builder.descriptions = None
    builder.finish(builder.started[0].job.id)
    await let_time_pass(service, clock, sweeps=2)
    assert await state_of(service) == "provisioned"


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"status": "SUCCEEDED"},
        {"job": Job(id="another", builder="X", job_identifier=7)},  # type: ignore[arg-type]
        {"exported": None, "message": 7, "phase": [], "start_key": b"x"},
        {"exported": {"A": date(2027, 1, 31), 7: "x", "B": "b"}},
    ],
)
async def test_of_a_report_what_can_be_read_counts(
    start_service: StartService, few_attempts: Settings, clock: ManualClock, odd: dict[str, Any]
) -> None:
    """The described job has ended well, whatever else is odd in its description."""
    builder = Tells("MINE", descriptions=lambda job_ids: {one: report(**odd) for one in job_ids})
    service = await start(start_service, few_attempts, builder)
    await read_success(await service.post(PROVISION, json=BODY))
    await let_time_pass(service, clock, sweeps=2)
    assert await state_of(service) == "provisioned"
    tenant = await (await service.get(f"/tenants/{TENANT}")).text()
    assert "javascript" not in tenant


async def test_a_link_that_leads_nowhere_is_dropped(
    start_service: StartService, few_attempts: Settings
) -> None:
    """A job's link is kept only if it is http or https with a host."""
    for number, (link, shown) in enumerate(
        [
            ("javascript:alert(1)", None),
            ("file:///etc/passwd", None),
            ("http://", None),
            ("http://[", None),
            (7, None),
            ("https://ci.example/7", "https://ci.example/7"),
        ]
    ):
        job = Job(id=f"j-{number}", job_identifier="make", log_url=link)
        service = await start(start_service, few_attempts, AnswersWith(job))
        await read_success(await service.post(PROVISION, json=BODY))
        operation = (await read_tenant(service))["operation"]
        assert operation["job"].get("logUrl") == shown
