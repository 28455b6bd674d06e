"""The paths that are measured: a contestant, the event that it receives, and the requests to AWS
that it must make for each."""

from collections.abc import Mapping
from typing import Any

import attrs

from benchmarks.contestants.ours import EMPTY
from benchmarks.events import NUMBER, event_body
from benchmarks.servers import BENCH_PYTHON, Contestant
from orchestrator.settings.models import Aws

Sections = Mapping[str, Mapping[str, Any]]

#: No sweep begins while a path is measured, and no timeout expires on a busy machine.
_PATIENT: Sections = {
    "operations": {"reconcile_every_s": 86_400},
    "intake": {"deadline_s": 60},
    "aws": {"connect_timeout_s": 30, "read_timeout_s": 30},
}


@attrs.frozen(kw_only=True)
class Path:
    contestant: Contestant
    event_type: str = EMPTY
    requests: Mapping[str, int] = {}
    """The number of requests to AWS for each event, by operation; empty: there is no stand-in."""
    at_most: Mapping[str, int] = {}
    """The maximum number of further requests to AWS for each event, by operation."""
    resends: bool = False
    """Each event was sent before."""
    is_ours: bool = True
    body: str = attrs.field()

    @body.default
    def _body(self) -> str:
        return event_body(self.event_type)

    @property
    def name(self) -> str:
        return self.contestant.name

    def body_of(self, number: int) -> str:
        return self.body.replace(NUMBER, f"{number:09}")


def serve(
    name: str, settings: Sections, *, workers: int = 1, extension: str = "extension"
) -> Contestant:
    return _ours(name, settings, "serve", "--workers", str(workers), extension=extension)


def _ours(
    name: str, settings: Sections, command: str, *options: str, extension: str = "extension"
) -> Contestant:
    module = ["orchestrator", command, "--config", "CONFIG", "--port", "PORT", "--app-dir", "."]
    sections = {
        name: {**_PATIENT.get(name, {}), **settings.get(name, {})}
        for name in {*_PATIENT, *settings}
    }
    lines = [f'extension = "benchmarks.contestants.ours:{extension}"']
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [
            f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"'
            for name, value in values.items()
        ]
    return Contestant(name=name, module=[*module, *options], settings="\n".join(lines))


IN_MEMORY: Sections = {"ledger": {"backend": "memory"}, "tiers": {"backend": "static"}}
QUIET: Sections = {"log": {"level": "warning"}}
_PROVISIONING = "TENANT_PROVISIONING"
_DURABLE_REQUESTS = {"DynamoDB.TransactWriteItems": 2, "CodeBuild.StartBuild": 1}


_QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/events"


def has_lean_transport() -> bool:
    return "transport" in attrs.fields_dict(Aws)


def durable(name: str, settings: Sections, *, workers: int = 1) -> Path:
    """Claim, tier (cached), StartBuild, settle."""
    return Path(
        contestant=serve(name, {**QUIET, **settings}, workers=workers),
        event_type=_PROVISIONING,
        requests=_DURABLE_REQUESTS,
    )


PATHS = {
    path.name: path
    for path in (
        Path(
            contestant=Contestant(name="bare", module=["benchmarks.contestants.bare", "PORT"]),
            is_ours=False,
        ),
        Path(
            contestant=Contestant(
                name="fastapi",
                module=[
                    *("uvicorn", "benchmarks.contestants.fastapi_app:app", "--port", "PORT"),
                    *("--log-level", "warning", "--no-access-log"),
                ],
                python=BENCH_PYTHON,
            ),
            is_ours=False,
        ),
        Path(
            contestant=Contestant(
                name="bare-aws", module=["benchmarks.contestants.bare_aws", "PORT"]
            ),
            event_type=_PROVISIONING,
            requests={"DynamoDB.Query": 1, "CodeBuild.StartBuild": 1},
            is_ours=False,
        ),
        Path(contestant=serve("empty", {**IN_MEMORY, **QUIET})),
        Path(contestant=serve("info", IN_MEMORY)),
        durable("durable", {}),
        durable("two-workers", {}, workers=2),
        durable("durable-lean", {"aws": {"transport": "lean"}}),
        Path(
            contestant=serve("duplicate", QUIET),
            event_type=_PROVISIONING,
            requests={"DynamoDB.TransactWriteItems": 1},
            resends=True,
        ),
        Path(
            contestant=_ours("queue", {**QUIET, "intake": {"queue_url": _QUEUE}}, "worker"),
            event_type=_PROVISIONING,
            requests=_DURABLE_REQUESTS,
            at_most={
                "SQS.ReceiveMessage": 1,
                "SQS.DeleteMessageBatch": 1,
                "SQS.ChangeMessageVisibility": 1,
            },
        ),
    )
}
