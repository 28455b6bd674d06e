"""Events that cost their sender little and a parser much, or that parsers read differently.

Each is as large as a body may be (1 MiB), or has as many values as a JSON text may have. Used by
the tests, which check the answers, and by `python -m benchmarks.hostile`, which measures the CPU.
"""

import json
from collections.abc import Callable, Mapping

from orchestrator.core.events.json_text import MAX_DEPTH, MAX_VALUES
from orchestrator.core.jobs.plan import MAX_VARIABLES

#: Stands for the number of an event, which makes its tenant and its id unique.
NUMBER = "@@"
_LIMIT = 1_048_576 - 1024
#: The maximum number of values of a body beside those of the envelope.
_MOST = MAX_VALUES - 64


def _envelope(detail: str, event_type: str = "TENANT_PROVISIONING") -> str:
    return (
        f'{{"detail-type":"{event_type}","source":"s","id":"event-{NUMBER}","detail":{{'
        f'"tenantId":"t-{NUMBER}","tier":"STANDARD",{detail}}}}}'
    )


def _field(value: str) -> str:
    """A provisioning with the value in a field that no handler needs."""
    return _envelope(f'"x":{value}')


def _override(variables: str) -> str:
    config = f'{{"environmentOverride":{{{variables}}}}}'
    return _envelope(f'"builderConfig":{{"type":"CODE_BUILD","config":{config}}}')


def _outcome(field: str, result: str = "SUCCESS") -> str:
    return _envelope(field, f"TENANT_PROVISIONING_{result}")


def _list(item: str, number: int | None = None) -> str:
    """A list of so many items, or as large as it may be."""
    number = (_LIMIT - 200) // (len(item) + 1) if number is None else number
    return f"[{','.join([item] * number)}]"


def _object(number: int, value: str = "0", name: str = "n") -> str:
    members = ",".join(f'"{name}{n}":{value}' for n in range(number))
    return f"{{{members}}}"


def _filled(text: str, room: int = 400) -> str:
    """A string of as many repetitions as there is room for."""
    return f'"{text * ((_LIMIT - room) // len(text))}"'


def _text(value: str) -> str:
    return json.dumps(value)


def _wrapped(value: str, times: int) -> str:
    """An event in so many notifications of SNS, one in another."""
    for _ in range(times):
        value = json.dumps(
            {
                "Type": "Notification",
                "TopicArn": "arn:aws:sns:a",
                "MessageId": "m",
                "Message": value,
            }
        )
    return value


def _texts_in_texts(times: int) -> str:
    value: object = [0] * 100
    for _ in range(times):
        value = json.dumps({"x": value})[: _LIMIT // 2]
    return json.dumps(value)


_ENTRY = '{"DetailType":"A","Detail":"{}"}'

_MAKERS: Mapping[str, Callable[[], str]] = {
    "text": lambda: _field(_filled("a")),
    "lists, unclosed": lambda: "[" * _LIMIT,
    "objects, unclosed": lambda: '{"a":' * (_LIMIT // 5),
    "lists in lists": lambda: _field("[" * (_LIMIT // 3) + "]" * (_LIMIT // 3)),
    "lists in lists, 101": lambda: _field("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)),
    "lists in lists, many": lambda: _field(_list("[" * 50 + "]" * 50)),
    "lists in lists, allowed": lambda: _field(_list("[" * 50 + "]" * 50, _MOST // 51)),
    "empty lists": lambda: _field(_list("[]")),
    "empty lists, allowed": lambda: _field(_list("[]", _MOST // 2)),
    "empty objects": lambda: _field(_list("{}")),
    "objects, allowed": lambda: _field(_list('{"a":0}', _MOST // 2)),
    "100,000 items": lambda: _field(_list("0", 100_000)),
    "items, allowed": lambda: _field(_list("0", _MOST)),
    "texts, allowed": lambda: _field(_list('"a"', _MOST)),
    "100,000 keys": lambda: _field(_object(100_000, name="")),
    "keys, allowed": lambda: _field(_object(_MOST)),
    "a key twice": lambda: _field('{"a":1,"a":2}'),
    "a key twice, the last": lambda: _field(f'{_object(_MOST - 1)[:-1]},"n0":1}}'),
    "a huge key": lambda: _field(f"{{{_filled('k')}:1}}"),
    "huge keys, twice": lambda: _field(f'{{"{"k" * 500_000}":1,"{"k" * 500_000}":2}}'),
    "an integer of a million digits": lambda: _field("9" * (_LIMIT - 200)),
    "integers of 308 digits": lambda: _field(_list("9" * 308)),
    "a fraction of a million digits": lambda: _field("0." + "1" * (_LIMIT - 200)),
    "an exponent of a million digits": lambda: _field("1e" + "9" * (_LIMIT - 200)),
    "a number beyond a double": lambda: _field("1e400"),
    "numbers with exponents, allowed": lambda: _field(_list("1e1", _MOST)),
    "NaN": lambda: _field("NaN"),
    "half a surrogate pair": lambda: _field(r'"\ud800"'),
    "surrogate pairs": lambda: _field(_filled(r"\ud83d\ude00")),
    "surrogate pairs, the last one half": lambda: _field(_filled(r"\ud83d\ude00")[:-7] + '"'),
    "a NUL": lambda: _field('"\x00"'),
    "escaped NULs": lambda: _field(_filled(r"\u0000")),
    "a NUL in the tenant": lambda: _field("1").replace(NUMBER, rf"{NUMBER}\u0000"),
    "backslashes": lambda: _field(_filled("\\\\")),
    "quotes": lambda: _field(_filled(r"\"")),
    "a JSON text of keys": lambda: _envelope(f'"tenant":{_text(_object(_MOST))}'),
    "a JSON text of lists": lambda: _envelope(f'"tenant":{_text(_list("[]", _MOST // 2))}'),
    "a JSON text of too many": lambda: _envelope(f'"tenant":{_text(_list("{}", 300_000))}'),
    "a JSON text, unclosed": lambda: _envelope(f'"tenant":{_text(_list("{}", 300_000)[:-1])}'),
    "JSON texts in each other": lambda: _field(_texts_in_texts(12)),
    "notifications in each other": lambda: _wrapped(_field("1"), 9),
    "texts that begin like JSON": lambda: _outcome(f'"x":{_list(_text("{a:"), _MOST)}', "FAILURE"),
    "a text with names": lambda: _field(_text("{" + "ab:" * (_LIMIT // 4))),
    "a text with quoted names": lambda: _field(_text("{" + "'a'n" * (_LIMIT // 5))),
    "a text with backslashes": lambda: _field(_text("{a:" + "\\" * (_LIMIT // 3))),
    "a text of URLs": lambda: _field(_filled("://a")),
    "a text of one URL": lambda: _field(f'"://{"a" * (_LIMIT - 300)}@"'),
    "variables": lambda: _override(_object(_MOST, '"x"')[1:-1]),
    "variables, allowed": lambda: _override(_object(MAX_VARIABLES - 50, f'"{"x" * 900}"')[1:-1]),
    "variables with illegal names": lambda: _override(_object(_MOST, '"x"', name="-")[1:-1]),
    "variables with secret names": lambda: _override(_object(_MOST, '"x"', "secret")[1:-1]),
    "a variable of lists": lambda: _override(f'"A":{_list("[]", _MOST // 2)}'),
    "fields of a toolkit's request": lambda: _envelope(
        _object(_MOST, '"x"')[1:-1], "sbt_aws_onboardingRequest"
    ),
    "features": lambda: _envelope(f'"planConfig":{{"features":{_list("1", _MOST)}}}'),
    "fields of an outcome": lambda: _outcome(_object(_MOST, '"x"')[1:-1]),
    "secrets of an outcome": lambda: _outcome(_object(_MOST, '"x"', "secret")[1:-1]),
    "secrets and fields of an outcome": lambda: _outcome(
        f'"x":{_list(_object(16, _text("x"), "secret")[:-1] + "," + _object(16)[1:], 512)}'
    ),
    "many JSON texts": lambda: _outcome(
        f'"x":{_list(_text(_list("0", 26_000)[:-1] + ",0:0]"), 19)}'.replace("0:0", '{\\"a\\":0}')
    ),
    "texts with names": lambda: _outcome(
        f'"x":{_list(_text("{a secret," + "a:" * 250), 1900)}', "FAILURE"
    ),
    "a text with names, of an outcome": lambda: _outcome(
        f'"x":{_text("{a secret," + "ab:" * (_LIMIT // 4))}', "FAILURE"
    ),
    "a text with one long name, of an outcome": lambda: _outcome(
        f'"x":{_text("{a secret," + "a" * (_LIMIT - 400) + ",:")}', "FAILURE"
    ),
    "resources of an outcome": lambda: _outcome(f'"resources":{_list("{}", _MOST // 2)}'),
    "a reason": lambda: _outcome(f'"reason":{_filled("r")}', "FAILURE"),
    "a long tenant": lambda: _envelope(f'"tenant":{{"id":{_filled("t")}}}'),
    "a long tier": lambda: _envelope(f'"planConfig":{{"tier":{_filled("t")}}}'),
    "a long builder": lambda: _envelope(f'"builderConfig":{{"type":{_filled("b")}}}'),
    "a long type": lambda: f'{{"detail-type":{_filled("T")},"detail":{{}}}}',
    "a long time": lambda: f'{{"detail-type":"A","time":{_filled("2")},"detail":{{}}}}',
    "a version of a CloudEvent": lambda: f'{{"specversion":{_list("0", _MOST)},"type":"A"}}',
    "data in Base64": lambda: (
        f'{{"specversion":"1.0","type":"A","source":"s","id":"1","data_base64":{_filled("A")}}}'
    ),
    "entries": lambda: f'{{"Entries":{_list(_ENTRY, _MOST // 3)}}}',
    "no type": lambda: _object(_MOST),
    "no object": lambda: _list("0", _MOST),
    "a type without a handler": lambda: _envelope(f'"x":{_list("0", _MOST)}', "NOBODY"),
}
NAMES = tuple(_MAKERS)


def hostile_body(name: str, number: str) -> bytes:
    """The body of that name, with the number of its event in tenant and id."""
    return _MAKERS[name]().replace(NUMBER, number).encode("utf-8", "surrogatepass")
