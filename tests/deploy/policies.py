"""The rights of policies, compared with what the adapters call.

`orchestrator check` prints the latter, by the adapters' own lists;
`tests/integration/test_check.py` tests that these are the actual calls.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from orchestrator import load_settings
from orchestrator.cli.check import check_setup

#: An action on a resource.
Right = tuple[str, str]


def rights(statements: Iterable[Mapping[str, Any]]) -> set[Right]:
    """The rights that the statements allow."""
    found = set()
    for statement in statements:
        assert statement["Effect"] == "Allow"
        actions, resources = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            for resource in [resources] if isinstance(resources, str) else resources:
                found.add((action, resource))
    return found


def is_same(one: Right, other: Right) -> bool:
    """The same action, on resources that include the other's."""
    patterns = [(one[1], other[1]), (other[1], one[1])]
    return one[0] == other[0] and any(fnmatchcase(name, pattern) for name, pattern in patterns)


def differences(granted: set[Right], called: set[Right]) -> dict[str, list[Right]]:
    """The rights that are granted and not used, and those that are needed and not granted."""
    return {
        "not called": sorted(one for one in granted if not any(is_same(one, c) for c in called)),
        "not granted": sorted(one for one in called if not any(is_same(one, g) for g in granted)),
    }


async def called_by(environment: Mapping[str, str]) -> set[Right]:
    """The rights that a service with these variables needs, as `orchestrator check` prints them."""
    settings = load_settings("production.toml", environ=environment)
    return rights((await check_setup(settings)).policy["Statement"])
