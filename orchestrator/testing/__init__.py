"""Public test kit: a manual clock, sequential ids, a builder and a bus in memory, sample events, an
EventBridge simulator. The modules `plugin` (fixtures) and `builder_contract` (the test suite for
builders) need pytest.
"""

from orchestrator.testing.builder import InMemoryBuilder, StartedJob
from orchestrator.testing.clock import LoadedDice, ManualClock, SequentialIds
from orchestrator.testing.event_bridge import (
    SHORT_LIVED_BUS,
    STANDARD_BUS,
    Delivered,
    Deliveries,
    EventBridgeSimulator,
    HttpClient,
    RetryPolicy,
    Try,
    TurnableClock,
)
from orchestrator.testing.publisher import InMemoryPublisher
from orchestrator.testing.sample_events import envelope, provisioning_event

__all__ = [
    "SHORT_LIVED_BUS",
    "STANDARD_BUS",
    "Delivered",
    "Deliveries",
    "EventBridgeSimulator",
    "HttpClient",
    "InMemoryBuilder",
    "InMemoryPublisher",
    "LoadedDice",
    "ManualClock",
    "RetryPolicy",
    "SequentialIds",
    "StartedJob",
    "Try",
    "TurnableClock",
    "envelope",
    "provisioning_event",
]
