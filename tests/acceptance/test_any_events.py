"""Random whole events: each has an answer, and leaves no tenant or run that waits without end.

`SOAK=20` sends 20 times as many.
"""

import copy
import json
import os
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, RunRecord, TenantRecord
from orchestrator.embedded import Build, CodeBuildStandIn
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.stories import with_full_tier
from tests.conftest import Client, StartService
from tests.unit.core.events.shapes import sample
from tests.wrapped import put_events_entry, sns_notification, sqs_record

_SEEDS = range(6)
_EVENTS = 80 * int(os.environ.get("SOAK", "1"))
_TENANTS = ("t-1", "t-2", "t-3")
_LONGEST_PAUSE_S = 301
_ANSWERS = {200, 400, 413, 415, 422, 503}
#: Names of tiers, in the catalog and not.
_TIERS = ("FULL", "GOLD", "", None)

#: Values that replace any value, or are added under an unexpected name.
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    " ",
    "\x00",
    "\ud800",
    "ü" * 600,
    "x" * 5000,
    [],
    {},
    [[[]]],
    {"a": {"b": [1]}},
    "[" * 600 + "]" * 600,
    '{"a":' * 300 + "1" + "}" * 300,
    '{"secret": "s3cret", "more": "',
    '{"n": 1e400}',
    '{"id": "t-2"}',
    "{}",
    "2096-01-01T00:00:00Z",
    "not a time",
    {"type": "SECRETS_MANAGER", "value": "orchestrator/x"},
    {"type": "X", "data": {}},
)
#: Names of fields that the service reads.
NAMES = (
    "tenant tenantId TENANT_ID tier plan planConfig subscription context secret operationId "
    "ORCHESTRATOR_RUN_ID CODEBUILD_BUILD_ID endedJob resources appPlaneUrl builderConfig id time "
    "source detail detail-type data type reason exportedVariables logUrl tenantRegistrationId"
).split()


@attrs.frozen
class Senders:
    """All kinds of senders, whose choices come from one random generator."""

    chance: random.Random
    codebuild: CodeBuildStandIn

    def event(self) -> Any:
        make = self.chance.choice(
            [self.request] * 4 + [self.outcome] * 3 + [self.state_change] * 2 + [self.sample]
        )
        event = make()
        for _ in range(self.chance.choice([0, 0, 1, 1, 2, 3])):
            event = self.spoilt(event)
        wraps: list[Callable[[Any], Any]] = [*[_as_it_is] * 12, sqs_record, _noted]
        wrap = self.chance.choice(wraps)
        return wrap(event)

    def request(self) -> Any:
        tenant_id = self.chance.choice(_TENANTS)
        kind = self.chance.choice(["PROVISIONING", "PROVISIONING", "DEPROVISIONING", "DEPLOYMENT"])
        event_id = f"e-{self.chance.randrange(1000)}"
        override = {"secret": "s" * 32, "context": f"c-{self.chance.randrange(5)}"}
        event = provisioning_event(
            tenant_id=tenant_id,
            tier=str(self.chance.choice(_TIERS)),
            event_id=event_id,
            override=override if self.chance.random() < 0.5 else {},
        )
        event["detail-type"] = f"TENANT_{kind}"
        if self.chance.random() < 0.2:
            return put_events_entry(event["detail-type"], event["detail"])
        return event

    def outcome(self) -> Any:
        kind = self.chance.choice(["PROVISIONING", "DEPROVISIONING", "DEPLOYMENT", "CLEAN_UP"])
        how = self.chance.choice(["SUCCESS", "FAILURE"])
        self_report: dict[str, Any] = {"tenantId": self.chance.choice(_TENANTS)}
        if (build := self.build()) and self.chance.random() < 0.7:
            self_report |= {one["name"]: one["value"] for one in build.overrides}
            self_report["CODEBUILD_BUILD_ID"] = build.id
        return envelope(
            f"TENANT_{kind}_{how}", self_report, event_id=f"o-{self.chance.randrange(1000)}"
        )

    def state_change(self) -> Any:
        build = self.build()
        if build is None:
            return sample("codebuild_build_state_change")
        return envelope("CodeBuild Build State Change", build.as_state_change())

    def sample(self) -> Any:
        names = ["build_self_report", "scheduler_default", "tenant_provisioning"]
        return sample(self.chance.choice(names))

    def build(self) -> Build | None:
        builds = list(self.codebuild.builds.values())
        return self.chance.choice(builds) if builds else None

    def spoilt(self, event: Any) -> Any:
        """The event with one value replaced, removed or added anywhere."""
        spoilt = copy.deepcopy(event)
        places = [place for place in _places(spoilt) if place]
        if not places:
            return self.chance.choice(ODD)
        place = self.chance.choice(places)
        if isinstance(place, list):
            place[self.chance.randrange(len(place))] = self.chance.choice(ODD)
        elif self.chance.random() < 0.25:
            del place[self.chance.choice(list(place))]
        else:
            name = self.chance.choice([*place, self.chance.choice(NAMES)])
            place[name] = self.chance.choice(ODD)
        return spoilt


def _places(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [place for one in inner for place in _places(one)]
    return [value, *found] if isinstance(value, dict | list) else found


def _as_it_is(event: Any) -> Any:
    return event


def _noted(event: Any) -> Any:
    return sns_notification(json.dumps(event))


@pytest.mark.parametrize("seed", _SEEDS)
async def test_any_event_has_an_answer_and_an_end(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    seed: int,
) -> None:
    """No event causes a 500 or a traceback; once all jobs are over nothing is due, and no tenant is
    held."""
    ledger = InMemoryLedger()
    service = await start_service(with_full_tier(settings), ledger=ledger)
    senders = Senders(random.Random(seed), codebuild)  # noqa: S311 - no secret
    for number in range(_EVENTS):
        event = senders.event()
        status = await post(service, event)
        assert status in _ANSWERS, (number, event)
        if senders.chance.random() < 0.2 and (build := senders.build()):
            codebuild.finish(build.id, senders.chance.choice(["SUCCEEDED", "FAILED", "STOPPED"]))
        if senders.chance.random() < 0.1:
            clock.turn(senders.chance.choice([5, 20, 65]))
            await sweep(service)
        held_for_nothing = [
            one.tenant_id for one in kept(ledger, TenantRecord) if is_stuck(one, ledger)
        ]
        assert not held_for_nothing, (number, event)
    # Requests that wait for one tenant are begun one after another.
    for _ in range(60 + _EVENTS // 8):
        for build in list(codebuild.builds.values()):
            codebuild.finish(build.id, "SUCCEEDED")
        clock.turn(_LONGEST_PAUSE_S)
        await sweep(service)
    assert [run for run in kept(ledger, RunRecord) if not run.status.is_finished] == []
    assert [one for one in kept(ledger, TenantRecord) if one.operation_id] == []
    assert "Traceback" not in capsys.readouterr().out


async def post(service: Client, event: Any) -> int:
    text = json.dumps(event)
    headers = {"Content-Type": "application/json"}
    return (await service.post("/events", data=text.encode(), headers=headers)).status


async def sweep(service: Client) -> None:
    assert (await service.post("/events/RECONCILE", json={})).status == 200


def kept(ledger: InMemoryLedger, kind: type[Any]) -> list[Any]:
    return [one for one in ledger._items.values() if isinstance(one, kind)]


def is_stuck(tenant: TenantRecord, ledger: InMemoryLedger) -> bool:
    """The tenant is held by an operation that no due item will resume."""
    if tenant.operation_id is None:
        return False
    operations = {one.operation_id: one for one in kept(ledger, OperationRecord)}
    runs = {one.run_id: one for one in kept(ledger, RunRecord)}
    held_by = operations.get(tenant.operation_id)
    if held_by is None or held_by.state is not OperationState.OPEN:
        return True
    workers = [runs.get(held_by.opener), runs.get(held_by.outcome or "")]
    is_worked_on = any(run is not None and run.due_at is not None for run in workers)
    return held_by.due_at is None and not is_worked_on
