"""The digest of an event's body, which distinguishes two bodies under one key."""

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.core.events.event import Event
from orchestrator.core.identifiers import digest

BODY: dict[str, Any] = {"tenantId": "t-1", "n": 1, "list": [1.5, None], "note": "Grüße \u2603"}


def event(body: dict[str, Any], *, ends_start: str | None = None) -> Event[Any]:
    return Event(
        type="ORDER",
        source="shop",
        id="event-1",
        time=datetime(2026, 11, 20, 8, 30, tzinfo=UTC),
        body=body,
        raw=body,
        payload=body,
        ends_start=ends_start,
    )


def test_the_order_of_names_does_not_matter() -> None:
    """Two deliveries that differ in the order of their names have the same body."""
    assert event(BODY).has_body_of(event(dict(reversed(BODY.items()))).body_digest)


@pytest.mark.parametrize(
    "other", [{}, BODY | {"n": 1.0}, BODY | {"n": "1"}, BODY | {"more": None}, BODY | {"list": []}]
)
def test_another_body_is_another(other: dict[str, Any]) -> None:
    """Any difference counts, whichever release has stored the digest."""
    assert not event(BODY).has_body_of(event(other).body_digest)
    assert not event(BODY).has_body_of(digest(other))


def test_the_digest_of_an_earlier_release_is_known() -> None:
    """An event that was stored before an upgrade and is delivered again after it is a duplicate."""
    assert event(BODY).has_body_of(digest(BODY))


@pytest.mark.parametrize("odd", ["half a pair: \ud83d", 2**70])
def test_any_json_has_a_digest(odd: Any) -> None:
    """A lone surrogate and an integer of more than 64 bits have a digest, too."""
    body = BODY | {"odd": odd}
    assert event(body).has_body_of(event(dict(reversed(body.items()))).body_digest)
    assert not event(body).has_body_of(event(BODY).body_digest)


def test_an_outcome_of_our_own_has_the_digest_of_what_it_ends() -> None:
    """The digest is of the start that it ends, whatever else is known of the end."""
    ended = event(BODY, ends_start="op-1-1")
    assert ended.has_body_of(event({}, ends_start="op-1-1").body_digest)
    assert not ended.has_body_of(event(BODY, ends_start="op-1-2").body_digest)
    assert ended.body_digest == digest("op-1-1")
