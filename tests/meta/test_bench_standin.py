"""The AWS that the benchmark measures with takes no condition for granted."""

from typing import Any

import pytest

from benchmarks.standin.codebuild import CodeBuild
from benchmarks.standin.conditions import holds
from benchmarks.standin.dynamodb import DynamoDB, Table
from benchmarks.standin.refusal import Refused

ABSENT = {
    "ConditionExpression": "attribute_not_exists(#key)",
    "ExpressionAttributeNames": {"#key": "key"},
}
AT_VERSION_1 = {
    "ConditionExpression": "#version = :version",
    "ExpressionAttributeNames": {"#version": "version"},
    "ExpressionAttributeValues": {":version": {"N": "1"}},
}


@pytest.fixture
def dynamodb() -> DynamoDB:
    """DynamoDB with an empty table that has an index of what is due."""
    return DynamoDB({"ledger": Table("key", {"due": ("due_shard", "due_at")})})


def item(key: str, *, version: int = 1, due_at: str | None = None) -> dict[str, Any]:
    due = {} if due_at is None else {"due_shard": {"S": "0"}, "due_at": {"S": due_at}}
    return {"key": {"S": key}, "version": {"N": str(version)}, **due}


def put(item: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
    returned = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return {"Put": {"TableName": "ledger", "Item": item, **condition, **returned}}


def transact(dynamodb: DynamoDB, *actions: dict[str, Any], token: str | None = None) -> None:
    request = {"TransactItems": list(actions), "ClientRequestToken": token}
    dynamodb.perform("TransactWriteItems", request)


def stored(dynamodb: DynamoDB, *keys: str) -> list[Any]:
    asked = {"ledger": {"Keys": [{"key": {"S": key}} for key in keys]}}
    answer = dynamodb.perform("BatchGetItem", {"RequestItems": asked})
    found: list[Any] = answer["Responses"]["ledger"]
    return found


def due(dynamodb: DynamoDB, **further: Any) -> list[str]:
    """The keys of what is due before "3"."""
    request = {
        "TableName": "ledger",
        "IndexName": "due",
        "KeyConditionExpression": "#partition = :partition AND #sort < :bound",
        "ExpressionAttributeNames": {"#partition": "due_shard", "#sort": "due_at"},
        "ExpressionAttributeValues": {":partition": {"S": "0"}, ":bound": {"S": "3"}},
        **further,
    }
    return [one["key"]["S"] for one in dynamodb.perform("Query", request)["Items"]]


def test_conditions_are_evaluated() -> None:
    """An item is at a version or absent, and a condition says so of it alone."""
    assert holds(ABSENT, None)
    assert not holds(ABSENT, item("a"))
    assert holds(AT_VERSION_1, item("a"))
    assert not holds(AT_VERSION_1, item("a", version=2))
    assert not holds(AT_VERSION_1, None)


def test_an_unknown_condition_is_refused() -> None:
    """What the stand-in can't evaluate is an error, not a condition that holds."""
    with pytest.raises(Refused, match="size"):
        holds({"ConditionExpression": "size(#key) > :one"}, item("a"))


def test_a_transaction_is_written_whole_or_not_at_all(dynamodb: DynamoDB) -> None:
    """One condition that fails cancels all, and the answer has the item that stands there."""
    transact(dynamodb, put(item("a"), ABSENT))
    with pytest.raises(Refused) as refused:
        transact(dynamodb, put(item("b"), ABSENT), put(item("a"), ABSENT))
    reasons = refused.value.document["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    assert reasons[1]["Item"] == item("a")
    assert stored(dynamodb, "a", "b") == [item("a")]


def test_a_transaction_with_a_token_is_written_once(dynamodb: DynamoDB) -> None:
    """The same request with its token again succeeds, another one with that token doesn't."""
    for _ in range(2):
        transact(dynamodb, put(item("a"), ABSENT), token="one")
    with pytest.raises(Refused, match="IdempotentParameterMismatch"):
        transact(dynamodb, put(item("b"), ABSENT), token="one")


def test_an_index_has_what_is_due_now(dynamodb: DynamoDB) -> None:
    """Items come sorted, page by page, and leave the index when they are due no longer."""
    for key, due_at in (("a", "2"), ("b", "1"), ("c", "3"), ("d", "1")):
        transact(dynamodb, put(item(key, due_at=due_at), ABSENT))
    assert due(dynamodb) == ["b", "d", "a"]
    assert due(dynamodb, ScanIndexForward=False, Limit=2) == ["a", "d"]
    start = {"due_shard": {"S": "0"}, "due_at": {"S": "1"}, "key": {"S": "b"}}
    assert due(dynamodb, ExclusiveStartKey=start, Limit=1) == ["d"]
    transact(dynamodb, put(item("b", version=2), AT_VERSION_1))
    assert due(dynamodb) == ["d", "a"]


def test_a_start_with_a_token_is_one_build() -> None:
    """The same start again is answered with its build; other parameters are refused."""
    codebuild = CodeBuild()
    request = {"projectName": "project", "idempotencyToken": "one"}
    first = codebuild.perform("StartBuild", request)
    assert codebuild.perform("StartBuild", request) == first
    assert len(codebuild.builds) == 1
    with pytest.raises(Refused, match="InvalidInputException"):
        codebuild.perform("StartBuild", {**request, "sourceVersion": "other"})


def test_a_range_has_both_its_bounds(dynamodb: DynamoDB) -> None:
    """The service lists tenants by the beginning of their ids, and runs between two times."""
    transact(dynamodb, *(put(item(one, due_at=one), ABSENT) for one in ("1", "2", "3", "4")))
    found = due(
        dynamodb,
        KeyConditionExpression="#partition = :partition AND #sort BETWEEN :low AND :high",
        ExpressionAttributeValues={
            ":partition": {"S": "0"},
            ":low": {"S": "2"},
            ":high": {"S": "3"},
        },
    )
    assert found == ["2", "3"]
