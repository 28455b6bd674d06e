"""Decides the names of the secrets that are stored for a start, and when they are removed.

Plain functions of a snapshot. Names are reserved before anything is stored, so that after a crash
the ledger still has each of them. A name whose removal has begun is never used again, since a store
may keep it for days (Secrets Manager user guide, Delete a secret): the start's next batch has other
names.
"""

from collections.abc import Mapping, Sequence

import attrs

from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import start_key
from orchestrator.core.ledger.guards import Timings, is_due, is_mine, is_needed
from orchestrator.core.ledger.records import RunRecord, SecretsRecord
from orchestrator.core.ledger.settle import Fenced
from orchestrator.core.ledger.snapshot import Decision, Snapshot

#: The pause (seconds) between two checks whether a start needs its secrets, or two removals.
_PAUSE_S = 60.0


@attrs.frozen
class OtherStore:
    """A store of another kind has secrets of the start; nothing was written."""

    kind: str


def reserve_names(
    snapshot: Snapshot,
    run_id: str,
    attempt: int,
    kind: str,
    prefix: str,
    random: str,
    variables: Sequence[str],
) -> Decision[Mapping[str, str] | Fenced | OtherStore]:
    """The names under which the run's start may store its variables, by variable.

    A new name contains `random`, so that no sender of events can name another tenant's secret. An
    attempt reuses the names of earlier ones, since a repeated start must have the same references.
    All are in one store, since they are removed together. Each attempt renews `noted_at`, since its
    job may take as long as the first.
    """
    run = snapshot.run(run_id)
    if run is None or not is_mine(run, attempt):
        return Decision((), Fenced())
    key = start_key(run.operation_id, run.start_number)
    kept = snapshot.secrets(key, expect_absent=True) or _nothing_kept(snapshot, run, key, kind)
    if kept.names and kept.kind != kind:
        return Decision((), OtherStore(kept.kind))
    batch = kept.batch + 1 if kept.is_closed else kept.batch
    noted_before = {_within_start(name, prefix, key): name for name in kept.names}
    own = {variable: f"{key}/{batch}/{variable}" for variable in variables}
    names = {
        variable: noted_before.get(name, f"{prefix}/{random}/{name}")
        for variable, name in own.items()
    }
    added = [name for name in names.values() if name not in kept.names]
    noted = evolve(
        kept,
        kind=kind,
        batch=batch,
        names=(*kept.names, *added),
        is_closed=False,
        noted_at=snapshot.now,
        due_at=snapshot.later(_PAUSE_S),
    )
    return Decision((noted,), names)


def begin_removal(snapshot: Snapshot, key: str, timings: Timings) -> Decision[SecretsRecord | None]:
    """The start's secrets if they are to be removed now; None: still needed, or being removed."""
    kept = snapshot.secrets(key)
    if kept is None or not is_due(kept, snapshot.now):
        return Decision((), None)
    due_at = snapshot.later(_PAUSE_S)
    operation, run = snapshot.operation(kept.operation_id), snapshot.run(kept.run_id)
    if is_needed(kept, operation, run, snapshot.now, timings):
        return Decision((evolve(kept, due_at=due_at),), None)
    closed = evolve(kept, is_closed=True, due_at=due_at)
    return Decision((closed,), closed)


def end_removal(snapshot: Snapshot, removed: SecretsRecord) -> Decision[None]:
    """Record that they are removed; a batch that was begun meanwhile stays."""
    kept = snapshot.secrets(removed.start_key)
    if kept is None:
        return Decision((), None)
    left = tuple(name for name in kept.names if name not in removed.names)
    return Decision((evolve(kept, names=left, due_at=kept.due_at if left else None),), None)


def _within_start(name: str, prefix: str, key: str) -> str | None:
    """The part of a name from the start key on: in an earlier release it followed the prefix."""
    place = name.find(f"/{key}/") if name.startswith(f"{prefix}/") else -1
    return None if place < 0 else name[place + 1 :]


def _nothing_kept(snapshot: Snapshot, run: RunRecord, key: str, kind: str) -> SecretsRecord:
    return SecretsRecord(
        start_key=key,
        kind=kind,
        noted_at=snapshot.now,
        operation_id=run.operation_id,
        start_number=run.start_number,
        run_id=run.run_id,
    )
