"""Runs and tenants as lines of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.cli.layout import (
    Row,
    fields,
    short_id,
    show_duration,
    show_time,
    table,
    wrap,
)

#: After this many pages in a row without a match (some 10,000 items of the ledger) a list ends with
#: the cursor to continue.
MOST_EMPTY_PAGES = 25

#: The states of operations that have neither succeeded nor failed.
_HOW = {"open": "open", "over": "over", "given_back": "never began"}

Shown = Mapping[str, Any]


def describe_runs(page: Shown, *, limit: int, width: int | None) -> list[str]:
    """A page of up to `limit` runs, each with its reason below."""
    rows = [
        Row(
            {
                "RUN": short_id(run["runId"]),
                "STATUS": run["status"],
                "FIRST SEEN": show_time(run["firstSeen"]),
                "TYPE": run["eventType"],
                "TENANT": run["tenantId"] or "-",
            },
            [reason] if (reason := _reason(run)) and _is_notable(run) else [],
        )
        for run in page["items"]
    ]
    lines = table(rows, width=width, narrow=("TENANT", "TYPE"))
    return _describe_page(lines, len(rows), page["cursor"], "runs", limit)


def describe_tenants(page: Shown, *, limit: int, width: int | None) -> list[str]:
    """A page of up to `limit` tenants, each with its reason below."""
    rows = [
        Row(
            {
                "TENANT": tenant["tenantId"],
                "STATE": _mark(tenant),
                "SINCE": show_time(tenant["changedAt"]),
                "TIER": tenant["tier"] or "-",
                "WAITING": str(tenant["waitingCount"] or "-"),
            },
            [tenant["reason"]] if tenant["reason"] else [],
        )
        for tenant in page["items"]
    ]
    lines = table(rows, width=width, narrow=("TENANT", "TIER"))
    return _describe_page(lines, len(rows), page["cursor"], "tenants", limit)


def _describe_page(
    lines: list[str], count: int, cursor: str | None, kind: str, limit: int
) -> list[str]:
    if cursor is None:
        return lines or [f"no {kind}"]
    is_cut = count < limit
    cut = [f"stopped after {MOST_EMPTY_PAGES} pages without matching {kind}"] if is_cut else []
    return [*lines, *cut, f"more: --cursor {cursor}"]


def _mark(tenant: Shown) -> str:
    state = tenant["state"] or "none"
    return f"{state}, slow" if tenant["isSlow"] else state


def describe_run(run: Shown, *, width: int | None) -> list[str]:
    """A run: its fields, its steps, its attempts and its waits between them."""
    job, error = run["job"], run["error"]
    known = {
        "run": run["runId"],
        "status": _status(run),
        "type": run["eventType"],
        "tenant": run["tenantId"],
        "source": run["source"],
        "event id": run["eventId"],
        "first seen": show_time(run["firstSeen"]),
        "operation": run["operationId"],
        "ends": _if(run["outcomeOf"], "the operation {}"),
        "handled by": _if(run["duplicateOf"], "the run {}"),
        "waits for": _awaited(run["waitsFor"]),
        "resumed at": show_time(run["dueAt"]) if run["dueAt"] else None,
        "job": _job(job),
        "log": job and job["logUrl"],
        "reason": _reason(run),
    }
    lines = fields(known, width=width)
    mismatches = error["errors"] if error else []
    for mismatch in mismatches:
        lines += wrap(f"{mismatch['path']} {mismatch['message']}", width=width, margin=4)
    return [
        *lines,
        *_section("STEPS", _steps(run["steps"], width)),
        *_section("ATTEMPTS", _attempts(run["attempts"], width)),
        *_section("WAITED", _waits(run["waits"], width)),
    ]


def describe_tenant(tenant: Shown, *, width: int | None = None) -> list[str]:
    """A tenant: its state, its operations with their starts, and its timeline, each the latest
    first. A link is shown once."""
    operation = tenant["operation"]
    known = {
        "tenant": tenant["tenantId"],
        "state": _state(tenant),
        "tier": tenant["tier"],
        "operation": operation and _under_way(operation),
        "deadline": operation and operation["deadlineAt"] and show_time(operation["deadlineAt"]),
        "waiting": _waiting(tenant["waiting"]),
        "reason": tenant["reason"],
    }
    links = Links()
    operations = [
        line for one in tenant["operations"] for line in _operation(one, links, width=width)
    ]
    timeline = table([_entry(one, links) for one in tenant["timeline"]], width=width)
    older = {
        "older operations": _if(tenant["operationsCursor"], "--operations-cursor {}"),
        "older events": _if(tenant["cursor"], "--cursor {}"),
    }
    return [
        *fields(known, width=width),
        *_section("OPERATIONS", operations),
        *_section("TIMELINE", timeline),
        *_section("", fields(older, width=None)),
    ]


class Links:
    """The links that were shown."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def once(self, link: str | None) -> str | None:
        """The link; None if it was shown before."""
        if link is None or link in self._shown:
            return None
        self._shown.add(link)
        return link


def _section(title: str, lines: Sequence[str]) -> list[str]:
    """Lines below a title, or none."""
    return ["", *([title] if title else []), *lines] if lines else []


def _status(run: Shown) -> str:
    count = run["attempt"]
    return f"{run['status']}, attempt {count}" if count > 1 else run["status"]


def _reason(run: Shown) -> str | None:
    """Why it failed or waits, or its result."""
    reason: str | None = run["error"]["message"] if run["error"] else run["note"]
    return reason


def _is_notable(run: Shown) -> bool:
    """Whether its reason says more than that it did its work."""
    return run["status"] != "succeeded" or run["outcomeOf"] is not None


def _state(tenant: Shown) -> str:
    if tenant["state"] is None:
        return f"none: no operation yet, asked for at {show_time(tenant['changedAt'])}"
    return f"{_mark(tenant)} since {show_time(tenant['changedAt'])}"


def _under_way(operation: Shown) -> str:
    job = _job(operation["job"]) or "no job yet"
    return f"{operation['kind']} since {show_time(operation['openedAt'])}, {job}"


def _waiting(run_ids: Sequence[str]) -> str | None:
    if not run_ids:
        return None
    named = ", ".join(map(short_id, run_ids[:5]))
    return f"{len(run_ids)} runs: {named}{', …' if len(run_ids) > 5 else ''}"


def _awaited(awaited: Shown | None) -> str | None:
    if awaited is None:
        return None
    named = [
        _if(awaited["operationId"], "the operation {}"),
        _if(awaited["runId"], "the run {}"),
    ]
    return ", ".join(one for one in named if one)


def _job(job: Shown | None) -> str | None:
    return f"{job['builder']} {job['id']}" if job else None


def _if(value: str | None, text: str) -> str | None:
    return None if value is None else text.format(value)


def _by(who: str | None, did: str) -> str:
    return f"{did} by {who}" if who else did


def _replayer(attempt: Shown) -> str | None:
    return (attempt["by"] or "an operator") if attempt["replayed"] else None


def _replayed(attempt: Shown) -> str:
    return f"replayed by {_replayer(attempt)} at {show_time(attempt['startedAt'])}"


def _steps(steps: Sequence[Shown], width: int | None) -> list[str]:
    rows = [
        Row(
            {
                "STARTED": show_time(step["startedAt"]),
                "ENDED": show_time(step["recordedAt"]),
                "STEP": step["name"],
            }
        )
        for step in steps
    ]
    return table(rows, width=width, narrow=("STEP",), margin=2)


def _attempts(attempts: Sequence[Shown], width: int | None) -> list[str]:
    rows = [
        Row(
            {
                "NUMBER": str(attempt["number"]),
                "STARTED": show_time(attempt["startedAt"]),
                "ENDED": show_time(attempt["endedAt"]),
                "HOW": attempt["how"],
                "REPLAYED BY": _replayer(attempt) or "-",
            },
            [attempt["reason"]] if attempt["reason"] else [],
        )
        for attempt in attempts
    ]
    return table(rows, width=width, narrow=("REPLAYED BY",), margin=2)


def _waits(waits: Sequence[Shown], width: int | None) -> list[str]:
    rows = [
        Row(
            {
                "WHY": wait["kind"],
                "TIMES": str(wait["count"]),
                "TOGETHER": show_duration(wait["seconds"]),
            }
        )
        for wait in waits
    ]
    return table(rows, width=width, margin=2)


def _operation(operation: Shown, links: Links, *, width: int | None) -> list[str]:
    """An operation: a line, and those of its starts, the latest first, and of its report."""
    heading = f"{operation['kind'] or 'run'} {operation['operationId']}"
    lines = wrap(heading, width=width, margin=2)
    for start in reversed(operation["starts"]):
        link = links.once(start["job"] and start["job"]["logUrl"])
        lines += fields({**_start(start), "log": link}, width=width, margin=4)
    if operation["report"]:
        lines += fields({"report": _report(operation["report"])}, width=width, margin=4)
    return lines


def _start(start: Shown) -> dict[str, object]:
    span = f"{show_time(start['openedAt'])} to {show_time(start['endedAt'])}"
    if start["endedAt"] is None:
        span = f"since {show_time(start['openedAt'])}"
    details = [
        {True: "succeeded", False: "failed", None: _HOW[start["state"]]}[start["succeeded"]],
        span,
        *([_by(start["by"], "replayed")] if start["by"] else []),
        *([_by(start["cancelledBy"], "cancelled")] if start["cancelledBy"] else []),
    ]
    return {
        f"start {start['number']}": ", ".join(details),
        "run": short_id(start["runId"]),
        "job": _job(start["job"]),
        "reason": start["reason"],
    }


def _report(report: Shown) -> str:
    count = report["count"]
    attempts = f"{count} attempt{'' if count == 1 else 's'}"
    last = report["tries"][-1]["answer"] if report["tries"] else None
    answered = f", the last answer was {last}" if last else ""
    if report["doneAt"] is None:
        due = f", the next at {show_time(report['nextAt'])}" if report["nextAt"] else ""
        return f"not delivered yet, {attempts}{answered}{due}"
    how = f"given up: {report['trouble']}" if report["trouble"] else "delivered"
    return f"{how} at {show_time(report['doneAt'])}, {attempts}"


def _entry(entry: Shown, links: Links) -> Row:
    replays = [attempt for attempt in entry["attempts"] if attempt["replayed"]]
    link = links.once(entry["link"])
    details = [
        *([entry["reason"]] if entry["reason"] else []),
        *(f"attempt {one['number']}: {_replayed(one)}" for one in replays),
        *([_by(entry["cancelledBy"], "cancelled")] if entry["cancelledBy"] else []),
        *([link] if link else []),
    ]
    cells = {
        "RUN": short_id(entry["runId"]),
        "STATUS": entry["status"],
        "FIRST SEEN": show_time(entry["at"]),
        "TYPE": entry["eventType"],
    }
    return Row(cells, details)
