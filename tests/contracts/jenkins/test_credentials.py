"""Credentials for Jenkins: an API token, or a password with a crumb."""

import pytest

from orchestrator.adapters.jenkins.builder import JenkinsBuilder, open_jenkins
from orchestrator.core.errors import TemporaryError
from orchestrator.embedded import Fault
from tests.contracts.jenkins.scene import BUILD_PATH, JOB, Safe, posts, start
from tests.jenkins.stand_in import PASSWORD, USER, JenkinsStandIn


async def test_an_api_token_needs_no_crumb(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """With an API token no crumb is requested."""
    await builder.check()
    await start(builder)
    assert not any("crumb" in path for _, path, _ in jenkins.requests)


async def test_a_password_needs_a_crumb_and_its_session(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, safe: Safe
) -> None:
    """One is fetched for the first start and kept, also after sessions have expired."""
    safe.token = PASSWORD
    crumbs = "/crumbIssuer/api/json"
    await start(builder, "op-1")
    await start(builder, "op-2")
    assert [path for _, path, _ in jenkins.requests].count(crumbs) == 1
    assert posts(jenkins) == [BUILD_PATH] * 3
    jenkins.expire_sessions()
    await start(builder, "op-3")
    assert [path for _, path, _ in jenkins.requests].count(crumbs) == 2
    assert posts(jenkins) == [BUILD_PATH] * 5
    assert len(jenkins.items) == 3
    await builder.stop_job(job_id=f"{JOB}#1:op-1")
    assert jenkins.items[1].cancelled


async def test_a_crumb_is_requested_at_most_twice(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, safe: Safe
) -> None:
    """One repetition, then it is an error that says what to use instead."""
    safe.token = PASSWORD
    refusal = Fault.error("", "HTTP ERROR 403 No valid crumb was included", http_status=403)
    jenkins.inject("buildWithParameters", refusal, refusal)
    with pytest.raises(TemporaryError, match="use an API token") as caught:
        await start(builder)
    assert caught.value.nothing_done
    jenkins.inject("crumbIssuer/api/json", Fault.error("", http_status=404))
    jenkins.expire_sessions()
    with pytest.raises(TemporaryError, match="issues none: use an API token") as caught:
        await start(builder)
    assert caught.value.nothing_done


async def test_a_missing_permission_is_not_taken_for_a_missing_crumb(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A page that mentions breadcrumbs, as Jenkins' pages do, is no sign of a missing crumb."""
    page = '<div id="breadcrumbs">orchestrator is missing the Job/Build permission</div>'
    jenkins.inject("buildWithParameters", Fault.error("", page, http_status=403))
    with pytest.raises(TemporaryError, match="403 Forbidden: the user may not") as caught:
        await start(builder)
    assert caught.value.nothing_done
    assert posts(jenkins) == [BUILD_PATH]


async def test_a_rotated_token_is_used(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, safe: Safe
) -> None:
    """A new token is used from the next request on, without a restart."""
    await builder.check()
    jenkins.token = "a new token"
    with pytest.raises(TemporaryError, match="401 Unauthorized: user and token are refused"):
        await builder.check()
    safe.token = "a new token"
    await builder.check()
    await start(builder)


async def test_a_token_that_can_not_be_had_has_started_nothing(jenkins: JenkinsStandIn) -> None:
    """The error of the token's store is raised, with that certainty."""

    async def out_of_order() -> str:
        raise TemporaryError("The safe is out of order.")

    async with open_jenkins(
        url=jenkins.url,
        user=USER,
        token=out_of_order,
        name="JENKINS",
        connect_timeout_s=5,
        timeout_s=5,
    ) as builder:
        with pytest.raises(TemporaryError, match="safe is out of order") as caught:
            await start(builder)
    assert caught.value.nothing_done
