"""Errors of Jenkins say what went wrong, and contain no secret."""

import base64
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from orchestrator.adapters.jenkins.builder import JenkinsBuilder
from orchestrator.adapters.jenkins.client import JenkinsClient
from orchestrator.core.errors import NotPermitted, OrchestratorError, PermanentError, TemporaryError
from orchestrator.embedded import Fault
from tests.contracts.jenkins.scene import JOB, VALUE, Safe, open_builder, start, wants_login
from tests.jenkins.stand_in import (
    HOST,
    PASSWORD,
    START_KEY,
    TOKEN,
    USER,
    JenkinsStandIn,
    open_jenkins_stand_in,
)

Trouble = Callable[[JenkinsStandIn], None]


def answers(path_end: str, status: int, text: str = "") -> Trouble:
    return lambda jenkins: jenkins.inject(path_end, Fault.error("", text, http_status=status))


def meets(path_end: str, *faults: Callable[[], Fault]) -> Trouble:
    return lambda jenkins: jenkins.inject(path_end, *(fault() for fault in faults))


def wants_login_to_build(jenkins: JenkinsStandIn) -> None:
    jenkins.meanwhile("buildWithParameters", lambda: wants_login(jenkins))


TROUBLES: dict[str, tuple[Trouble, type[OrchestratorError], bool | None, str]] = {
    "queue down": (answers("queue/api/json", 500), TemporaryError, True, "500"),
    "job down": (answers("basic/api/json", 503), TemporaryError, True, "503 Service Unavailable"),
    "not JSON": (answers("basic/api/json", 200, "<html>"), TemporaryError, True, "check its url"),
    "not Jenkins": (answers("basic/api/json", 200, "[1]"), TemporaryError, True, "check its url"),
    "bad text": (answers("queue/api/json", 200, '{"items": 7}'), TemporaryError, True, "items"),
    "no queue": (answers("queue/api/json", 404), TemporaryError, True, "no queue"),
    "no access": (answers("basic/api/json", 403), NotPermitted, True, "permission"),
    "hung up": (
        meets("queue/api/json", Fault.reset, Fault.reset),
        TemporaryError,
        True,
        "disconnected",
    ),
    "login": (wants_login, NotPermitted, True, "a login page: check user and token"),
    "login to build": (wants_login_to_build, TemporaryError, False, "a login page"),
    "build refused": (answers("buildWithParameters", 400), PermanentError, None, "400 Bad Request"),
    "build denied": (answers("buildWithParameters", 403), TemporaryError, True, "403"),
    "build down": (answers("buildWithParameters", 500), TemporaryError, False, "500"),
    "build busy": (answers("buildWithParameters", 503), TemporaryError, False, "503"),
    "build moved": (answers("buildWithParameters", 302), TemporaryError, False, "nowhere"),
    "no place": (answers("buildWithParameters", 201), TemporaryError, False, "201"),
    "hung up on": (meets("buildWithParameters", Fault.reset), TemporaryError, False, "isconnected"),
    "too slow": (meets("buildWithParameters", Fault.slow), TemporaryError, False, "in time"),
}


@pytest.mark.parametrize("name", TROUBLES)
@pytest.mark.parametrize("secret", [TOKEN, PASSWORD], ids=["token", "password"])
async def test_errors_of_jenkins_have_a_sentence_and_no_secret(
    jenkins: JenkinsStandIn, safe: Safe, name: str, secret: str
) -> None:
    """Temporary unless Jenkins refuses the start itself; `nothing_done` only if that's certain."""
    cause, kind, nothing_done, sentence = TROUBLES[name]
    safe.token = secret
    timeout_s = 0.2 if name == "too slow" else 10
    async with open_builder(jenkins, safe, timeout_s=timeout_s) as builder:
        cause(jenkins)
        with capture_logs() as logs, pytest.raises(kind, match=sentence) as caught:
            await start(builder, A=VALUE, undefined=VALUE)
    assert getattr(caught.value, "nothing_done", None) is nothing_done
    shown = f"{caught.value!r} {caught.value.__cause__!r} {logs}"
    encoded = base64.b64encode(f"{USER}:{secret}".encode()).decode()
    for hidden in (secret, encoded, VALUE, "ticket", "crumb-"):
        assert hidden not in shown


async def test_a_refused_connection_has_started_nothing(
    jenkins: JenkinsStandIn, safe: Safe
) -> None:
    """No server listens there, be it when the job is described or when it is to be built."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    async with open_builder(jenkins, safe, url=f"http://{HOST}:{port}") as builder:
        with pytest.raises(TemporaryError, match="Cannot connect") as caught:
            await start(builder)
        assert caught.value.nothing_done
    async with aiohttp.ClientSession() as http:
        client = JenkinsClient(http, url=f"http://{HOST}:{port}", user=USER, token=safe.open)
        with pytest.raises(TemporaryError, match="Cannot connect") as caught:
            await client.post("job/x/buildWithParameters")
        assert caught.value.nothing_done


@pytest.mark.parametrize("url", ["jenkins.example.com", "ftp://jenkins.example.com"])
async def test_an_address_that_is_none_is_named(
    jenkins: JenkinsStandIn, safe: Safe, url: str
) -> None:
    """A url that is no web address is named, instead of a traceback."""
    async with open_builder(jenkins, safe, url=url) as builder:
        with pytest.raises(TemporaryError, match="not a web address"):
            await builder.check()


async def test_a_redirect_is_not_followed(jenkins: JenkinsStandIn, builder: JenkinsBuilder) -> None:
    """The credentials are sent nowhere else; the error says where it leads to."""
    fault = Fault.error("", http_status=301)
    jenkins.inject("/api/json", fault)
    with pytest.raises(TemporaryError, match=r"a redirect to nowhere.*is the final one"):
        await builder.check()
    assert len(jenkins.requests) == 1


# TLS


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jenkins")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "jenkins.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


async def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path, safe: Safe) -> None:
    """Nothing is sent, and the error says how to trust the certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(tmp_path))
    async with (
        open_jenkins_stand_in(jobs={JOB: (START_KEY,)}, ssl_context=context) as jenkins,
        open_builder(jenkins, safe) as builder,
    ):
        for action in (builder.check(), start(builder)):
            with pytest.raises(TemporaryError, match="certificate isn't trusted: add") as caught:
                await action
            assert caught.value.nothing_done
        assert jenkins.requests == []
