"""Origins are read in one way only, and the credentials in a URL are never shown."""

import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from orchestrator.core.urls import (
    parse_origin,
    path_segment,
    read_origin,
    shown_url,
    web_link,
    without_userinfo,
)

ORIGINS = {
    "https://control.example": "https://control.example:443",
    "HTTPS://Control.EXAMPLE/webhook?a=1#b": "https://control.example:443",
    "https://control.example:8443/": "https://control.example:8443",
    "http://localhost:3000/webhook": "http://localhost:3000",
    "http://control-plane_1": "http://control-plane_1:80",
    "https://10.0.0.1/": "https://10.0.0.1:443",
    "https://[::1]:8443/": "https://[::1]:8443",
    "https://[0:0:0:0:0:0:0:1]:8443/": "https://[::1]:8443",
    "https://xn--bcher-kva.example": "https://xn--bcher-kva.example:443",
}
#: What a sender may write so that one parser sees a trusted host and another one doesn't.
NO_ORIGINS = (
    "",
    "control.example",
    "//control.example/",
    "ftp://control.example/",
    "file:///etc/passwd",
    "gopher://control.example/",
    "javascript:alert(1)",
    "https:control.example",
    "https:/control.example",
    "https:///control.example",
    "https:\\\\control.example",
    "https://control.example\\@evil.example/",
    "https://control.example\\.evil.example/",
    "https://control.example@evil.example/",
    "https://user:password@control.example/",
    "https://@control.example/",
    "https://control.example%40evil.example/",
    "https://control.example%2f@evil.example/",
    "https://control%2eexample/",
    "https://control.example:/",
    "https://control.example:0/",
    "https://control.example:0443/",
    "https://control.example:65536/",
    "https://control.example:443:80/",
    "https://control.example:80@evil.example/",
    "https://control.example: 443/",
    "https://control.example:٤٤٣/",
    "https://control.example ",
    " https://control.example",
    "\x00https://control.example",
    "https://control.example\n.evil.example/",
    "https://control.exam\tple/",
    "https://control.example;evil.example/",
    "https://control..example/",
    "https://.control.example/",
    "https://control.example./",
    "https://control。example/",
    "https://\uff43ontrol.example/",
    "https://bücher.example/",
    "https://*.example/",
    "https://[::1%25eth0]/",
    "https://[::1/",
    "https://[control.example]/",
    "https://[::1]evil.example/",
    "https://[1.2.3.4]/",
)


@pytest.mark.parametrize(("url", "origin"), ORIGINS.items())
def test_the_origin_of_a_url_has_its_port(url: str, origin: str) -> None:
    """Scheme and host in lower case, an IPv6 address in its shortest form."""
    assert read_origin(url) == origin


@pytest.mark.parametrize("url", NO_ORIGINS)
def test_a_url_that_parsers_read_differently_has_no_origin(url: str) -> None:
    """Userinfo, backslashes, escapes, control characters and names beyond ASCII included."""
    assert read_origin(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://localhost.localdomain/",
    ],
)
def test_another_spelling_of_an_address_is_another_origin(url: str) -> None:
    """No name is resolved and no number converted: what is allowed is what is written."""
    assert read_origin(url) not in (
        None,
        parse_origin("127.0.0.1"),
        parse_origin("[::1]"),
        parse_origin("localhost"),
    )


@given(
    st.lists(
        st.sampled_from(
            "[ ] : / @ # ? . \\ \n \t \x00 ü 。 https http // :// %40 %2e ::1 443 control.example "
            "evil.example ".split(" ")
        ),
        max_size=9,
    ).map("".join)
    | st.text(max_size=12).map(lambda text: f"https://control.example{text}")
)
@example("https://control.example\\@evil.example")
def test_a_url_with_an_origin_leads_there(url: str) -> None:
    """The client that posts reads the same scheme, host and port; so does Python's own parser."""
    origin = read_origin(url)
    if origin is None:
        return
    parsed, split = URL(url), urlsplit(url)
    host = parsed.host_subcomponent
    assert f"{parsed.scheme}://{host}:{parsed.port}" == origin
    assert split.username is None
    assert (split.scheme, split.port or parsed.port) == (parsed.scheme, parsed.port)
    assert (split.hostname or "").lower() == (parsed.host or "")


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("control.example", "https://control.example:443"),
        ("Control.Example:8443", "https://control.example:8443"),
        ("https://control.example", "https://control.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("127.0.0.1", "https://127.0.0.1:443"),
        ("[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_an_operator_may_leave_out_https(written: str, origin: str) -> None:
    """A host alone means its HTTPS port."""
    assert parse_origin(written) == origin


@pytest.mark.parametrize(
    "written",
    [
        "",
        "*",
        "*.example",
        "https://control.example/",
        "https://control.example/webhook",
        "control.example?a=1",
        "user:pa55word@control.example",
        "https://user:pa55word@control.example",
        "ftp://control.example",
        "control.example.",
        "bücher.example",
        "control example",
        "control.example:https",
    ],
)
def test_an_invalid_origin_is_refused_without_its_password(written: str) -> None:
    """The refusal is one line that says how to write an origin."""
    with pytest.raises(ValueError, match="is no origin: write https://HOST") as refused:
        parse_origin(written)
    assert "pa55word" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pa55@control.example/webhook?key=1#x", "https://control.example/webhook"),
        ("https://control.example", "https://control.example"),
        ("user:pa55@control.example:80/webhook", "control.example:80/webhook"),
        ("https://a@b@control.example/@c", "https://control.example/@c"),
        ("http://[::1", "http://[::1"),
        ("/webhook?key=1", "/webhook"),
        ("https://control.example/?a=https://u:pa55@b", "https://control.example/"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, shown: str) -> None:
    """Userinfo, query and fragment; also of a text that is no URL."""
    assert shown_url(url) == shown


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example(".")
@example("..")
@example("a/../b")
def test_any_text_is_one_segment_of_a_path(text: str) -> None:
    """It comes back as it was, and is no step up."""
    url = URL(f"https://host/a/{path_segment(text)}/b", encoded=True)
    assert url.raw_parts[1:] == ("a", path_segment(text), "b")
    assert unquote(path_segment(text)) == text
    assert path_segment(text) not in (".", "..")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "git clone https://x:ghp_1@git.example/a failed",
            "git clone https://git.example/a failed",
        ),
        ("postgres://u:p@db/x and redis://:p@cache", "postgres://db/x and redis://cache"),
        ("mail a@b.example or see https://b.example/@a", None),
        ("https://b.example?to=a@b", None),
        ("https://b.example, a@b.example", None),
    ],
)
def test_a_sentence_keeps_its_urls_without_userinfo(text: str, shown: str | None) -> None:
    """Addresses for mail, paths and queries are no userinfo."""
    assert without_userinfo(text) == (shown or text)


@given(st.text(alphabet='ab:@"\\ \n', max_size=8))
def test_a_sentence_in_json_stays_json(password: str) -> None:
    """It stays JSON whatever characters a URL's userinfo has, escaped as JSON has them."""
    text = json.dumps({"a": f"https://u{password}@host/b@c", "d": "e@f"})
    assert json.loads(without_userinfo(text))["d"] == "e@f"


def test_a_link_to_a_log_keeps_what_opens_it() -> None:
    """Its query and fragment, not its userinfo; what isn't http(s) is no link."""
    assert web_link("https://u:p@aws.example/a?b=c#d") == "https://aws.example/a?b=c#d"
    assert web_link("javascript://u@host") is None
