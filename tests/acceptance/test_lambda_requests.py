"""An event of Lambda is the same request for an app, in each format."""

from collections.abc import Iterator

import pytest
from aiohttp import web

from orchestrator.intake.app_keys import WORKLOAD
from orchestrator.intake.refusal_log import REFUSALS, RefusalLog
from orchestrator.intake.workload import Workload
from orchestrator.lambda_handler import LambdaService
from orchestrator.testing import ManualClock
from tests.acceptance.lambda_functions import any_format, ask, post
from tests.acceptance.ways import (
    MakeEvent,
    alb_event,
    http_api_event,
    rest_api_event,
)


@pytest.fixture
def echo() -> Iterator[LambdaService]:
    """A function that answers with the request as an app receives it."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "method": request.method,
                "path": request.path,
                "raw_path": request.rel_url.raw_path,
                "query": list(request.query.items()),
                "cookies": dict(request.cookies),
                "tags": request.headers.getall("X-Tag", []),
                "host": request.host,
                "body": await request.text(),
            }
        )

    app = web.Application()
    app[WORKLOAD] = Workload(max_concurrency=1, deadline_s=60, hands_back=True)
    app[REFUSALS] = RefusalLog(ManualClock())
    app.router.add_route("*", "/{path:.*}", answer)
    service = LambdaService(app)
    yield service
    service.close()


@any_format
def test_a_body_keeps_its_characters(echo: LambdaService, make_event: MakeEvent) -> None:
    """Text that is not ASCII arrives as it was sent."""
    body = '{"name": "Größe 天 🐦"}'
    assert ask(echo, post(make_event, body=body.encode())).json()["body"] == body


@any_format
def test_a_request_without_a_body_has_none(echo: LambdaService, make_event: MakeEvent) -> None:
    """A body that is `null` or missing is empty."""
    seen = ask(echo, make_event("DELETE", "/a")).json()
    assert (seen["method"], seen["body"]) == ("DELETE", "")


@pytest.mark.parametrize("path", ["/a/Mieter%20gel%C3%B6scht", "/a/Mieter gelöscht"])
@any_format
def test_a_path_is_encoded_once(echo: LambdaService, make_event: MakeEvent, path: str) -> None:
    """The path that an app receives is encoded exactly once."""
    seen = ask(echo, make_event("GET", path)).json()
    assert seen["path"] == "/a/Mieter gelöscht"
    assert seen["raw_path"] == "/a/Mieter%20gel%C3%B6scht"


@any_format
def test_a_query_arrives_whole(echo: LambdaService, make_event: MakeEvent) -> None:
    """Empty values and encoded characters of a query arrive as they were sent."""
    seen = ask(echo, make_event("GET", "/a?name=a%26b%20%C3%B6%2B&empty="))
    assert seen.json()["query"] == [["name", "a&b ö+"], ["empty", ""]]


@any_format
def test_a_parameter_may_come_twice(echo: LambdaService, make_event: MakeEvent) -> None:
    """Each value of a repeated parameter arrives, except from a load balancer without multi-value
    headers, which sends the last one only."""
    seen = ask(echo, make_event("GET", "/a?tag=1&tag=2"))
    expected = [["tag", "2"]] if make_event is alb_event else [["tag", "1"], ["tag", "2"]]
    assert seen.json()["query"] == expected


def test_an_event_with_single_values_alone_is_read_as_well(echo: LambdaService) -> None:
    """Format 1.0 without its multi-value maps, as in events written by hand for tests, is read as
    well."""
    event = rest_api_event("GET", "/a?tag=1", headers={"X-Tag": "one", "Cookie": "a=1; b=2"})
    del event["multiValueHeaders"], event["multiValueQueryStringParameters"]
    seen = ask(echo, event).json()
    assert (seen["query"], seen["tags"]) == ([["tag", "1"]], ["one"])
    assert seen["cookies"] == {"a": "1", "b": "2"}


def test_each_of_several_headers_of_a_name_arrives(echo: LambdaService) -> None:
    """Each header of a name arrives, from the list of format 1.0, of which `headers` keeps only the
    last."""
    event = rest_api_event("GET", "/a", headers={"X-Tag": "two"})
    event["multiValueHeaders"]["X-Tag"] = ["one", "two"]
    assert ask(echo, event).json()["tags"] == ["one", "two"]


def test_cookies_of_format_2_are_a_cookie_header(echo: LambdaService) -> None:
    """The cookies that format 2.0 lists beside the headers arrive as one header."""
    event = http_api_event("GET", "/a", cookies=["session=abc", "theme=dark"])
    assert ask(echo, event).json()["cookies"] == {"session": "abc", "theme": "dark"}


@any_format
def test_the_senders_host_is_kept(echo: LambdaService, make_event: MakeEvent) -> None:
    """The app receives the host of the request, not the socket's."""
    event = make_event("GET", "/a")
    headers = event.get("headers") or event["multiValueHeaders"]
    (host,) = [value for name, value in headers.items() if name.lower() == "host"]
    assert ask(echo, event).json()["host"] == (host[0] if isinstance(host, list) else host)


def test_a_path_that_begins_like_the_stage_is_not_below_it(echo: LambdaService) -> None:
    """With a custom domain, which leaves the stage out, `/products` is not below the stage
    `/prod`."""
    event = http_api_event("GET", "/products")
    event["requestContext"]["stage"] = "prod"
    assert ask(echo, event).json()["path"] == "/products"
