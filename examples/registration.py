"""A registration: steps that are never repeated, an event for other services, the tier's job.

    ORCHESTRATOR__EXTENSION=registration:registry orchestrator serve --app-dir examples
    echo '{"tenantId": "bluebird", "email": "ada@bluebird.example", "plan": "STANDARD"}' \\
        | orchestrator send TENANT_REGISTRATION

`test_registration.py` shows how such a handler is tested.
"""

import attrs

from orchestrator import Event, HandlerRegistry, PermanentError, Run

registry = HandlerRegistry()


@attrs.frozen
class Registration:
    tenant_id: str
    email: str
    plan: str


@attrs.frozen
class Account:
    number: str


@registry.on("TENANT_REGISTRATION")
async def register(event: Event[Registration], run: Run) -> None:
    wanted = event.payload
    if "@" not in wanted.email:
        raise PermanentError(f"{wanted.email!r} is no e-mail address.")  # 422, and no retry
    account = await run.step("open account", lambda: open_account(run), returns=Account)
    await run.publish("TENANT_REGISTERED", {"email": wanted.email, "account": account.number})
    # Provisioning starts by an event of its own: the tenant's lifecycle begins with it.
    await run.publish("TENANT_PROVISIONING", {"tenantId": wanted.tenant_id, "tier": wanted.plan})


async def open_account(run: Run) -> Account:
    """A call to a billing system of yours; the step's key makes a repeated call harmless."""
    return Account(number=f"account-{run.step_key('open account')[:8]}")
