"""`orchestrator check`: the resources in use, whether each is reachable, the least IAM policy."""

from collections.abc import Sequence
from typing import Any

import attrs

from orchestrator.cli.layout import wrap
from orchestrator.composition import Ports
from orchestrator.core.checkable import Checkable, Permission, ReadableBy
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.handlers.services import Services
from orchestrator.core.urls import shown_url
from orchestrator.parts import Parts
from orchestrator.settings import Settings


@attrs.frozen(kw_only=True)
class Finding:
    """One resource: its address, why it can't be reached (`trouble`; None if it can), a warning."""

    name: str
    uses: str
    trouble: str | None = None
    warning: str | None = None
    permissions: tuple[Permission, ...] = ()


@attrs.frozen
class Checkup:
    """All findings."""

    findings: Sequence[Finding]

    @property
    def healthy(self) -> bool:
        return all(finding.trouble is None for finding in self.findings)

    @property
    def policy(self) -> dict[str, Any]:
        """The least IAM policy of the service's role."""
        statements = [
            {"Effect": "Allow", "Action": list(p.actions), "Resource": p.resource}
            for finding in self.findings
            for p in finding.permissions
        ]
        return {"Version": "2012-10-17", "Statement": statements}

    def as_lines(self, *, width: int | None = None) -> list[str]:
        """The findings as lines of text."""
        lines = []
        margin = max((len(finding.name) for finding in self.findings), default=0) + 7
        for finding in self.findings:
            mark = "FAIL" if finding.trouble else "warn" if finding.warning else "ok"
            heading = f"{mark:<4} {finding.name}"
            lines += wrap(finding.uses, width=width, margin=margin, heading=heading)
            for said in (finding.trouble, finding.warning):
                if said:
                    lines += wrap(said, width=width, margin=margin)
        return lines

    def as_json(self) -> dict[str, Any]:
        findings = [
            {"name": f.name, "uses": f.uses, "trouble": f.trouble, "warning": f.warning}
            for f in self.findings
        ]
        return {"healthy": self.healthy, "findings": findings, "policy": self.policy}


async def check_setup(settings: Settings) -> Checkup:
    """Check that each resource exists, without writing or starting anything.

    Raises:
        RegistrationError: the extension can't be used.
    """
    parts = Parts.choose(settings, None)
    async with parts.open_ports() as ports:
        ends = _ends(ports)
        found = [await _ask(*end) for end in ends]
        kept = [await _secrets(ports.services), *await _own_credentials(settings, ports)]
        return Checkup([_front(settings), _handlers(parts), *found, *kept, _callback(settings)])


def _ends(ports: Ports) -> list[tuple[str, object]]:
    services = ports.services
    tiers = getattr(services.tiers, "catalog", services.tiers)
    builders = [(f"builder {name}", builder) for name, builder in services.builders.items()]
    return [
        ("ledger", services.transactions.ledger),
        ("tiers", tiers),
        *builders,
        ("events.bus", services.publisher),
        *([] if ports.inbox is None else [("queue", ports.inbox)]),
    ]


async def _ask(name: str, end: object) -> Finding:
    if not isinstance(end, Checkable):
        return Finding(name=name, uses=f"{type(end).__name__}, without a check")
    known = Finding(name=name, uses=end.description, permissions=end.permissions)
    try:
        await end.check()
    except OrchestratorError as error:
        return attrs.evolve(known, trouble=str(error))
    return known


def _front(settings: Settings) -> Finding:
    address = f"{settings.http.host}:{settings.http.port}"
    methods = settings.auth.methods
    who = f"authenticated by {', '.join(methods)}" if methods else "open: no authentication"
    return Finding(name="http", uses=f"{address}, {who}, environment {settings.environment}")


def _callback(settings: Settings) -> Finding:
    """The webhook for reports; not called, since the control plane would count that as a report."""
    callback = settings.callback
    where = shown_url(callback.url) if callback.url else "the tier's API_ENDPOINT, if it has one"
    return Finding(
        name="callback",
        uses=f"{where}, after the {callback.after}",
        warning=settings.callback_trouble,
    )


async def _own_credentials(settings: Settings, ports: Ports) -> list[Finding]:
    """Whether each credential that is a reference exists. Its value is never shown."""
    findings = []
    for value in (*settings.auth.secrets, settings.builders.jenkins.token):
        permission = ports.credentials.permission(value)
        if permission is None:
            continue
        finding = Finding(name="credential", uses=value, permissions=(permission,))
        try:
            await ports.credentials.resolve(value)
        except OrchestratorError as error:
            finding = attrs.evolve(finding, trouble=str(error))
        findings.append(finding)
    return findings


async def _secrets(services: Services) -> Finding:
    """Where secret variables of jobs are stored, and what the jobs' roles need."""
    if services.secret_references is None:
        return Finding(
            name="secrets",
            uses="passed on in plain text",
            warning="secrets.store is empty, so anyone who can view a build can read its secret "
            "variables. With secretsmanager or ssm each build's role must be allowed to read them",
        )
    store = services.secret_references.store
    found = await _ask("secrets", store)
    if not isinstance(store, ReadableBy):
        return found
    warning = f"each build's role needs {store.reader_action} on {store.resource}"
    return attrs.evolve(found, warning=warning)


def _handlers(parts: Parts) -> Finding:
    own = [registration.event_type for registration in parts.extension.registry.by_type.values()]
    listed = f"; yours: {', '.join(sorted(own))}" if own else ""
    return Finding(name="handlers", uses=f"{len(parts.registry.by_type)} event types{listed}")
