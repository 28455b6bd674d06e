"""The commands without effects, `explain` and `check`, in this process, and a secret that they must
hide."""

import asyncio
from collections.abc import Mapping

from orchestrator.settings import child_environment
from tests import zygote

SECRET = "s3cr3t"


async def run(
    *arguments: str, stdin: bytes = b"", environment: Mapping[str, str]
) -> tuple[int | None, str, str]:
    """Run `orchestrator`; returns its exit code, standard output and standard error."""
    process = await zygote.start(
        "orchestrator",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(environment),
    )
    out, err = await process.communicate(stdin)
    return process.returncode, out.decode(), err.decode()
