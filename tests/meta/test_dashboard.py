"""Alert rules and the Grafana dashboard under `deploy/`: well formed, and true to what the
service measures.

A query is read far enough to find the metrics, the labels and the values that it names, so that a
renamed metric or outcome can't leave an alert that never fires.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.core.dispatch.handling import OUTCOMES
from orchestrator.core.events.event_types import Kind
from orchestrator.core.metrics import CATALOG, MetricType

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = [one for one in DASHBOARD["panels"] if one["type"] != "row"]

#: The labels of each series, by its name; a histogram has three.
SERIES = {
    f"{metric.name}{suffix}": {*metric.labels, *(("le",) if suffix == "_bucket" else ())}
    for metric in CATALOG
    for suffix in (("_bucket", "_count", "_sum") if metric.type is MetricType.HISTOGRAM else ("",))
}
#: The values of labels that the code has a list of.
VALUES = {
    ("orchestrator_events_total", "outcome"): OUTCOMES,
    ("orchestrator_operation_duration_seconds_count", "kind"): set(Kind),
    ("orchestrator_operation_duration_seconds_count", "result"): {
        "succeeded",
        "failed",
        "given_back",
    },
    ("orchestrator_reports_total", "result"): {"accepted", "given_up", "retry"},
    ("orchestrator_tier_cache_total", "result"): {"hit", "miss"},
    ("orchestrator_aws_requests_total", "result"): {
        "ok",
        "conflict",
        "throttled",
        "refused",
        "failed",
        "unreachable",
    },
}
FUNCTIONS = {
    "absent",
    "count",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "rate",
    "sum",
    "time",
    "vector",
}
WORDS = {"and", "or", "by"}

_NAME = re.compile(r"[a-zA-Z_]\w*")
_SELECTOR = re.compile(r"(orchestrator_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"by \(([^)]*)\) \(((?:[^()]|\([^()]*\)|\((?:[^()]|\([^()]*\))*\))*)\)")
_DURATION = re.compile(r"\d+(?:ms|[smhdwy])")


def queries() -> Iterator[tuple[str, str]]:
    """Each query, with where it stands."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


QUERIES = list(queries())


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_a_query_names_only_what_is_measured(where: str, query: str) -> None:
    """Metrics and labels of the catalog, values that they can have, functions of PromQL."""
    assert query.count("(") == query.count(")")
    selected = _SELECTOR.findall(query)
    assert selected
    for name, matchers in selected:
        assert name in SERIES, name
        for label, operator, value in _MATCHER.findall(matchers):
            assert label in SERIES[name], (name, label)
            values = value.split("|") if "~" in operator else [value]
            known = VALUES.get((name, label))
            assert known is None or value.startswith("$") or set(values) <= set(known), value
    for labels, inside in _GROUPED.findall(query):
        (name, *_) = (found for found, _ in _SELECTOR.findall(inside))
        assert {label.strip() for label in labels.split(",")} <= SERIES[name], query
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"|by \([^)]*\)', "", query)
    bare = re.sub(r"label_values\((\w+), \w+\)", r"label_values(\1)", bare)
    names = {name for name in _NAME.findall(bare) if not name.startswith("orchestrator_")}
    assert names <= FUNCTIONS | WORDS, names


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_sentence_and_a_section(rule: dict[str, Any]) -> None:
    """How long it must hold, one sentence, and the section that says what to do."""
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Orchestrator[A-Z]\w+", rule["alert"])
    assert _DURATION.fullmatch(rule["for"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    words = re.findall(r"[A-Z][a-z]+", rule["alert"].removeprefix("Orchestrator"))
    anchor = "-".join(word.lower() for word in words)
    assert notes["runbook_url"] == f"docs/operations.md#alarm-{anchor}"
    labels = set(re.findall(r"\$labels\.(\w+)", " ".join(notes.values())))
    grouped = {
        one.strip()
        for found in re.findall(r"by \(([^)]*)\)", rule["expr"])
        for one in found.split(",")
    }
    assert labels <= grouped


def test_alerts_have_names_of_their_own() -> None:
    """There is one group, and no name twice in it."""
    assert [group["name"] for group in RULES["groups"]] == ["orchestrator"]
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)


def test_each_metric_is_shown_or_alerted_on() -> None:
    """A metric that is neither need not be measured."""
    text = " ".join(query for _, query in QUERIES)
    assert [metric.name for metric in CATALOG if metric.name not in text] == []


def test_the_dashboard_can_be_imported() -> None:
    """Panels have ids of their own and don't overlap, and name the data source by its variable."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert all(panel["title"] and panel["targets"] for panel in PANELS)
