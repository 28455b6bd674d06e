"""How the builder of a job is chosen, and the options of its start."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Job, Settings
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Builders, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.conftest import Client, StartService

PROVISION = "/events/TENANT_PROVISIONING"
OPTIONS = {
    "computeType": "BUILD_GENERAL1_LARGE",
    "environmentType": "LINUX_CONTAINER",
    "image": "aws/codebuild/standard:7.0",
    "timeoutInMinutes": 90,
    "sourceVersion": "release-7",
    "buildspec": "buildspec.premium.yml",
    "serviceRole": "arn:aws:iam::123456789012:role/premium",
}


def with_tiers(settings: Settings, **tiers: Any) -> Settings:
    return attrs.evolve(settings, tiers=Tiers(backend="static", static=tiers))


def asked(tier: str, **body: Any) -> dict[str, Any]:
    return {"tenantId": f"t-{tier}", "tier": tier, **body}


async def test_a_tier_says_how_codebuild_runs_its_builds(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A tier's map `codebuild` overrides the project's settings, and is no variable."""
    tier = {"jobIdentifier": "premium-tenant", "codebuild": OPTIONS, "SIZE": 3}
    service = await start_service(with_tiers(settings, PREMIUM=tier))
    await read_success(await service.post(PROVISION, json=asked("PREMIUM")))
    build = only_build(codebuild)
    passed = {
        name: value
        for name, value in build.parameters.items()
        if name.endswith("Override") or name == "sourceVersion"
    }
    del passed["environmentVariablesOverride"]
    assert passed == {
        "autoRetryLimitOverride": 0,
        "computeTypeOverride": "BUILD_GENERAL1_LARGE",
        "environmentTypeOverride": "LINUX_CONTAINER",
        "imageOverride": "aws/codebuild/standard:7.0",
        "timeoutInMinutesOverride": 90,
        "sourceVersion": "release-7",
        "buildspecOverride": "buildspec.premium.yml",
        "serviceRoleOverride": "arn:aws:iam::123456789012:role/premium",
    }
    assert {variable["name"] for variable in build.overrides} >= {"SIZE", "tier"}
    assert not {variable["name"] for variable in build.overrides} & {"codebuild"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"computType": "x"}, "codebuild.computType is no option of a tier; there is buildspec"),
        ({"image": 7}, "codebuild.image is 7: it must be text."),
        ({"timeoutInMinutes": "90"}, "codebuild.timeoutInMinutes is '90': it must be a whole"),
        ({"timeoutInMinutes": True}, "codebuild.timeoutInMinutes is True: it must be a whole"),
        ("large", "The tier's attribute codebuild must be a map"),
    ],
)
async def test_a_wrong_option_of_a_tier_is_refused(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    options: Any,
    said: str,
) -> None:
    """A wrong option is a 422 that names it, and no build is started with the others."""
    tier = {"jobIdentifier": "premium-tenant", "codebuild": options}
    service = await start_service(with_tiers(settings, PREMIUM=tier))
    problem = await read_problem(await service.post(PROVISION, json=asked("PREMIUM")), 422)
    assert said in problem["detail"]
    assert not codebuild.builds


async def test_the_event_chooses_the_builder_else_the_tier_else_the_default(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """The builder is the event's `builderConfig.type`, else the tier's `builder`, else
    `builders.default`."""
    builders = {name: InMemoryBuilder(name) for name in ("FIRST", "SECOND", "THIRD")}
    chosen = with_tiers(
        settings,
        NAMED={"jobIdentifier": "named", "builder": "SECOND", "codebuild": OPTIONS},
        PLAIN={"jobIdentifier": "plain"},
    )
    service = await start_service(
        attrs.evolve(chosen, builders=Builders(default="THIRD")),
        extension=Extension(builders=builders),
    )
    of_event = {"builderConfig": {"type": "FIRST"}}
    for body in (asked("NAMED", **of_event), {**asked("NAMED"), "tenantId": "t-2"}, asked("PLAIN")):
        await read_success(await service.post(PROVISION, json=body))
    started = {
        name: [one.job.job_identifier for one in builder.started]
        for name, builder in builders.items()
    }
    assert started == {"FIRST": ["named"], "SECOND": ["named"], "THIRD": ["plain"]}
    assert not codebuild.builds


@pytest.mark.parametrize("attributes", [{"jobIdentifier": 7}, {"builder": ["JENKINS"]}])
async def test_a_name_of_a_tier_that_is_no_text_is_refused(
    start_service: StartService, settings: Settings, attributes: dict[str, Any]
) -> None:
    """A tier's name of job or builder that isn't text, which DynamoDB can hold, is a 422."""
    tier = {"jobIdentifier": "standard-tenant", **attributes}
    service = await start_service(with_tiers(settings, ODD=tier))
    problem = await read_problem(await service.post(PROVISION, json=asked("ODD")), 422)
    assert "it must be text" in problem["detail"]


async def test_an_unknown_builder_is_refused(service: Client) -> None:
    """An unknown builder is a 422 with arc-saas' sentence and the names of the existing
    builders."""
    body = asked("STANDARD", builderConfig={"type": "JENKINS"})
    problem = await read_problem(await service.post(PROVISION, json=body), 422)
    assert problem["detail"] == "Invalid builder config provided."
    (error,) = problem["errors"]
    assert "'JENKINS' is no builder here; there is CODE_BUILD" in error["message"]


async def test_a_quota_is_waited_for_with_growing_pauses(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """After CodeBuild's error for the limits of the account and of a project, a run is retried with
    growing pauses."""
    reached = Fault.error("AccountLimitExceededException", "Cannot have more than 1 active builds")
    codebuild.inject("StartBuild", *[reached] * 5)
    answer = await service.post(PROVISION, json=asked("STANDARD"))
    await read_problem(answer, 503)
    assert answer.headers["Retry-After"] == "30"
    for attempt, pause_s in enumerate((30, 60, 120, 240, 300), start=1):
        for seconds, attempts in ((pause_s - 1, attempt), (1, attempt + 1)):
            clock.turn(seconds)
            await service.post("/events/RECONCILE", json={})
            (run,) = (await (await service.get("/runs")).json())["items"]
            assert run["attempt"] == attempts
    assert run["status"] == "succeeded"
    assert only_build(codebuild)


class Broken(InMemoryBuilder):
    """A user's builder whose errors aren't the orchestrator's."""

    is_down = True

    def break_down(self) -> None:
        if self.is_down:
            raise ConnectionResetError("down")

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        self.break_down()
        return await super().start_job(job_identifier, params, start_key=start_key)

    async def find_job(self, **asked: Any) -> Job | None:
        self.break_down()
        return await super().find_job(**asked)

    async def stop_job(self, *, job_id: str) -> None:
        self.break_down()
        await super().stop_job(job_id=job_id)


async def test_a_builder_that_breaks_down_holds_its_own_alone(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """While a builder can't look up a start that may be out, its run is 503 and waits; later it is
    resumed."""
    builder = Broken("MINE")
    service = await start_service(
        with_tiers(settings, TIER={"jobIdentifier": "up", "builder": "MINE"}),
        extension=Extension(builders={"MINE": builder}),
    )
    for attempt in range(8):
        problem = await read_problem(
            await service.post(PROVISION, json=asked("TIER")), 503 if attempt else 500
        )
        (run,) = (await (await service.get("/runs")).json())["items"]
        assert run["status"] == "retry"
        clock.turn(301)
    assert "MINE raised an exception: it can't look up the job" in problem["detail"]
    builder.is_down = False
    await read_success(await service.post(PROVISION, json=asked("TIER")))
    builder.is_down = True
    # The cancel is recorded, so that the sweep completes it.
    assert (await service.post("/tenants/t-TIER/cancel", json={})).status == 202
    builder.is_down = False
    clock.turn(61)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert (await (await service.get("/tenants/t-TIER")).json())["state"] == "provision_failed"
