"""Large ledgers: copies of the items that one event has written, each copy with its own ids."""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import attrs

from benchmarks.measure import next_number, send
from benchmarks.paths import Path
from benchmarks.servers import StandIn, started
from orchestrator.adapters.ledger_indexes import SHARDS
from orchestrator.core.ledger.records import run_key

_BATCH = 2000
_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

#: Texts of the original, each with a function that returns its replacement in a copy, by number.
Names = Mapping[str, Callable[[int], str]]


@attrs.frozen(kw_only=True)
class Original:
    """One event's items, by the first part of their keys, and its build."""

    items: Mapping[str, str]
    builds: Sequence[str]
    run: Mapping[str, Any]
    operation: Mapping[str, Any] | None

    @classmethod
    def of(cls, path: Path, aws: StandIn) -> "Original":
        """The items that a server writes for one event of a path; then the stand-in is emptied."""
        aws.ask("Forget")
        with started(path.contestant, aws_port=aws.port) as server:
            send(server, path, aws, first=next_number(), count=1)
        items = {item["key"]["S"].partition("#")[0]: item for item in aws.ask("Items")["items"]}
        builds = [json.dumps(build) for build in aws.ask("Builds")["builds"]]
        aws.ask("Forget")
        operation = items.get("OP")
        return cls(
            items={kind: json.dumps(item) for kind, item in items.items()},
            builds=builds,
            run=json.loads(items["RUN"]["data"]["S"]),
            operation=operation and json.loads(operation["data"]["S"]),
        )

    @property
    def names(self) -> Names:
        """Ids of run, operation, tenant and build, which are different in each copy."""
        found = {
            self.run["run_id"]: lambda number: f"{number:040x}",
            self.run["tenant_id"]: copied_tenant,
        }
        if self.operation is not None:
            found[self.operation["operation_id"]] = lambda number: f"{number + (1 << 80):040x}"
            build = self.operation["job"]["id"].partition(":")[2]
            found[build] = lambda number: f"00000000-0000-4000-8000-{number:012x}"
        return found

    @property
    def spread(self) -> Names:
        """Each copy's run began a second after the one before."""
        began = self.run["started_at"].rstrip("Z")
        return {began: lambda number: _moment(_FIRST_DAY + timedelta(seconds=number))}

    @property
    def due(self) -> Names:
        """The job of each copy is due."""
        assert self.operation is not None
        return {self.operation["due_at"].rstrip("Z"): lambda _: _moment(_FIRST_DAY)}


def copied_run(number: int) -> str:
    return f"{number:040x}"


def copied_tenant(number: int) -> str:
    return f"tenant-copied-{number:09}"


def _moment(moment: datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}"


def put_copies(
    aws: StandIn, original: Original, names: Names, *, kinds: Sequence[str], count: int
) -> None:
    """Put `count` copies of these kinds of items into the stand-in, each with its build."""
    for kind in kinds:
        items = map(in_its_shard, _copies(original.items[kind], names, count))
        while batch := list(islice(items, _BATCH)):
            aws.ask("PutItems", items=batch)
    if "JOB" in kinds:
        builds = [one for text in original.builds for one in _copies(text, names, count)]
        aws.ask("PutBuilds", builds=builds)


def _copies(text: str, names: Names, count: int) -> Iterator[dict[str, Any]]:
    pattern = re.compile("|".join(map(re.escape, names)))
    parts, found = pattern.split(text), [names[one] for one in pattern.findall(text)]
    for number in range(count):
        filled = [part + name(number) for part, name in zip(parts, found, strict=False)]
        yield json.loads("".join([*filled, parts[-1]]))


def in_its_shard(item: dict[str, Any]) -> dict[str, Any]:
    """An item with the shards of its key."""
    shard = SHARDS[zlib.crc32(item["key"]["S"].encode()) % len(SHARDS)]
    if item.get("due_shard", {}).get("S") in SHARDS:
        item["due_shard"] = {"S": shard}
    if item["key"]["S"].startswith(run_key("")):
        for name in ("list", "status", "event_type"):
            item[name] = {"S": f"{item[name]['S'].rpartition('#')[0]}#{shard}"}
    return item
