"""How secrets in texts are masked: in JSON, in URLs, and in what can't be read."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.events.json_text import MAX_VALUES
from orchestrator.core.secrets.redaction import MASK, Redactor
from tests.unit.core.secrets.unreadable import UNREADABLE


def test_json_text_is_looked_into() -> None:
    """A build's variable `tenant` is JSON text; other text stays as it is."""
    redact = Redactor().redact
    assert redact('{"id": "t", "secret": "hunter2"}') == '{"id": "t", "secret": "***"}'
    assert redact('{"id":"t"}') == '{"id":"t"}'
    assert redact("{not json") == "{not json"


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("encode", [str, str.encode])
def test_text_that_can_not_be_parsed_is_masked_if_it_names_a_secret(text: str, encode: Any) -> None:
    """All of it, since the end of the secret is unknown."""
    assert Redactor().redact({"a": [encode(text)], "b": 1}) == {"a": [MASK], "b": 1}
    assert Redactor().leave_out({"a": [encode(text)], "b": 1}) == {"a": [], "b": 1}
    assert Redactor().hides("a", encode(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('refused: {"secret":"hunter2"}', 'refused: {"secret": "***"}'),
        ('refused [1]: {"secret":"hunter2"}', "refused ***"),
        ('"a" is refused: {"secret":"hunter2"}', MASK),
        ('refused: {"secret":"hunter2"} at 9:00', "refused: ***"),
        ('refused: {"id":"t"} at 9:00', 'refused: {"id":"t"} at 9:00'),
        ("secret: none [9:00]", "secret: none [9:00]"),
    ],
)
def test_a_secret_behind_a_sentence_is_masked(text: str, shown: str) -> None:
    """The sentence stays, so that a reason is still readable."""
    assert Redactor().redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "[Errno 111] Connect call failed: no token, no secret",
        '{"id": "t", "access_token_expiration": 7200, ',
        '{"a": "the secret of success"',
        '"a" is no secret',
        "secret: x",
    ],
)
def test_a_text_that_only_mentions_secrets_stays(text: str) -> None:
    """A word is a name if `:` or `=` follows, and only in a text that begins like JSON."""
    assert Redactor().redact(text) == text


PAIR = '[{"name": "DB_PASSWORD", "value": "hunter2"}'
#: Texts with a secret in a pair of fields that aren't parsed: cut off, and beyond each budget.
PAIRS_UNREAD = {
    "cut off": PAIR,
    "in single quotes": PAIR.replace('"', "'"),
    "as AWS writes it": '[{"Key":"ApiToken","Value":"hunter2"',
    "after more values than are parsed": f'{{"x":[{"1," * MAX_VALUES}1],"y":{PAIR}]}}',
    "with an escaped name": PAIR.replace("name", r"n\u0061me"),
}


@pytest.mark.parametrize("text", PAIRS_UNREAD.values(), ids=PAIRS_UNREAD)
def test_a_text_that_is_not_parsed_is_masked_if_a_pair_names_a_secret(text: str) -> None:
    """A build's environment is a list of pairs: cut off, or too long to be parsed, it shows no
    password."""
    assert Redactor().redact(text) == MASK


@pytest.mark.parametrize("times", range(12))
def test_a_pair_in_a_text_within_texts_is_masked(times: int) -> None:
    """A pair is masked however often its text was put into another one."""
    assert "hunter2" not in Redactor().redact(within(f"{PAIR}]", times))


@pytest.mark.parametrize("text", ['{"name": "a password", "id": 1', "[hostname: token, value: 1"])
def test_a_name_that_is_in_no_pair_stays(text: str) -> None:
    """A plan or a host may be called like a secret: there is no value beside it."""
    assert Redactor().redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        r'"{\u0022password\u0022\u003a\u0022hunter2\u0022}"',
        r'["{\u0022password\u0022\u003A\u0022hunter2\u0022}"]',
        r'["password\u003dhunter2',
    ],
)
def test_an_escaped_colon_hides_no_name(text: str) -> None:
    """JSON may escape any character (RFC 8259, section 7)."""
    assert "hunter2" not in Redactor().redact(text)


@pytest.mark.parametrize("repeated", ["a", "n", " ", "]", "'", '"', "a]", "name'n"])
def test_a_text_that_can_not_be_parsed_is_searched_once(repeated: str) -> None:
    """It isn't searched from each character anew, which would take an hour for 1 MiB."""
    text = '{"password", "value":1, ' + repeated * (1_000_000 // len(repeated)) + ",:"
    assert not Redactor().may_name_secret(text)


def within(text: str, times: int) -> str:
    for _ in range(times):
        text = json.dumps([text])
    return text


@pytest.mark.parametrize("name", ["secret", "apiKey", "private-key", "Authorization", "pwd"])
@pytest.mark.parametrize("times", range(12))
def test_a_text_within_texts_keeps_no_secret(times: int, name: str) -> None:
    """A secret is masked however often its text was put into another one."""
    text = within(json.dumps({"id": "t-1", name: "hunter2"}), times)
    assert "hunter2" not in Redactor().redact(text)
    assert Redactor().redact(within('{"id": "t-1"}', times)) == within('{"id": "t-1"}', times)


def test_a_url_is_shown_without_its_userinfo() -> None:
    """It is removed where people see the URL; what is left of a body without secrets stays as it
    was sent, and a variable with such a URL is no secret by that alone."""
    url = "postgres://user:hunter2@db/x"
    assert Redactor().redact({"a": [url, json.dumps({"b": url})]}) == {
        "a": ["postgres://db/x", '{"b": "postgres://db/x"}']
    }
    assert Redactor().leave_out({"a": url}) == {"a": url}
    assert not Redactor().hides("a", url)
    assert not Redactor().is_plain("a", url)


def test_only_so_many_texts_are_read() -> None:
    """What begins like JSON after a thousand of such texts is masked unread: a sender chooses how
    many there are."""
    reads = []

    class Counted(Redactor):
        def may_name_secret(self, text: str) -> bool:
            reads.append(text)
            return super().may_name_secret(text)

    shown = Counted().redact(["{a:"] * 5000)
    assert shown == ["{a:"] * 1000 + [MASK] * 4000
    assert len(reads) == 1000
    assert Redactor().redact(["plain: text"] * 5000) == ["plain: text"] * 5000


def test_many_texts_that_have_no_names_are_not_read() -> None:
    """A quarter of a million of them, in one event, must not keep all others waiting."""
    reads = []

    class Counted(Redactor):
        def may_name_secret(self, text: str) -> bool:
            reads.append(text)
            return super().may_name_secret(text)

    assert Counted().redact(["{"] * 1000) == ["{"] * 1000
    assert reads == []


class Counted(Redactor):
    """Counts what is looked at of texts that can't be parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.names = self.mentions = 0

    def may_name_secret(self, text: str) -> bool:
        self.names += text.count(":")
        return super().may_name_secret(text)

    def may_mention_secret(self, text: str) -> bool:
        self.mentions += 1
        return super().may_mention_secret(text)


def test_all_json_texts_are_parsed_for_as_many_values_as_a_body_may_have() -> None:
    """Together: a sender chooses how many there are, and each may have as many as a body."""
    counted = Counted()
    text = json.dumps([{"secret": "hunter2"}, *[0] * (MAX_VALUES // 2)])
    shown = counted.redact([text] * 20)
    assert "hunter2" not in str(shown)
    assert [json.loads(one)[0] for one in shown[:1]] == [{"secret": MASK}]
    assert shown[2:] == [MASK] * 18
    assert counted.names + counted.mentions == 19


def test_so_many_names_are_looked_at_in_all_texts() -> None:
    """Then a text that can't be parsed stays only if no secret's name is in it at all."""
    counted = Counted()
    quoting, harmless = "{the secret," + "a:" * 4000, "{" + "a:" * 4000
    shown = counted.redact([quoting] * 5 + [harmless] * 5)
    assert shown == [quoting] * 2 + [MASK] * 3 + [harmless] * 5
    assert (counted.names, counted.mentions) == (8000, 8)


def test_so_long_texts_are_searched_for_names() -> None:
    """The lengths of all texts together are bounded; a long one may be one name."""
    quoting, harmless = "{the secret, a:" + "x" * 100_000, "{the name, a:" + "x" * 100_000
    shown = Redactor().redact([quoting, harmless, quoting, harmless])
    assert shown == [quoting, harmless, MASK, harmless]


def test_texts_within_texts_are_read_a_few_times() -> None:
    """A large one in many others isn't read anew in each; nesting adds up over them."""
    reads = []

    class Counted(Redactor):
        def may_name_secret(self, text: str) -> bool:
            reads.append(len(text))
            return super().may_name_secret(text)

    assert Counted().redact(within("[" + "1," * 1000 + '{"a":1}]', 12))
    assert len(reads) == 1
    deep = '{"secret": "hunter2"}'
    for _ in range(4):
        deep = "[" * 90 + json.dumps(deep) + "]" * 90
    assert "hunter2" not in str(Redactor().redact(deep))


def test_a_json_text_as_a_text_is_looked_into() -> None:
    """A JSON text that was printed twice is still searched."""
    text = json.dumps(json.dumps({"secret": "hunter2"}))
    assert "hunter2" not in Redactor().redact(text)
    assert Redactor().redact('"plain"') == '"plain"'


PIECES = [*"{}[]\"'\\:,=nrt u\n", "secret", "token", "\\u0073", "hunter2"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_masked_or_unchanged(text: str) -> None:
    """It is always JSON text or the mask, behind text that isn't JSON."""
    shown = Redactor().redact(text)
    before = re.split(r"[{\[]", text)[0]
    assert (
        shown in (text, MASK, before + MASK) or json.loads(shown.removeprefix(before)) is not None
    )
