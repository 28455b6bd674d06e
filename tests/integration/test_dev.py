"""`orchestrator dev`: a tenant's whole life in it, users' handlers, and its end."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from tests import zygote
from tests.integration.commands import Ended
from tests.integration.processes import until

IN_TERMINAL = "tests.integration.in_terminal"
_PATIENCE_S = 60
#: Each starts a `dev` and some commands.
pytestmark = pytest.mark.timeout(240)
HANDLER = """
from orchestrator import HandlerRegistry

registry = HandlerRegistry()


@registry.on("GREETING")
async def greet(event, run):
    await run.step("{step}", lambda: run.tier_details("BASIC"))
"""


@attrs.define
class Dev:
    """A running `dev`, whose user has no variables but the home folder."""

    process: zygote.Child
    port: int
    home: Path
    said: list[str] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self, *arguments: str, stdin: object = None) -> Ended:
        """A command in another terminal, which has no option that names `dev`."""
        process = await zygote.start(
            "orchestrator",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(self.home),
            cwd=self.home,
        )
        out, err = await process.communicate(json.dumps(stdin).encode())
        return Ended(process.returncode, out.decode(), err.decode())

    async def ask(self, *arguments: str) -> Any:
        ended = await self.run(*arguments, "--json")
        assert ended.code == 0, ended
        return json.loads(ended.out)

    async def read_until(self, text: str) -> str:
        """The next line of its output that has the text in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line)
                if text in line:
                    return line
        raise AssertionError("".join(self.said))


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "ORCHESTRATOR_", "XDG_"))
    }
    bundle = os.environ["AWS_CA_BUNDLE"]
    return {**kept, "AWS_CA_BUNDLE": bundle, "HOME": str(home), "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def open_dev(
    home: Path, *arguments: str, ends_by: signal.Signals | Literal["Ctrl-C"]
) -> AsyncIterator[Dev]:
    """Run `dev`; at the end the signal, or Ctrl-C in a terminal, ends it with its service and its
    note."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await zygote.start(
        IN_TERMINAL if ends_by == "Ctrl-C" else "orchestrator",
        "dev",
        "--port",
        str(port),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(home),
        cwd=home,
    )
    try:
        dev = Dev(process, port, home)
        await dev.read_until("Ctrl-C")
        yield dev
        if ends_by == "Ctrl-C":
            assert process.stdin is not None
            process.stdin.write(b"\x03")
        else:
            process.send_signal(ends_by)
        assert process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            rest = (await process.stdout.read()).decode()
            code = await process.wait()
        assert code == (0 if ends_by != signal.SIGKILL else -signal.SIGKILL), rest
        assert "Traceback" not in "".join(dev.said) + rest
        if ends_by != signal.SIGKILL:
            assert "the parent process has ended" not in rest
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        assert (await dev.run("dev", "finish", "x")).err == (
            "Error: No `orchestrator dev` of yours is running: start it first.\n"
        )
    finally:
        if process.returncode is None:
            process.terminate()  # not killed: it ends its service
            assert process.stdout is not None
            await process.stdout.read()
            await process.wait()


async def test_one_send_makes_a_tenant_active(tmp_path: Path) -> None:
    """One `send` makes a tenant active; each command finds the running `dev`, those that query AWS
    use its AWS and say so, and none writes to its ledger without a request."""
    async with open_dev(tmp_path, "--build-seconds", "0.1", ends_by=signal.SIGTERM) as dev:
        sent = await dev.run(
            "send", "TENANT_PROVISIONING", stdin={"tenantId": "t-1", "tier": "BASIC"}
        )
        assert (sent.code, sent.err) == (0, "")
        await dev.read_until("The tenant t-1 is active.")
        assert "EventBridge delivered TENANT_DEPLOYMENT." in "".join(dev.said)
        assert (await dev.ask("tenant", "t-1"))["state"] == "active"

        known = {"id": "t-9", "tier": "BASIC", "state": "active"}
        assert (await dev.run("adopt", "-", stdin=known)).code == 1
        assert (await dev.run("tenant", "t-9")).code == 1

        leaving = await dev.run(
            "explain", "--type", "TENANT_DEPROVISIONING", stdin={"tenantId": "t-1"}
        )
        assert "basic-tenant-teardown" in leaving.out
        assert (
            leaving.err == f"of the running dev at {dev.url}; for other settings, pass --config\n"
        )
        checked = await dev.run("check")
        assert (checked.code, "ok   ledger" in checked.out) == (0, True), checked


async def test_finish_ends_a_build_by_hand(tmp_path: Path) -> None:
    """`dev finish` ends a build, found by a prefix of its id, as failed; a prefix of no running
    build or of several is one line and exit code 1."""
    async with open_dev(tmp_path, "--build-seconds", "9999", ends_by="Ctrl-C") as dev:
        for tenant in ("t-1", "t-2"):
            body = {"tenantId": tenant, "tier": "PREMIUM"}
            assert (await dev.run("send", "TENANT_PROVISIONING", stdin=body)).code == 0
        job = (await dev.ask("tenant", "t-1"))["operation"]["job"]["id"]
        uuid = job.partition(":")[2]
        finished = await dev.run("dev", "finish", uuid[:13], "--failed", "no more addresses")
        assert finished == Ended(0, f"{job} has ended: FAILED\n", "")
        await dev.read_until("The tenant t-1 is cleaning_up.")
        timeline = (await dev.ask("tenant", "t-1"))["timeline"]
        assert any("no more addresses" in (entry["reason"] or "") for entry in timeline)

        for named, reason in ((uuid, "No running builds"), ("premium-tenant", "2 running builds")):
            refused = await dev.run("dev", "finish", named)
            assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1), refused
            assert reason in refused.err


async def test_your_own_handler_is_loaded_and_reloaded(tmp_path: Path) -> None:
    """A change of the module restarts the service; a module that can't be imported is reported, and
    the next change restarts it again."""
    module = tmp_path / "handlers.py"
    module.write_text(HANDLER.format(step="first"))

    async def steps() -> list[str]:
        sent = await dev.run("send", "GREETING", "--json", stdin={})
        return [one["name"] for one in json.loads(sent.out)["run"]["steps"]] if sent.out else []

    async with open_dev(tmp_path, "--extension", "handlers:registry", ends_by=signal.SIGHUP) as dev:
        assert await steps() == ["first"]
        module.write_text("import nowhere\n")
        await dev.read_until("handlers.py changed: the service is started anew.")
        await dev.read_until("It is started again when a file")
        module.write_text(HANDLER.format(step="second"))
        await dev.read_until("listening")
        assert await until(steps) == ["second"]
        explained = await dev.run("explain", "--type", "GREETING", stdin={})
        assert "handlers.greet" in explained.out


async def test_a_killed_dev_leaves_no_service_behind(tmp_path: Path) -> None:
    """When `dev` is killed its service ends on its own, and its note is ignored; with `--failing 1`
    each build has failed."""
    failing = ("--failing", "1", "--build-seconds", "0.1")
    async with open_dev(tmp_path, *failing, ends_by=signal.SIGKILL) as dev:
        body = {"tenantId": "t-1", "tier": "BASIC"}
        assert (await dev.run("send", "TENANT_PROVISIONING", stdin=body)).code == 0
        await dev.read_until("has ended: FAILED")
