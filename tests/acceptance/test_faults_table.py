"""Each request of the service to AWS fails in each way, and in the end there is one build.

A second try of the SDK's comes after a random pause of up to a second, which is what these
tests take.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import Fault
from orchestrator.testing import ManualClock
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.acceptance.stories import (
    PROVISION,
    list_runs,
    read_wait,
    send,
    state_of,
    sweep,
)
from tests.conftest import Client, StartService
from tests.faulty_aws import TIERS, FaultyAWS

#: Longer than a lease and the time after it in which a build may not be listed yet.
LONG_S = 125
MISSING = "ResourceNotFoundException"


@attrs.frozen
class Trouble:
    """One way to fail, as often as the SDK tries."""

    make: Callable[[], Fault]
    tries: int = 2
    is_done: bool = False
    """The request takes effect all the same."""
    is_slow: bool = False

    def faults(self) -> list[Fault]:
        return [self.make() for _ in range(self.tries)]


def error(code: str, http_status: int = 400) -> Callable[[], Fault]:
    return partial(Fault.error, code, "It went wrong", http_status=http_status)


TROUBLES = {
    "throttled": Trouble(error("ThrottlingException")),
    "broken": Trouble(error("InternalServerError", 500)),
    "reset": Trouble(Fault.reset),
    "answer lost": Trouble(Fault.answer_lost, is_done=True),
    "held": Trouble(Fault.slow, is_done=True, is_slow=True),
    "quota": Trouble(error("AccountLimitExceededException"), tries=1),
    "denied": Trouble(error("AccessDeniedException"), tries=1),
    "missing": Trouble(error(MISSING), tries=1),
}
EACH_TROUBLE = pytest.mark.parametrize(
    "trouble", [pytest.param(trouble, id=name) for name, trouble in TROUBLES.items()]
)


@pytest.fixture
async def service(
    request: pytest.FixtureRequest,
    start_service: StartService,
    in_dynamodb: Settings,
    aws: FaultyAWS,
) -> Client:
    """The service whose requests fail, with a short timeout if answers are held back."""
    callspec: Any = request.node.callspec
    if not callspec.params["trouble"].is_slow:
        return await start_service(in_dynamodb)
    return await start_service(
        attrs.evolve(in_dynamodb, aws=attrs.evolve(in_dynamodb.aws, read_timeout_s=1.0))
    )


@pytest.fixture
async def replica(start_service: StartService, in_dynamodb: Settings, aws: FaultyAWS) -> Client:
    """The service that sweeps once the faults are over."""
    return await start_service(in_dynamodb)


async def assert_healed(replica: Client, aws: FaultyAWS) -> None:
    """There is one run, which succeeded, and one build, which is the tenant's."""
    assert aws.left == 0
    (listed,) = await list_runs(replica)
    run = await read_run(replica, f"/runs/{listed['runId']}")
    assert (run["status"], run["error"], run["dueAt"]) == ("succeeded", None, None)
    assert run["job"]["id"] == only_build(aws.aws.codebuild).id
    assert await state_of(replica) == "provisioning"


@EACH_TROUBLE
@pytest.mark.parametrize("call", [f"Query {TIERS}", "StartBuild"])
async def test_a_call_of_the_handler_goes_wrong(
    service: Client,
    replica: Client,
    aws: FaultyAWS,
    clock: ManualClock,
    call: str,
    trouble: Trouble,
) -> None:
    """The answer is 503 and the run in `retry` with the reason, until a later sweep completes it; a
    missing CodeBuild project is 422, until the run is replayed."""
    aws.inject(call, *trouble.faults())
    answer = await send(service, PROVISION, "request")
    is_permanent = call == "StartBuild" and trouble is TROUBLES["missing"]
    problem = await read_problem(answer, 422 if is_permanent else 503)
    run = await read_run(replica, problem["instance"])
    assert run["status"] == ("failed" if is_permanent else "retry")
    assert run["error"]["message"] == problem["detail"]
    assert len(aws.aws.codebuild.builds) == (call == "StartBuild" and trouble.is_done)

    clock.turn(LONG_S)
    if is_permanent:
        assert await state_of(replica) == "unseen"
        await read_success(await replica.post(f"{problem['instance']}/replay"))
    else:
        await sweep(replica)
    await assert_healed(replica, aws)


@EACH_TROUBLE
async def test_the_claim_goes_wrong(
    service: Client, replica: Client, aws: FaultyAWS, clock: ManualClock, trouble: Trouble
) -> None:
    """The answer is 503; if nothing was written the event is sent again, else the sweep resumes the
    run."""
    aws.inject("TransactWriteItems", *trouble.faults())
    await read_problem(await send(service, PROVISION, "request"), 503)
    runs = await list_runs(replica)
    assert [run["status"] for run in runs] == (["running"] if trouble.is_done else [])
    assert not aws.aws.codebuild.builds

    clock.turn(LONG_S)
    if trouble.is_done:
        await sweep(replica)
    else:
        await read_success(await send(replica, PROVISION, "request"))
    await assert_healed(replica, aws)


@EACH_TROUBLE
async def test_the_settle_goes_wrong(
    service: Client, replica: Client, aws: FaultyAWS, clock: ManualClock, trouble: Trouble
) -> None:
    """The answer is 503, since it is unknown what was written; the build is found, and not started
    twice."""
    aws.inject("TransactWriteItems", None, *trouble.faults())
    await read_problem(await send(service, PROVISION, "request"), 503)
    (run,) = await list_runs(replica)
    assert run["status"] == ("succeeded" if trouble.is_done else "running")

    clock.turn(LONG_S)
    await sweep(replica)
    await assert_healed(replica, aws)
    answer = await send(replica, PROVISION, "request")
    assert answer.headers["Idempotent-Replayed"] == "true"


@EACH_TROUBLE
@pytest.mark.parametrize("call", ["ListBuildsForProject", "BatchGetBuilds", "BatchGetItem"])
async def test_the_look_up_of_a_lost_start_goes_wrong(
    service: Client,
    replica: Client,
    aws: FaultyAWS,
    clock: ManualClock,
    call: str,
    trouble: Trouble,
) -> None:
    """The answer is 503 again and nothing is started, until a later sweep finds the build; if its
    project no longer exists, the build is found among the account's at once."""
    aws.inject("StartBuild", Fault.answer_lost(), Fault.answer_lost())
    address = await read_wait(await send(replica, PROVISION, "request"))
    aws.inject(call, *trouble.faults())
    if call == "ListBuildsForProject" and trouble is TROUBLES["missing"]:
        assert await read_success(await send(service, PROVISION, "request")) == address
        await assert_healed(replica, aws)
        return
    assert await read_wait(await send(service, PROVISION, "request")) == address
    run = await read_run(replica, address)
    assert (run["status"], run["attempt"], run["job"]) == ("retry", 2, None)

    clock.turn(LONG_S)
    await sweep(replica)
    await assert_healed(replica, aws)
    assert aws.calls.count("StartBuild") == 2


@pytest.mark.parametrize("body", ["{}", "[]", "not json", '{"build": 7, "Items": 7, "ids": 7}'])
@pytest.mark.parametrize(
    "call", [f"Query {TIERS}", "StartBuild", "BatchGetItem", "ListBuildsForProject"]
)
async def test_a_200_with_a_foreign_body_is_temporary(
    start_service: StartService,
    in_dynamodb: Settings,
    aws: FaultyAWS,
    clock: ManualClock,
    call: str,
    body: str,
) -> None:
    """A 200 with an unexpected body, as of a proxy, is a temporary fault and no bug, after which
    the request may have taken effect."""
    replica = await start_service(in_dynamodb)
    is_later = call in ("BatchGetItem", "ListBuildsForProject")
    if is_later:
        aws.inject("StartBuild", Fault.answer_lost(), Fault.answer_lost())
        await read_wait(await send(replica, PROVISION, "request"))
    aws.inject(call, Fault.garbled(body))
    address = await read_wait(await send(replica, PROVISION, "request"))
    run = await read_run(replica, address)
    assert (run["status"], run["attempt"], run["job"]) == ("retry", 1 + is_later, None)
    assert "the answer doesn't match the API" in run["error"]["message"]
    clock.turn(LONG_S)
    await sweep(replica)
    await assert_healed(replica, aws)


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        (
            "StartBuild",
            "InvalidInputException",
            (
                "User: arn:aws:sts::1:assumed-role/a is not authorized to perform: "
                "codebuild:StartBuild on resource: arn:aws:codebuild:eu-west-1:1:project/a"
            ),
        ),
        (
            "StartBuild",
            "InvalidInputException",
            "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify",
        ),
        (
            f"Query {TIERS}",
            "ValidationException",
            "Query condition missed key schema element: name",
        ),
        (
            f"Query {TIERS}",
            "ValidationException",
            "Condition parameter type does not match schema type",
        ),
        (
            "TransactWriteItems",
            "ValidationException",
            "The provided key element does not match the schema",
        ),
    ],
)
async def test_a_fault_that_operators_can_fix_is_temporary(
    start_service: StartService,
    in_dynamodb: Settings,
    aws: FaultyAWS,
    clock: ManualClock,
    call: str,
    code: str,
    message: str,
) -> None:
    """A missing permission or a wrong table is 503; once it is fixed the sweep or a redelivery
    continues."""
    replica = await start_service(in_dynamodb)
    aws.inject(call, Fault.error(code, message))
    problem = await read_problem(await send(replica, PROVISION, "request"), 503)
    assert call == "TransactWriteItems" or message in problem["detail"]
    clock.turn(LONG_S)
    await (send(replica, PROVISION, "request") if "Transact" in call else sweep(replica))
    await assert_healed(replica, aws)


@pytest.mark.parametrize(
    "trouble", [pytest.param(TROUBLES[name], id=name) for name in ("reset", "held", "denied")]
)
@pytest.mark.parametrize(
    ("call", "status"), [("Query due", 503), ("BatchGetItem", 200), ("TransactWriteItems", 200)]
)
async def test_the_sweep_goes_wrong(
    service: Client,
    replica: Client,
    aws: FaultyAWS,
    clock: ManualClock,
    call: str,
    status: int,
    trouble: Trouble,
) -> None:
    """Runs that the sweep can't resume stay due; a sweep that can't read what is due is 503."""
    aws.inject("StartBuild", TROUBLES["quota"].make())
    await read_wait(await send(replica, PROVISION, "request"))
    clock.turn(LONG_S)
    aws.inject(call, *trouble.faults() * 4)  # each partition of the index is queried
    assert (await service.post("/events/RECONCILE", json={})).status == status
    aws.mend()

    clock.turn(LONG_S)
    await sweep(replica)
    await assert_healed(replica, aws)


@pytest.mark.parametrize("trouble", [pytest.param(TROUBLES["denied"], id="denied")])
@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/runs", "Query list"),
        ("/runs", "BatchGetItem"),
        ("/runs?tenantId=t-1", "Query tenant"),
        ("/runs/{runId}", "BatchGetItem"),
        ("/tenants", "Query list"),
        ("/tenants/t-1", "BatchGetItem"),
        ("/tenants/t-1", "Query tenant"),
    ],
)
async def test_nothing_can_be_read(
    service: Client, aws: FaultyAWS, path: str, call: str, trouble: Trouble
) -> None:
    """A read that fails is a 503 with a pause, which names only the service."""
    address = await read_success(await send(service, PROVISION, "request"))
    aws.inject(call, *trouble.faults() * 100)
    answer = await service.get(path.format(runId=address.removeprefix("/runs/")))
    problem = await read_problem(answer, 503)
    assert "DynamoDB" in problem["detail"]
