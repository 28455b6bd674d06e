"""Texts that begin like JSON, name a secret and can't be read."""

UNREADABLE = {
    "cut short": '{"id": "t", "secret": "hunter2',
    "too deep": "[" * 200 + '{"secret": "hunter2"}' + "]" * 200,
    "too deep to be parsed": '{"secret": "hunter2", "a": ' + "[" * 100_000,
    "a name twice": '{"secret": "hunter2", "secret": 1}',
    "a number that is none": '{"secret": "hunter2", "n": 1e400}',
    "half a character": '{"secret": "hunter2", "n": "\\ud800"}',
    "of another language": "{'secret': 'hunter2'}",
    "without quotes": "{secret=hunter2}",
    "with a name of two words": '{"the secret": "hunter2',
    "escaped once": '["{\\"secret\\": \\"hunter2\\"}',
    "escaped thrice": '["{\\\\\\\\\\\\\\"secret\\\\\\\\\\\\\\" : \\"hunter2',
    "with a line break, escaped": '["{\\"secret\\"\\n:\\"hunter2\\"}',
    "with a name in escapes": '{"\\u0073ecret": "hunter2',
    "with escapes in escapes": '["{\\"\\\\u005cu0073ecret\\": \\"hunter2',
    "text": '"{\\"secret\\": \\"hunter2\\"',
    "with a name in brackets": '{"login[secret]": "hunter2',
    "with brackets and no quotes": "[login[secret]=hunter2",
    "with a name of several parts": '{"secret, the other {one}": "hunter2',
}
