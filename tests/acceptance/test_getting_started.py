"""The handler of docs/getting-started.md, run as it is there."""

import re
from pathlib import Path
from typing import Any

from tests.acceptance.answers import read_problem, read_run, read_success
from tests.conftest import StartService

PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"


async def test_the_first_handler_invites(start_service: StartService) -> None:
    """The handler handles a fitting body once, and refuses any other with its sentence."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "handlers"}
    exec(snippet, names)  # noqa: S102 - our own page
    service = await start_service(extension=names["extension"])
    path = "/events/TENANT_INVITED"
    invitation = {"email": "ada@bluebird.example"}
    for _ in range(2):
        run = await read_run(service, await read_success(await service.post(path, json=invitation)))
        assert (run["status"], run["attempt"]) == ("succeeded", 1)
        assert run["note"] == "invited ada@bluebird.example"
        assert [step["name"] for step in run["steps"]] == ["send"]
    refused = await read_problem(await service.post(path, json={"email": "ada"}), 422)
    assert refused["detail"] == "'ada' is no address."
    misfit = await read_problem(await service.post(path, json={}), 422)
    assert misfit["errors"] == [{"path": "$.email", "message": "is required"}]
