"""The plan of a job: which references to secrets an event may set."""

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.core.errors import PermanentError
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Kind
from orchestrator.core.events.payloads import BuilderConfig, BuilderOptions, TenantProvisioning
from orchestrator.core.evolve import evolve
from orchestrator.core.jobs.plan import plan_job
from tests.desk import PROVISIONING, event

SECRETS_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
PARAMETER_ARN = "arn:aws:ssm:eu-west-1:123456789012:parameter"


def planned(override: Mapping[str, Any], *, prefix: str) -> Mapping[str, Any]:
    """The variables of the job that a request with the override would start."""
    config = BuilderConfig(config=BuilderOptions(environment_override=dict(override)))
    request = TenantProvisioning(tenant_id="t-1", builder_config=config)
    sent: Event[Any] = event(PROVISIONING, "a")
    asked = evolve(sent, payload=request)
    tier = {"jobIdentifier": "standard"}
    return plan_job(asked, tier, Kind.PROVISIONING, secret_prefix=prefix).variables


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("/p/o/x/op-1/1/secret", True),
        ("p/o/x", True),
        ("//p/o", True),
        (" /p/o/x", True),
        ("/p/o", True),
        ("/p/o:json-key:AWSCURRENT", False),
        ("/p/o/x:json-key:AWSCURRENT", True),
        (f"{SECRETS_ARN}/p/o/x-AbCdEf", True),
        (f"{SECRETS_ARN}p/o/x", True),
        (f"{PARAMETER_ARN}/p/o/x", True),
        (f"{PARAMETER_ARN}//p/o/x", True),
        ("/p/other", False),
        ("/theirs/p/o/x", False),
        (f"{SECRETS_ARN}/p/other/x", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("kind", ["SECRETS_MANAGER", "PARAMETER_STORE"])
def test_an_event_may_not_refer_to_what_is_kept(kind: str, value: str, refused: bool) -> None:
    """Every name that leads below the prefix is refused; all other names may be used."""
    override = {"PLAIN": value, "MINE": {"type": kind, "value": value}}
    if not refused:
        assert planned(override, prefix="/p/o")["MINE"] == override["MINE"]
        return
    with pytest.raises(PermanentError) as error:
        planned(override, prefix="/p/o")
    (mismatch,) = error.value.errors
    assert mismatch.path == "$.builderConfig.config.environmentOverride.MINE"
    assert "/p/o" in mismatch.message


@pytest.mark.parametrize("value", [5, None, ["/p/x"], {"type": "PLAINTEXT", "value": "/p/x"}])
def test_a_value_that_is_no_reference_may_be_set(value: Any) -> None:
    """A value that is no reference may be set, whatever it looks like."""
    override = {"A": value, "B": {"type": "SECRETS_MANAGER", "value": value}}
    assert planned(override, prefix="/p").keys() >= override.keys()
