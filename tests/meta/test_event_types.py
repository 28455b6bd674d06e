"""One list of event types: no row lacks a handler or an example, none of these lacks a row.

A new type is one row of `core.events.event_types`, one handler in `core.handlers.builtin` and one
example in `intake.examples`; what is left out fails here.
"""

from collections import Counter

import pytest

from orchestrator.core.events.event_types import (
    AWS_ALIASES,
    EVENT_TYPES,
    JOB_ATTRIBUTES,
    RECONCILE,
    Ending,
    EventType,
    Kind,
    outcome_type,
)
from orchestrator.core.events.payloads import TenantOutcome, TenantRequest
from orchestrator.core.handlers.builtin import built_in_handlers
from orchestrator.core.secrets.redaction import SECRET_NAMES, Redactor
from orchestrator.intake.examples import EXAMPLES
from orchestrator.wire.converter import JsonConverter

NAMES = [row.name for row in EVENT_TYPES]
each_row = pytest.mark.parametrize("row", EVENT_TYPES, ids=NAMES)


def test_each_type_has_one_row() -> None:
    """Two rows could say different things."""
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


def test_each_row_has_a_handler_and_each_handler_a_row() -> None:
    """What opens or ends something is handled, and nothing is handled that is not in the list."""
    assert set(built_in_handlers().by_type) == set(NAMES)


def test_each_row_has_an_example_and_each_example_a_row() -> None:
    """The OpenAPI document shows a body of every type."""
    assert set(EXAMPLES) == set(NAMES)


@each_row
def test_a_handler_takes_the_model_that_fits_its_row(row: EventType) -> None:
    """What opens an operation is a request, and what ends one is an outcome."""
    model = built_in_handlers().by_type[row.name].payload
    if row.opens:
        assert issubclass(model, TenantRequest)
    elif row.ends:
        assert model is TenantOutcome
    else:
        assert model is None


@each_row
def test_an_example_is_read_by_its_handlers_model(row: EventType) -> None:
    """An example that is sent as it is shown is a valid event."""
    model = built_in_handlers().by_type[row.name].payload
    read = JsonConverter(Redactor(SECRET_NAMES)).structure(EXAMPLES[row.name], model)
    assert model is None or isinstance(read, model)


@each_row
def test_a_row_opens_or_ends_an_operation_but_not_both(row: EventType) -> None:
    """Only what opens an operation has a job."""
    assert not (row.opens and row.ends)
    assert bool(row.job_attributes) == bool(row.opens)


def test_each_kind_is_opened_by_one_type_and_ended_by_two() -> None:
    """Otherwise an operation could not begin, or never end."""
    assert [row.opens for row in EVENT_TYPES if row.opens] == list(JOB_ATTRIBUTES)
    assert set(JOB_ATTRIBUTES) == set(Kind)
    ends = Counter(row.ends for row in EVENT_TYPES if row.ends)
    assert ends == Counter(Ending(kind, done) for kind in Kind for done in (True, False))
    for row in EVENT_TYPES:
        if row.ends:
            assert outcome_type(row.ends.kind, succeeded=row.ends.succeeded) == row.name


def test_an_alias_leads_to_a_row_or_to_a_sweep() -> None:
    """A foreign name for a type that is not in the list would never be handled."""
    assert set(AWS_ALIASES.values()) <= {*NAMES, RECONCILE}
