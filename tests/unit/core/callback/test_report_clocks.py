"""A report is signed with a time: anew for each attempt, and by the control plane's clock."""

import pytest

from orchestrator.core.callback.webhook import WebhookAnswer
from tests.desk import Desk
from tests.unit.core.callback.reports import UNKNOWN, ended, report_sender, standing


async def test_each_attempt_is_signed_anew(desk: Desk) -> None:
    """The control plane allows 20 s of difference."""
    sender, webhook = report_sender(desk, 503, 204)
    operation_id = await ended(desk)
    await sender.send(operation_id)
    desk.turn(3600)
    await sender.send(operation_id)
    (_, first, before), (_, second, after) = webhook.posted
    assert first == second
    assert int(after["x-timestamp"]) - int(before["x-timestamp"]) == 3_600_000
    assert before["x-signature"] != after["x-signature"]


def by_clock(desk: Desk, behind_s: float, status: int = 401) -> WebhookAnswer:
    """An answer of a server whose clock is so far behind ours."""
    return WebhookAnswer(status=status, date=desk.later(-behind_s))


@pytest.mark.parametrize("behind_s", [6, 3600, -6, -86_400])
async def test_a_report_is_signed_again_by_the_control_planes_clock(
    desk: Desk, behind_s: float
) -> None:
    """A 401 is followed by a report with that clock's time, if that is more than 5 s from ours."""
    sender, webhook = report_sender(desk, by_clock(desk, behind_s), 204)
    await sender.send(await ended(desk))
    (_, first, before), (_, second, after) = webhook.posted
    assert first == second
    assert int(before["x-timestamp"]) - int(after["x-timestamp"]) == behind_s * 1000
    report = (await standing(desk))[1]
    assert (report.was_accepted, report.tries) == (True, 1)


async def test_it_is_signed_by_that_clock_once(desk: Desk) -> None:
    """A second 401 counts, and the report says by how much the clocks differ."""
    sender, webhook = report_sender(desk, by_clock(desk, 30), by_clock(desk, 30))
    await sender.send(await ended(desk))
    assert len(webhook.posted) == 2
    report = (await standing(desk))[1]
    assert report.done_at is not None
    assert "its clock is 30 s behind ours" in (report.trouble or "")


@pytest.mark.parametrize(
    ("behind_s", "status"), [(5, 401), (-5, 401), (None, 401), (3600, 403), (3600, 422)]
)
async def test_other_answers_are_no_matter_of_clocks(
    desk: Desk, behind_s: float | None, status: int
) -> None:
    """No second report follows an answer without a time, or with our time."""
    date = None if behind_s is None else desk.later(-behind_s)
    sender, webhook = report_sender(desk, WebhookAnswer(status=status, date=date))
    await sender.send(await ended(desk))
    assert len(webhook.posted) == 1


async def test_a_report_that_may_have_arrived_is_signed_again_before_a_401_counts(
    desk: Desk,
) -> None:
    """The 401 may mean that it arrived before, or that the clocks differ."""
    sender, webhook = report_sender(desk, UNKNOWN, by_clock(desk, 3600), 204)
    operation_id = await ended(desk)
    await sender.send(operation_id)
    desk.turn(5)
    await sender.send(operation_id)
    assert len(webhook.posted) == 3
    assert (await standing(desk))[1].was_accepted


async def test_a_slow_401_is_not_followed_by_a_second_post(desk: Desk) -> None:
    """Both attempts must end within the 60 s in which no other process sends the report."""
    sender, webhook = report_sender(desk, by_clock(desk, 3600))

    async def take_long() -> None:
        desk.turn(21)

    webhook.meanwhile = take_long
    await sender.send(await ended(desk))
    assert len(webhook.posted) == 1
