"""A service without any guarantee: it looks the tier up and starts a build, over shared clients."""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiohttp import web

DYNAMODB: web.AppKey[Any] = web.AppKey("dynamodb")
CODEBUILD: web.AppKey[Any] = web.AppKey("codebuild")


async def open_clients(app: web.Application) -> AsyncIterator[None]:
    session, config = aioboto3.Session(), AioConfig(max_pool_connections=64)
    async with (
        session.client("dynamodb", config=config) as app[DYNAMODB],
        session.client("codebuild", config=config) as app[CODEBUILD],
    ):
        yield


async def post_event(request: web.Request) -> web.Response:
    event = await request.json()
    detail = event["detail"]
    answer = await request.app[DYNAMODB].query(
        TableName="tier-details",
        KeyConditionExpression="#tier = :tier",
        ExpressionAttributeNames={"#tier": "tier"},
        ExpressionAttributeValues={":tier": {"S": detail["planConfig"]["tier"]}},
        Limit=1,
    )
    tier = {name: next(iter(value.values())) for name, value in answer["Items"][0].items()}
    variables = {
        **{name: value for name, value in tier.items() if name != "jobIdentifier"},
        **detail["builderConfig"]["config"]["environmentOverride"],
        "tenantId": detail["tenant"]["id"],
    }
    await request.app[CODEBUILD].start_build(
        projectName=tier["jobIdentifier"],
        environmentVariablesOverride=[
            {
                "name": name,
                "value": value if isinstance(value, str) else json.dumps(value),
                "type": "PLAINTEXT",
            }
            for name, value in variables.items()
        ],
    )
    return web.json_response({"success": True}, headers={"Location": f"/runs/{event['id']}"})


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(open_clients)
    app.router.add_post("/events", post_event)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
