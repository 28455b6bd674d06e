"""Formats runs and tenants as lines of text; `terminal.py` prints them."""

from collections.abc import Mapping
from typing import Any

#: After this many pages in a row without a match (some 10,000 items of the ledger) a list ends with
#: the cursor to continue.
MOST_EMPTY_PAGES = 25


def describe_run(run: Mapping[str, Any]) -> list[str]:
    """A run: a line for each field."""
    rows = {
        "run": f"{run['runId']}: {run['status']}",
        "type": run["eventType"],
        "tenant": run["tenantId"] or "-",
        "attempt": run["attempt"],
        "seen": run["firstSeen"],
        "steps": ", ".join(step["name"] for step in run.get("steps", ())) or "-",
        "job": _describe_job(run["job"]),
        "note": run["note"] or "-",
        "due": run["dueAt"] or "-",
        "error": run["error"]["message"] if run["error"] else "-",
    }
    return [f"{name:<8} {value}" for name, value in rows.items()]


def describe_runs(page: Mapping[str, Any], *, limit: int) -> list[str]:
    """A page of runs: a line for each of up to `limit`."""
    lines = [
        f"{run['firstSeen'][:19]}  {run['status']:<9}  {run['eventType']:<28}  "
        f"{run['tenantId'] or '-':<24}  {run['runId']}"
        for run in page["items"]
    ]
    return _describe_page(lines, page["cursor"], "runs", limit)


def describe_tenants(page: Mapping[str, Any], *, limit: int) -> list[str]:
    """A page of tenants: a line for each of up to `limit`."""
    lines = [
        f"{tenant['changedAt'][:19]}  {tenant['state'] or 'none':<18}  "
        f"{tenant['tier'] or '-':<10}  {tenant['tenantId']}"
        for tenant in page["items"]
    ]
    return _describe_page(lines, page["cursor"], "tenants", limit)


def _describe_page(lines: list[str], cursor: str | None, kind: str, limit: int) -> list[str]:
    if cursor is None:
        return lines or [f"no {kind}"]
    is_cut = len(lines) < limit
    cut = [f"stopped after {MOST_EMPTY_PAGES} pages without matching {kind}"] if is_cut else []
    return [*lines, *cut, f"more: --cursor {cursor}"]


def describe_tenant(tenant: Mapping[str, Any]) -> list[str]:
    """A tenant: its state, and its timeline, the latest first."""
    operation = tenant["operation"]
    doing = "-"
    if operation:
        job = _describe_job(operation["job"]) if operation["job"] else "no job known"
        doing = f"{operation['kind']} since {operation['openedAt'][:19]}: {job}"
    lines = [
        f"tenant     {tenant['tenantId']}: {_describe_state(tenant)}",
        f"tier       {tenant['tier'] or '-'}",
        f"operation  {doing}",
        "",
    ]
    for entry in tenant["timeline"]:
        lines.append(f"{entry['at'][:19]}  {entry['status']:<9}  {entry['eventType']}")
        lines += [f"{'':21}{entry[name]}" for name in ("reason", "link") if entry[name]]
        lines += [f"{'':21}{line}" for line in _describe_replays(entry)]
    return lines


def _describe_replays(entry: Mapping[str, Any]) -> list[str]:
    """A line for each replay among the entry's last attempts; an earlier release tells of none."""
    return [
        f"replayed {attempt['startedAt'][:19]} by {attempt['by'] or 'an operator'}"
        for attempt in entry.get("attempts", ())
        if attempt["replayed"]
    ]


def _describe_state(tenant: Mapping[str, Any]) -> str:
    if tenant["state"] is None:
        return "no operation yet"
    return f"{tenant['state']} since {tenant['changedAt'][:19]}"


def _describe_job(job: Mapping[str, Any] | None) -> str:
    if job is None:
        return "-"
    link = f"  {job['logUrl']}" if job["logUrl"] else ""
    return f"{job['builder']} {job['id']}{link}"
