"""What became of an event that was sent, or of a run that was replayed, in sentences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.cli.layout import fields, short_id, show_time, wrap
from orchestrator.core.errors import InvalidPayload

if TYPE_CHECKING:
    from orchestrator.cli.client import Reply

#: What a run's status says after "it".
_IT = {
    "succeeded": "succeeded",
    "failed": "failed",
    "running": "is still running",
    "queued": "is queued",
    "retry": "will be resumed",
    "duplicate": "was handled by another run",
}


def describe_sent(sent: "Reply", event_type: str, *, width: int | None) -> list[str]:
    """What became of an event."""
    if "Idempotent-Replayed" in sent.headers:
        return _describe(sent, event_type, "handled by an earlier delivery", width)
    return _describe(sent, event_type, "accepted" if sent.status == 202 else "handled", width)


def describe_replayed(sent: "Reply", run_id: str, *, width: int | None) -> list[str]:
    """What became of a replay."""
    what, run = f"The run {run_id}", sent.run
    if not sent.succeeded and run and run["error"] and run["error"]["message"] == sent.detail:
        lines = wrap(f"{what} was replayed, and failed: {sent.detail}", width=width)
        return lines + _about(run, width)
    return _describe(sent, what, "replayed", width)


def describe_end(
    run: Mapping[str, Any], operation: Mapping[str, Any] | None, *, width: int | None
) -> list[str]:
    """How an operation ended; without one, its run."""
    if operation is None or run["status"] == "failed":
        said = f"The run {short_id(run['runId'])} {_IT.get(run['status'], run['status'])}"
        reason = run["error"]["message"] if run["error"] else None
        return wrap(f"{said}: {reason}" if reason else f"{said}.", width=width)
    did = "succeeded" if operation["succeeded"] else "failed"
    what = f"The {operation['kind'] or 'job'} {did} at {show_time(operation['endedAt'])}"
    reason = operation["reason"]
    return wrap(f"{what}: {reason}" if reason else f"{what}.", width=width)


def _describe(sent: "Reply", what: str, done: str, width: int | None) -> list[str]:
    run = sent.run
    if sent.succeeded:
        lines = [f"{what} was {done}{f': {_run(run)}' if run else ''}."]
    elif run and run["status"] in ("retry", "running", "queued"):
        due = f" at {show_time(run['dueAt'])}" if run["dueAt"] else ""
        lines = [
            *wrap(f"{what} is not {done} yet ({sent.status}): {sent.detail}", width=width),
            f"The service resumes the run {short_id(run['runId'])}{due}.",
        ]
    else:
        lines = wrap(f"{what} was not {done} ({sent.status}): {sent.detail}", width=width)
        if run and run["status"] == "failed":
            lines += wrap(_way_out(run), width=width)
        elif "Retry-After" in sent.headers:
            lines += [f"Nothing is recorded: try again in {sent.headers['Retry-After']} s."]
    return lines + (_about(run, width) if run else [])


def _way_out(run: Mapping[str, Any]) -> str:
    """What to do about a failed run."""
    named = short_id(run["runId"])
    if run["error"] and run["error"]["type"] == InvalidPayload.__name__:
        return (
            f"A replay of its run {named} has the same body: send a corrected event with a new id, "
            "or replay it once the handler's model accepts this one."
        )
    return f"Its run {named} failed: replay that once the cause is fixed."


def _run(run: Mapping[str, Any]) -> str:
    return f"the run {short_id(run['runId'])} {_IT.get(run['status'], run['status'])}"


def _about(run: Mapping[str, Any], width: int | None) -> list[str]:
    job = run["job"]
    known = {
        "tenant": run["tenantId"],
        "job": f"{job['builder']} {job['id']}" if job else None,
        "log": job and job["logUrl"],
        "note": None if job or run["status"] != "succeeded" else run["note"],
    }
    return fields(known, width=width, margin=2)
