"""The paths that are measured: a contestant, the event that it is sent, and what AWS must have
been asked for each."""

from collections.abc import Mapping
from typing import Any

import attrs

from benchmarks.contestants.ours import EMPTY
from benchmarks.events import NUMBER, event_body
from benchmarks.servers import BENCH_PYTHON, Contestant
from orchestrator.settings.models import Aws

Sections = Mapping[str, Mapping[str, Any]]

#: Nothing is due while a path is measured.
_NEVER_S = 86_400


@attrs.frozen(kw_only=True)
class Path:
    contestant: Contestant
    event_type: str = EMPTY
    requests: Mapping[str, int] = {}
    """What AWS is asked for each event. A path without any has no stand-in."""
    resends: bool = False
    """Each event was sent before."""
    is_ours: bool = True

    @property
    def name(self) -> str:
        return self.contestant.name

    @property
    def body(self) -> str:
        return event_body(self.event_type)

    def body_of(self, number: int) -> str:
        return self.body.replace(NUMBER, str(number))


def _serve(name: str, settings: Sections, *, workers: int = 1) -> Contestant:
    module = ["orchestrator", "serve", "--config", "CONFIG", "--port", "PORT", "--app-dir", "."]
    return Contestant(
        name=name,
        module=[*module, "--workers", str(workers)],
        settings=_toml({"operations": {"reconcile_every_s": _NEVER_S}, **settings}),
    )


def _toml(sections: Sections) -> str:
    lines = ['extension = "benchmarks.contestants.ours:extension"']
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [
            f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"'
            for name, value in values.items()
        ]
    return "\n".join(lines)


_IN_MEMORY: Sections = {"ledger": {"backend": "memory"}, "tiers": {"backend": "static"}}
_QUIET: Sections = {"log": {"level": "warning"}}
_PROVISIONING = "TENANT_PROVISIONING"
_DURABLE_REQUESTS = {"DynamoDB.TransactWriteItems": 2, "CodeBuild.StartBuild": 1}


def has_lean_transport() -> bool:
    return "transport" in attrs.fields_dict(Aws)


def durable(name: str, settings: Sections, *, workers: int = 1) -> Path:
    """Claim, tier (cached), StartBuild, settle."""
    return Path(
        contestant=_serve(name, {**_QUIET, **settings}, workers=workers),
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
        Path(contestant=_serve("empty", {**_IN_MEMORY, **_QUIET})),
        Path(contestant=_serve("info", _IN_MEMORY)),
        durable("durable", {}),
        durable("durable-lean", {"aws": {"transport": "lean"}}),
        Path(
            contestant=_serve("duplicate", _QUIET),
            event_type=_PROVISIONING,
            requests={"DynamoDB.TransactWriteItems": 1},
            resends=True,
        ),
    )
}
