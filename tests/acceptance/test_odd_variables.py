"""Values that no job can be given are refused by name, before a start may be out."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Settings
from orchestrator.cli.explain import explain_event
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Builders, StepFunctions, Tiers, load_settings
from orchestrator.testing import InMemoryBuilder
from tests.acceptance.answers import only_build, read_problem, read_success, variables
from tests.acceptance.stories import TENANT, list_runs, state_of
from tests.conftest import Client, StartService

PROVISION = "TENANT_PROVISIONING"
EXTENSIONS = "tests.acceptance.extensions"
BODY = {"tenantId": TENANT, "tier": "DATED"}
OVERRIDE = "$.builderConfig.config.environmentOverride"
DATED = """
[tiers]
backend = "static"
[tiers.static.DATED]
jobIdentifier = "standard-tenant"
TRIAL_ENDS = 2027-01-31
SUPPORT = { until = 2027-01-31T18:00:00Z, from = 08:30:00 }
"""


async def refusal_of(
    service: Client, body: dict[str, Any], codebuild: CodeBuildStandIn
) -> dict[str, Any]:
    """The problem of a request that leaves only a failed run."""
    problem = await read_problem(await service.post(f"/events/{PROVISION}", json=body), 422)
    (run,) = await list_runs(service)
    assert (run["status"], run["attempt"]) == ("failed", 1)
    assert await state_of(service) == "unseen"
    assert not codebuild.builds
    return problem


async def trouble_of(settings: Settings, body: dict[str, Any]) -> str:
    """The trouble that `explain` finds in a request; both of its forms can be printed."""
    explained = await explain_event(settings, PROVISION, json.dumps(body).encode())
    json.dumps(explained.as_json())
    assert explained.trouble is not None
    assert explained.trouble in "\n".join(explained.as_lines())
    return explained.trouble


async def test_a_date_of_a_settings_file_is_passed_as_its_text(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, tmp_path: Path
) -> None:
    """A date of a TOML file is passed to the build as it was written, and `explain` shows it."""
    path = tmp_path / "mine.toml"
    path.write_text(DATED)
    dated = attrs.evolve(settings, tiers=load_settings(path, environ={}).tiers)
    service = await start_service(dated)
    await read_success(await service.post(f"/events/{PROVISION}", json=BODY))
    values = variables(only_build(codebuild))
    assert values["TRIAL_ENDS"] == "2027-01-31"
    assert values["SUPPORT"] == '{"until":"2027-01-31T18:00:00Z","from":"08:30:00"}'
    explained = await explain_event(dated, PROVISION, json.dumps(BODY).encode())
    assert explained.trouble is None
    assert json.loads(json.dumps(explained.as_json()))["variables"]["TRIAL_ENDS"] == "2027-01-31"


@pytest.mark.parametrize("builder", ["CODE_BUILD", "STEP_FUNCTIONS", "MINE"])
async def test_a_tiers_attribute_that_is_no_value_is_refused(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, builder: str
) -> None:
    """A tier's number that JSON doesn't have, as TOML allows, is refused by the attribute's name,
    for each builder."""
    tier = {"jobIdentifier": "standard-tenant", "RATIO": [float("nan")], "builder": builder}
    odd = attrs.evolve(
        settings,
        tiers=Tiers(backend="static", static={"DATED": tier}),
        builders=Builders(
            step_functions=StepFunctions(
                state_machines={"standard-tenant": "arn:aws:states:eu-west-1:1:stateMachine:x"}
            )
        ),
    )
    mine = InMemoryBuilder()
    service = await start_service(odd, extension=Extension(builders={"MINE": mine}))
    problem = await refusal_of(service, BODY, codebuild)
    assert "The tier's attribute RATIO can't be passed to a job" in problem["detail"]
    (error,) = problem["errors"]
    assert error["path"] == "$.planConfig.tier"
    assert "attribute RATIO" in error["message"]
    assert not mine.started
    if builder != "MINE":
        assert problem["detail"] in await trouble_of(odd, BODY)


@pytest.mark.parametrize(
    ("name", "text"),
    [("A", "1" + "0" * 400), ("B", json.dumps({"deep": ["\ud800"]})), ("tenant", None)],
)
async def test_an_override_that_is_no_value_is_refused(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    name: str,
    text: str | None,
) -> None:
    """An override with a number beyond JavaScript's, or half a surrogate pair, is refused by its
    path."""
    value = json.loads(text) if text else {"id": TENANT, "size": 10**400}
    body = {
        "tenantId": TENANT,
        "tier": "STANDARD",
        "builderConfig": {"config": {"environmentOverride": {name: value, "OK": 1}}},
    }
    service = await start_service()
    answer = await service.post(f"/events/{PROVISION}", json=body)
    if answer.status == 400:  # the JSON parser has refused it already
        return
    problem = await read_problem(answer, 422)
    assert [error["path"] for error in problem["errors"]] == [f"{OVERRIDE}.{name}"]
    assert not codebuild.builds
    assert f"{OVERRIDE}.{name}" in await trouble_of(settings, body)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": b"x"}, "codebuild.image can't be passed to a job"),
        ({"timeoutInMinutes": float("inf")}, "codebuild.timeoutInMinutes can't be passed to a job"),
        ({"computType": "x"}, "codebuild.computType is no option of a tier"),
        ({"image": 7}, "codebuild.image is 7: it must be text"),
    ],
)
async def test_an_option_that_is_no_value_is_refused(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    options: dict[str, Any],
    said: str,
) -> None:
    """A wrong option of a tier is named, in the answer and by `explain`."""
    tier = {"jobIdentifier": "standard-tenant", "codebuild": options}
    odd = attrs.evolve(settings, tiers=Tiers(backend="static", static={"DATED": tier}))
    service = await start_service(odd)
    problem = await refusal_of(service, BODY, codebuild)
    assert said in problem["detail"]
    (error,) = problem["errors"]
    assert error["path"] == "$.planConfig.tier"
    assert said in error["message"]
    assert said in await trouble_of(odd, BODY)


async def test_a_state_machine_that_is_not_configured_is_refused(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """An unknown state machine is refused before any request to AWS, and by `explain` in the same
    words."""
    machines = {"provision": "arn:aws:states:eu-west-1:1:stateMachine:x"}
    tier = {"jobIdentifier": "standard-tenant", "builder": "STEP_FUNCTIONS"}
    odd = attrs.evolve(
        settings,
        tiers=Tiers(backend="static", static={"DATED": tier}),
        builders=Builders(step_functions=StepFunctions(state_machines=machines)),
    )
    service = await start_service(odd)
    problem = await refusal_of(service, BODY, codebuild)
    assert "'standard-tenant' names no state machine" in problem["detail"]
    assert await trouble_of(odd, BODY) == problem["detail"]


async def test_a_bug_in_a_builder_is_no_traceback_of_explain(settings: Settings) -> None:
    """A builder's bug is a sentence of `explain` that names the builder, and no traceback."""
    own = attrs.evolve(settings, extension=f"{EXTENSIONS}.stumbling_builder:extension")
    body = {"tenantId": TENANT, "tier": "STANDARD", "builderConfig": {"type": "MINE"}}
    trouble = await trouble_of(own, body)
    assert trouble == "The builder MINE raised an exception: it can't build the request of a start."
