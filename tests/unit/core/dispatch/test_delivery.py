"""Which event a delivery is: the one that is named, one of its own, or one known by its content."""

from typing import Any

from orchestrator import Event, Handled, Run
from orchestrator.core.dispatch.orchestrator import current_delivery
from orchestrator.core.events.envelope import Delivery
from orchestrator.testing import envelope
from tests.unit.core.dispatch.counter import WINDOW_S, Counter


async def test_a_library_call_is_an_event_of_its_own(counter: Counter) -> None:
    """Equal bodies without an id are two events: a caller that means one gives an id."""
    first = await counter.deliver({"itemCount": 1})
    second = await counter.deliver({"itemCount": 1})
    assert first.run_id != second.run_id
    assert [event.id for event, _ in counter.calls] == ["id-1", "id-2"]


async def test_a_library_call_may_name_its_event(counter: Counter) -> None:
    """`event_id` makes two calls one event, and outranks the id of an envelope."""
    first = await counter.deliver({"itemCount": 1}, event_id="mine")
    assert (await counter.deliver({"itemCount": 1}, event_id="mine")).replayed is True
    assert first.run_id == counter.calls[0][0].key
    await counter.deliver(event_id="other")
    assert counter.calls[1][0].id == "other"


async def over_http(counter: Counter, how: Delivery, body: object) -> Handled:
    """Deliver as an entry point that knows more than the body."""
    token = current_delivery.set(how)
    try:
        return await counter.deliver(body)
    finally:
        current_delivery.reset(token)


async def test_the_delivery_of_the_entry_point_reaches_the_orchestrator(counter: Counter) -> None:
    """The idempotency key of a delivery works without being passed as an argument."""
    how = Delivery(event_id="key-1", same_content_same_event=True)
    first = await over_http(counter, how, envelope("ORDER", {"itemCount": 1}, event_id="a"))
    second = await over_http(counter, how, envelope("ORDER", {"itemCount": 1}, event_id="b"))
    assert second == Handled(run_id=first.run_id, replayed=True)
    assert counter.calls[0][0].id == "key-1"


async def test_an_explicit_id_outranks_the_deliverys(counter: Counter) -> None:
    """`event_id=` is what the caller itself says."""
    token = current_delivery.set(Delivery(event_id="key-1"))
    try:
        await counter.deliver({"itemCount": 1}, event_id="mine")
    finally:
        current_delivery.reset(token)
    assert counter.calls[0][0].id == "mine"


BY_CONTENT = Delivery(same_content_same_event=True)


async def test_equal_content_is_one_event_within_the_window(counter: Counter) -> None:
    """A sender that repeats what got no answer does not order twice, not even much later."""
    first = await over_http(counter, BY_CONTENT, {"itemCount": 1})
    counter.clock.turn(WINDOW_S - 1)
    second = await over_http(counter, BY_CONTENT, {"itemCount": 1})
    assert second == Handled(run_id=first.run_id, replayed=True)
    assert len(counter.calls) == 1
    other = await over_http(counter, BY_CONTENT, {"itemCount": 2})
    assert other.run_id != first.run_id


async def test_equal_content_after_the_window_is_claimed_anew(counter: Counter) -> None:
    """Attempt numbers continue, the steps are emptied, and the event is seen for the first time."""
    taken: list[int] = []

    async def act(event: Event[Any], run: Run) -> None:
        async def take() -> None:
            taken.append(run.attempt)

        await run.step("take", take)

    counter.act = act
    first = await over_http(counter, BY_CONTENT, {"itemCount": 1})
    counter.clock.turn(WINDOW_S)
    second = await over_http(counter, BY_CONTENT, {"itemCount": 1})
    assert second == Handled(run_id=first.run_id, replayed=False)
    assert taken == [1, 2]
    record = await counter.run_of(second)
    assert (record.status, record.attempt) == ("succeeded", 2)
    assert record.first_seen == counter.clock.now()
    counter.clock.turn(WINDOW_S - 1)
    assert (await over_http(counter, BY_CONTENT, {"itemCount": 1})).replayed is True


async def test_the_window_is_not_prolonged_by_redeliveries(counter: Counter) -> None:
    """It counts from when the content was first seen, not from its last repetition."""
    await over_http(counter, BY_CONTENT, {"itemCount": 1})
    counter.clock.turn(WINDOW_S - 1)
    assert (await over_http(counter, BY_CONTENT, {"itemCount": 1})).replayed is True
    counter.clock.turn(1)
    assert (await over_http(counter, BY_CONTENT, {"itemCount": 1})).replayed is False


async def test_an_id_that_was_given_holds_forever(counter: Counter) -> None:
    """An event with an id is a duplicate after any time; the window is for content alone."""
    first = await counter.deliver()
    counter.clock.turn(WINDOW_S * 1000)
    assert await counter.deliver() == Handled(run_id=first.run_id, replayed=True)


async def test_equal_content_after_the_window_starts_a_job_of_its_own(counter: Counter) -> None:
    """A new event by its content is a new start for the builder, too."""

    async def act(event: Event[Any], run: Run) -> None:
        await run.start_job("job", {})

    counter.act = act
    await over_http(counter, BY_CONTENT, {"itemCount": 1})
    counter.clock.turn(WINDOW_S)
    await over_http(counter, BY_CONTENT, {"itemCount": 1})
    assert len({started.start_key for started in counter.builder.started}) == 2


async def test_events_that_a_handler_sends_are_not_its_own_delivery(counter: Counter) -> None:
    """The Idempotency-Key of the outer event is not theirs."""

    async def act(event: Event[Any], run: Run) -> None:
        if event.payload.item_count == 1:
            for count in (2, 3):
                await counter.orchestrator.handle_event("ORDER", {"itemCount": count})

    counter.act = act
    await over_http(counter, Delivery(event_id="key-1"), {"itemCount": 1})
    assert [event.payload.item_count for event, _ in counter.calls] == [1, 2, 3]


async def test_a_delivery_is_the_same_for_each_call_of_its_way_in(counter: Counter) -> None:
    """An entry point may hand on several events in one context: a call leaves that as it was."""
    token = current_delivery.set(BY_CONTENT)
    try:
        first = await counter.deliver({"itemCount": 1})
        second = await counter.deliver({"itemCount": 1})
    finally:
        current_delivery.reset(token)
    assert second == Handled(run_id=first.run_id, replayed=True)
