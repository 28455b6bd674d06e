"""The requests that look-ups after lost answers cost on CodeBuild.

`SOAK=20` looks up the starts of 400 and of 800 runs, on pages as long as CodeBuild's.
"""

import asyncio
import os
from collections import Counter

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Intake
from orchestrator.testing import ManualClock, provisioning_event
from tests.conftest import Client, StartService

IN_LARGE = int(os.environ.get("SOAK", "1")) > 1
RUNS = (400, 800) if IN_LARGE else (60, 120)
PAGE = 100 if IN_LARGE else 10
#: How many events are sent at once: fewer than the service takes (http.max_concurrency).
AT_ONCE = 50

LISTING = {"ListBuilds", "ListBuildsForProject", "BatchGetBuilds"}


async def lose(service: Client, codebuild: CodeBuildStandIn, runs: int) -> None:
    """Send so many requests, each of which loses the answer to its start."""
    for first in range(0, runs, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, runs))
        events = [
            provisioning_event(tenant_id=f"t-{number}", event_id=f"event-{number}")
            for number in numbers
        ]
        answers = await asyncio.gather(*(service.post("/events", json=one) for one in events))
        assert {answer.status for answer in answers} == {503}


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("is_made", [True, False])
async def test_look_ups_of_one_sweep_share_their_listings(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    is_made: bool,
    runs: int,
) -> None:
    """Look-ups cost fewer than two requests for each run, whether the builds were made or not, and
    in the end each run has one build."""
    settings = attrs.evolve(settings, intake=Intake(deadline_s=600))
    service = await start_service(settings)
    codebuild.page_size, codebuild.clock = PAGE, lambda: clock.now().timestamp()
    fault = Fault.answer_lost if is_made else Fault.reset
    codebuild.inject("StartBuild", *[fault() for _ in range(2 * runs)])
    await lose(service, codebuild, runs)
    made = len(codebuild.builds)  # some starts fail on a connection that was closed before
    assert made > runs / 2 if is_made else made == 0
    codebuild.faults.clear()  # the SDK no longer retries
    codebuild.calls.clear()
    for _ in range(3):  # several, since look-ups may fail on such connections, too
        clock.turn(400)
        await service.post("/events/RECONCILE", json={})
    asked = Counter(action for action, _ in codebuild.calls)
    assert sum(asked[action] for action in LISTING) < 2 * runs
    assert asked["StartBuild"] == runs - made
    tokens = [build.parameters["idempotencyToken"] for build in codebuild.builds.values()]
    assert len(set(tokens)) == len(tokens) == runs
