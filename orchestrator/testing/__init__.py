"""Public test kit: a manual clock, sequential ids, an in-memory builder, sample events, and an
EventBridge simulator."""

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
