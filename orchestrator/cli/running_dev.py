"""A running `orchestrator dev`, for the other commands: its note, and requests to it.

`dev` writes the note when it starts and removes it when it ends. It is a file of the user's own, in
`$XDG_RUNTIME_DIR`, else `$XDG_CACHE_HOME`, else `~/.cache` (XDG Base Directory Specification). Only
commands of an operator at a terminal read it: `serve`, `worker` and the Lambda function never do.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import attrs
import msgspec

from orchestrator.settings import child_environment, chooses_settings

#: Variables that name another AWS than that of `dev`: then the commands leave `dev` alone.
_CHOOSES_AWS = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


@attrs.frozen(kw_only=True)
class RunningDev:
    """A running `dev`: its process, its service, and what its service was started with."""

    pid: int
    url: str
    config: str
    app_dir: str | None
    queue_url: str
    environment: Mapping[str, str]


class BuildNotFinishedError(Exception):
    """The build that was to be ended doesn't run."""


@contextmanager
def noted(dev: RunningDev, environ: Mapping[str, str]) -> Iterator[None]:
    """Keep the note of a running `dev`; the one that started last is found."""
    path = _place(environ)
    with suppress(OSError):  # without a folder of the user's own, the commands need --url
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{dev.pid}")
        fresh.touch(mode=0o600)
        fresh.write_bytes(msgspec.json.encode(dev))
        fresh.replace(path)
    try:
        yield
    finally:
        found = _read(path)
        if found is not None and found.pid == dev.pid:
            path.unlink(missing_ok=True)


def find_running_dev(environ: Mapping[str, str]) -> RunningDev | None:
    """This user's running `dev`; None if there is none."""
    found = _read(_place(environ))
    return found if found is not None and _runs(found.pid) else None


def find_dev_to_ask(environ: Mapping[str, str]) -> RunningDev | None:
    """The running `dev`, for a command that would otherwise load settings and call AWS itself.

    None if the environment has settings of the service, or credentials, a profile or an endpoint of
    AWS: then the command is meant for those.
    """
    if chooses_settings(environ) or any(name in environ for name in _CHOOSES_AWS):
        return None
    return find_running_dev(environ)


async def finish_build(dev: RunningDev, job: str, *, failed: str | None) -> str:
    """End a running build of a `dev`, named by its id or by the beginning of it; returns its id.

    Raises:
        BuildNotFinishedError: no such build, or several, or `dev` doesn't answer.
    """
    url = dev.environment["AWS_ENDPOINT_URL_CODEBUILD"]
    request = {"id": job, "status": "SUCCEEDED" if failed is None else "FAILED", "reason": failed}
    headers = {"X-Amz-Target": "CodeBuild_20161006.FinishBuild"}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/", json=request, headers=headers) as answer,
        ):
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BuildNotFinishedError(
            f"The CodeBuild of dev at {url} doesn't answer: {error}."
        ) from None
    if answer.status != 200:
        raise BuildNotFinishedError(body["message"])
    finished: str = body["build"]["id"]
    return finished


def variables_of(dev: RunningDev) -> list[str]:
    """A shell's commands that set the variables of a `dev`, for programs that don't find it
    automatically."""
    variables = {
        **{name: child_environment(dev.environment)[name] for name in dev.environment},
        "ORCHESTRATOR_CONFIG": dev.config,
        "ORCHESTRATOR_INTAKE__QUEUE_URL": dev.queue_url,
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _place(environ: Mapping[str, str]) -> Path:
    folder = environ.get("XDG_RUNTIME_DIR") or environ.get("XDG_CACHE_HOME")
    home = environ.get("HOME", "/nonexistent")
    return Path(folder or Path(home, ".cache")) / "saas-orchestrator" / "dev.json"


def _read(path: Path) -> RunningDev | None:
    """The note; None if there is none, or one that another user may have written."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                return None
            return msgspec.json.decode(file.read(), type=RunningDev)
    except (OSError, msgspec.DecodeError):
        return None


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
