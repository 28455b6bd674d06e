"""Commands in child processes: what they print, and how they fail."""

import asyncio

import attrs

from orchestrator.settings import child_environment
from tests import zygote

PATIENCE_S = 30


@attrs.frozen
class Ended:
    """A command that has exited: its exit code and its output."""

    code: int | None
    out: str
    err: str


async def run(*arguments: str, stdin: str = "", **environment: str) -> Ended:
    """Run `orchestrator` with arguments, standard input, and variables over this process's own."""
    process = await zygote.start(
        "orchestrator",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({"COLUMNS": "100", **environment}),
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, out.decode(), err.decode())


def assert_one_line(ended: Ended, code: int, named: str) -> None:
    """A failure is one line on standard error, without a traceback."""
    assert (ended.code, ended.out) == (code, ""), ended
    assert ended.err.count("\n") == 1, ended.err
    assert "Traceback" not in ended.err
    assert named in ended.err
