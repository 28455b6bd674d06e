"""Jenkins' HTTP client: authentication, CSRF crumbs, and translation of errors.

Errors contain only the method and path of a request: queries, forms, headers and answers may
contain secrets.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import attrs
import msgspec
from yarl import URL

from orchestrator.adapters.proxies import find_proxy
from orchestrator.core.errors import NotPermitted, TemporaryError
from orchestrator.core.urls import shown_url

Document = TypeVar("Document", bound=msgspec.Struct)

_WAYS_OUT: Mapping[int, str] = {
    401: "user and token are refused: correct them",
    403: "the user may not do that: give it the permission in Jenkins",
    409: "the job is disabled: enable it in Jenkins",
}


class Crumb(msgspec.Struct, rename="camel"):
    crumb: str
    crumb_request_field: str


@attrs.frozen
class Answer:
    """An answer; `call` names the request: "Jenkins GET /job/a/api/json"."""

    call: str
    status: int
    location: str
    body: bytes

    @property
    def is_redirect(self) -> bool:
        return 300 <= self.status < 400

    @property
    def target(self) -> str:
        """The target of a redirect, without its query, which may contain a ticket."""
        return self.location.partition("?")[0]

    @property
    def is_login(self) -> bool:
        return self.is_redirect and self.target.rstrip("/").lower().endswith("login")

    @property
    def lacks_crumb(self) -> bool:
        """Whether Jenkins says "No valid crumb was included in the request". "crumb" alone is on
        any page, as breadcrumbs."""
        return self.status == 403 and b"no valid crumb" in self.body.lower()

    def refusal(self) -> TemporaryError:
        """The error for an unexpected answer; after a 4xx nothing was done."""
        if self.lacks_crumb:
            said = "403, and refuses its own crumb: use an API token, not a password"
        elif self.is_login:
            said = "a redirect to a login page: check user and token"
        elif self.is_redirect:
            said = (
                f"a redirect to {shown_url(self.target) or 'nowhere'}: check user and token, and "
                "that Jenkins' url is the final one"
            )
        else:
            phrase = HTTPStatus(self.status).phrase if self.status in list(HTTPStatus) else ""
            said = f"{self.status} {phrase}".rstrip()
            if self.status in _WAYS_OUT:
                said += f": {_WAYS_OUT[self.status]}"
        denied = self.is_login or self.status in (401, 403)
        kind = NotPermitted if denied else TemporaryError
        return kind(f"{self.call} was answered with {said}.", nothing_done=400 <= self.status < 500)


class JenkinsClient:
    """Sends requests to Jenkins with Basic auth.

    `token` is called before each request, so that a rotated token is used. An API token needs
    nothing else; a password also needs a crumb, which Jenkins ties to the session of its cookie
    (Jenkins handbook, CSRF protection).
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        user: str,
        token: Callable[[], Awaitable[str]],
    ) -> None:
        """`http` keeps cookies, also of IP addresses; `token` returns the current API token."""
        self._http = http
        self._url = URL(f"{url.rstrip('/')}/")
        self._user = user
        self._token = token
        self._crumb: Mapping[str, str] = {}
        self._renewing = asyncio.Lock()

    async def find(self, path: str, model: type[Document], *, tree: str) -> Document | None:
        """Get the document at `path`; None if Jenkins answers 404.

        Raises:
            TemporaryError: Jenkins can't be queried; `nothing_done` is True.
        """
        answer = await self._send("GET", f"{path}api/json", query={"tree": tree})
        if answer.status == 404:
            return None
        if answer.status != 200:
            error = answer.refusal()
            error.nothing_done = True
            raise error
        try:
            return msgspec.json.decode(answer.body, type=model)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TemporaryError(
                f"{answer.call} was not answered as Jenkins does: check its url ({error}).",
                nothing_done=True,
            ) from error

    async def post(
        self,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post; if Jenkins requires a crumb, again with one.

        Raises:
            TemporaryError: there was no answer; `nothing_done` if the request certainly didn't
                arrive.
        """
        crumb = self._crumb
        answer = await self._send("POST", path, query=query, form=form, headers=crumb)
        if answer.lacks_crumb:
            crumb = await self._renew(crumb)
            answer = await self._send("POST", path, query=query, form=form, headers=crumb)
        return answer

    async def _renew(self, refused: Mapping[str, str]) -> Mapping[str, str]:
        """Replace a refused crumb; concurrent requests share one new crumb."""
        async with self._renewing:
            if self._crumb is refused:
                fresh = await self.find("crumbIssuer/", Crumb, tree="crumb,crumbRequestField")
                if fresh is None:
                    raise TemporaryError(
                        "Jenkins requires a crumb but issues none: use an API token, not a "
                        "password.",
                        nothing_done=True,
                    )
                self._crumb = {fresh.crumb_request_field: fresh.crumb}
            return self._crumb

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        try:
            credentials = aiohttp.encode_basic_auth(self._user, await self._token())
        except TemporaryError as error:
            error.nothing_done = True
            raise
        call = f"Jenkins {method} /{path}"
        asks = method == "GET"
        try:
            # The path is encoded already: a job's name may hold %2F, which must stay %252F.
            url = URL(f"{self._url}{path}", encoded=True).with_query(query)
            async with self._http.request(
                method,
                url,
                data=form,
                headers={**headers, "Authorization": credentials},
                allow_redirects=False,
                proxy=find_proxy(str(url)),
            ) as answer:
                location = answer.headers.get("Location", "")
                return Answer(call, answer.status, location, await answer.read())
        except aiohttp.ClientConnectorCertificateError as error:
            raise TemporaryError(
                f"{call}: the certificate isn't trusted: add its authority to the system's "
                f"({error.certificate_error}).",
                nothing_done=True,
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TemporaryError(f"{call}: {error}.", nothing_done=True) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise TemporaryError(
                f"{call}: Jenkins' url is not a web address: correct it.",
                nothing_done=True,
            ) from error
        except TimeoutError as error:
            raise TemporaryError(f"{call} was not answered in time.", nothing_done=asks) from error
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise TemporaryError(f"{call}: {said}.", nothing_done=asks) from error
