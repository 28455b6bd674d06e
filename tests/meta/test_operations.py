"""docs/operations.md names only what exists: commands, settings, routes, alarms, parameters."""

import ast
import re
from pathlib import Path

import attrs
import click
import pytest

from orchestrator import Settings, create_app
from orchestrator.cli.main import commands
from orchestrator.settings import LedgerSettings, Tiers
from tests.deploy.templates import ECS, LAMBDA, Stack

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SECTIONS = {field.name for field in attrs.fields(Settings)}
SETTINGS = {
    f"{section.name}.{key.name}"
    for section in attrs.fields(Settings)
    if section.type is not None and attrs.has(section.type)
    for key in attrs.fields(section.type)
}
#: The words of Logs Insights (CloudWatch Logs user guide, query syntax).
LANGUAGE = {
    *("filter", "stats", "sort", "and", "like", "by"),
    *("count", "sum", "max", "bin", "event", "timestamp"),
}


def test_commands_and_their_options_exist() -> None:
    """Each `orchestrator NAME`, in the text and in consoles, is a command with its options."""
    consoles = "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL))
    lines = re.findall(r"^orchestrator [^#\n]+", consoles, re.MULTILINE)
    spoken = re.findall(r"`(orchestrator [a-z][^`]*)`", PAGE)
    assert lines
    assert spoken
    for line in (*lines, *spoken):
        command = commands.commands[line.split()[1]]
        options = {
            option
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        assert set(re.findall(r"--[\w-]+", line)) <= options, line


def test_settings_exist() -> None:
    """Each `section.key` whose section is one of the settings is a setting."""
    named = re.findall(r"`(\w+)\.(\w+)`", PAGE)
    settings = [(section, key) for section, key in named if section in SECTIONS]
    assert len(settings) > 3
    assert {f"{section}.{key}" for section, key in settings} <= SETTINGS


def test_routes_exist() -> None:
    """Each method and path that the page names is a route."""
    app = create_app(
        Settings(ledger=LedgerSettings(backend="memory"), tiers=Tiers(backend="static"))
    )
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None
    }
    named = set(re.findall(r"`((?:GET|POST) /[^`]*)`", PAGE))
    assert named
    assert named <= routes


HEADINGS = {
    re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
}


def test_alarms_are_those_of_the_templates() -> None:
    """Each alarm has its row, and each row leads to a heading."""
    found = {
        name
        for template in (ECS, LAMBDA)
        for name, resource in Stack(template).body["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    rows = re.findall(r"^\| `(\w+Alarm)` \| .* \| \[.*\]\(#([\w-]+)\) \|$", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == found
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= HEADINGS


def test_each_alert_of_prometheus_leads_to_what_to_do() -> None:
    """Each alert leads to a heading, and each heading of an alarm is that of an alert."""
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    linked = set(re.findall(r"docs/operations\.md#([\w-]+)", alerts))
    assert linked
    assert linked == {heading for heading in HEADINGS if heading.startswith("alarm-")}


def test_parameters_and_outputs_exist() -> None:
    """Each `Name=value` is a parameter of the template on ECS, and all required ones are there."""
    declared = Stack(ECS).body["Parameters"]
    console = re.search(r"aws cloudformation deploy.*?```", PAGE, re.DOTALL)
    assert console is not None
    given = set(re.findall(r"\b([A-Z]\w+)=", console[0]))
    assert given <= set(declared)
    assert {name for name, one in declared.items() if "Default" not in one} <= given
    for name, value in re.findall(r"`([A-Z]\w+)=([\w-]+)`", PAGE):
        allowed = declared[name].get("AllowedValues", [value])
        assert value in allowed
    for name in re.findall(
        r"`((?:Min|Max|Operator|Oldest|Active|Secret|Image|Restored)(?!\w*Alarm)[A-Z]\w+)`", PAGE
    ):
        assert name in declared


def test_outputs_exist() -> None:
    """Each `$Name` in mixed case is an output of the template on ECS, and each output is named."""
    assert set(re.findall(r"\$([A-Z]\w*[a-z]\w*)", PAGE)) == set(Stack(ECS).body["Outputs"])


def test_files_exist() -> None:
    """Each path of the repository and each link on the page exists."""
    for path in re.findall(r"`((?:deploy|docs|orchestrator)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((?!#|http)([^)#]+)", PAGE):
        assert (ROOT / "docs" / path).exists(), path


@pytest.fixture(scope="module")
def syntax() -> list[ast.AST]:
    """Every node of the package's modules."""
    files = (ROOT / "orchestrator").rglob("*.py")
    return [node for file in files for node in ast.walk(ast.parse(file.read_text()))]


@pytest.fixture(scope="module")
def texts(syntax: list[ast.AST]) -> set[str]:
    constants = (node.value for node in syntax if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


@pytest.fixture(scope="module")
def names(syntax: list[ast.AST], texts: set[str]) -> set[str]:
    return texts | {node.arg for node in syntax if isinstance(node, ast.keyword) and node.arg}


@pytest.mark.parametrize("query", re.findall(r"\| `(filter [^`]+)` \|", PAGE))
def test_queries_name_what_is_logged(query: str, texts: set[str], names: set[str]) -> None:
    """Events and fields of the service's own log lines."""
    logged = texts | {"request refused", "message refused"}
    for event in re.findall(r'event = "([^"]+)"', query):
        assert event in logged, event
    if alternatives := re.search(r"event like /(.+?) \((.+?)\)/", query):
        for end in re.split(r"\\?\|", alternatives[2]):
            assert f"{alternatives[1]} {end}" in logged
    words = set(re.findall(r"[a-z]\w*", re.sub(r'"[^"]*"|/[^/]*/|5m', "", query)))
    assert words - LANGUAGE <= names
