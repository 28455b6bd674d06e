"""The signer of the lean transport is compared with botocore's."""

from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.adapters.aws_signature import Signer

NOW = datetime(2026, 11, 20, 9, 14, 3, tzinfo=UTC)
HEADERS = {
    "Host": "dynamodb.eu-west-1.amazonaws.com",
    "User-Agent": "saas-orchestrator/1",
    "X-Amz-Target": "DynamoDB_20120810.Query",
    "Content-Type": "application/x-amz-json-1.0",
}
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
TOKENS = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
CREDENTIALS = st.builds(ReadOnlyCredentials, VISIBLE, VISIBLE, TOKENS, st.none())
PATHS = st.lists(st.text(st.characters(exclude_characters="?#\r\n\t", codec="ascii")), max_size=3)


def authorization_of_botocore(
    url: str, headers: dict[str, str], body: bytes, credentials: ReadOnlyCredentials
) -> str:
    """What botocore's signer makes of a request that has its date and token already."""
    signer = SigV4Auth(credentials, "dynamodb", "eu-west-1")
    named = {name: value for name, value in headers.items() if name != "Authorization"}
    request = AWSRequest("POST", url, named, body)
    request.context["timestamp"] = headers["X-Amz-Date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signed = signer.signed_headers(signer.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, "
        f"Signature={signer.signature(text, request)}"
    )


@given(
    st.lists(st.tuples(CREDENTIALS, st.binary(), st.timedeltas(timedelta(0), timedelta(days=2)))),
    PATHS,
)
@example(
    [
        (ReadOnlyCredentials("A", "one", None, None), b"{}", timedelta(0)),
        (ReadOnlyCredentials("B", "two", " session  token/+= ", None), b"", timedelta(0)),
        (ReadOnlyCredentials("A", "one", None, None), b"{}", timedelta(days=1)),
    ],
    ["behind", "a path", "..", "~é"],
)
def test_signatures_are_those_of_botocore(
    requests: list[tuple[ReadOnlyCredentials, bytes, timedelta]], path: list[str]
) -> None:
    """Any credentials, body, path and time are signed alike, also where they change."""
    url = "https://dynamodb.eu-west-1.amazonaws.com/" + "/".join(path)
    signer = Signer(url, service="dynamodb", region="eu-west-1")
    for credentials, body, later in requests:
        sent = signer.sign(HEADERS, body, credentials, NOW + later)
        assert sent.keys() - HEADERS.keys() <= {
            "Authorization",
            "X-Amz-Date",
            "X-Amz-Security-Token",
        }
        assert sent.get("X-Amz-Security-Token") == (credentials.token or None)
        expected = authorization_of_botocore(url, sent, body, credentials)
        assert sent["Authorization"] == expected
