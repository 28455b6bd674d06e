"""For tests, yours and ours: a clock to turn, ids in order, a builder in memory, sample events,
and EventBridge's way of delivering them."""

from orchestrator.testing.builder import InMemoryBuilder, StartedJob
from orchestrator.testing.clock import LoadedDice, ManualClock, SequentialIds
from orchestrator.testing.event_bridge import (
    SHORT_LIVED_BUS,
    STANDARD_BUS,
    Delivered,
    Deliveries,
    EventBridgeSimulator,
    RetryPolicy,
    Try,
)
from orchestrator.testing.sample_events import envelope, provisioning_event

__all__ = [
    "SHORT_LIVED_BUS",
    "STANDARD_BUS",
    "Delivered",
    "Deliveries",
    "EventBridgeSimulator",
    "InMemoryBuilder",
    "LoadedDice",
    "ManualClock",
    "RetryPolicy",
    "SequentialIds",
    "StartedJob",
    "Try",
    "envelope",
    "provisioning_event",
]
