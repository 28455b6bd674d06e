"""Logging fails no caller, whatever is logged and wherever it is written."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any, Literal

import attrs
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.secrets.redaction import SECRET_NAMES
from orchestrator.logs import configure_logs


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Gone(io.StringIO):
    """A pipe without a reader."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


class Closed(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.close()


def test_a_log_that_can_not_be_written_stops_no_caller() -> None:
    """The caller continues, and its next lines are written once the stream works again."""
    for stream in (Gone(), Closed(), working := io.StringIO()):
        with redirect_stderr(stream):
            configure_logs(level="info", layout="json", redact=())
            structlog.get_logger("test").info("said")
    assert '"said"' in working.getvalue()


class Odd:
    """An object that can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")


@attrs.define
class ModelError(Exception):
    """An exception that is a model, too."""

    password: str = "hunter2"


def failed(error: Exception) -> Exception:
    """With a traceback."""
    with pytest.raises(type(error)) as raised:
        raise error
    return raised.value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append({"a": value})
    return value


THINGS = {
    "an object": {"a": Odd()},
    "a cycle": {"a": cyclic()},
    "a deep one": {"a": json.loads("[" * 900 + "]" * 900)},
    "names": {"a": {(1, 2): 3, Odd(): 4}},
    "a set": {"a": {1, "b", frozenset()}},
    "bytes": {"a": b"\xff"},
    "halves": {"a": "\ud800", "\udc00": 1},
    "numbers": {"a": float("nan"), "b": 10**5000, "c": 10**400},
    "a text too deep": {"a": "[" * 600 + "]" * 600},
    "an exception": {"exc_info": failed(OddError())},
    "a model": {"exc_info": failed(ModelError())},
    "no exception": {"exc_info": (1, 2, 3)},
    "an exception as a value": {"a": failed(OddError())},
    "itself as its cause": {"exc_info": failed(ValueError(Odd()))},
}


@pytest.mark.parametrize("layout", ["json", "console"])
@pytest.mark.parametrize("things", THINGS.values(), ids=THINGS)
def test_logging_does_not_raise(
    capsys: pytest.CaptureFixture[str], layout: Literal["json", "console"], things: dict[str, Any]
) -> None:
    """Whatever is logged makes one line, with what can be shown."""
    configure_logs(level="info", layout=layout, redact=SECRET_NAMES)
    structlog.get_logger("test").info("said", tenant_id="t-1", **things)
    said = capsys.readouterr().err
    assert "said" in said
    assert "t-1" in said
    assert "hunter2" not in said or "exc_info" in things
    if layout == "json":
        assert len(said.splitlines()) == 1
        assert json.loads(said)["level"] == "info"


def test_a_line_that_could_not_be_rendered_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has its texts, and why it could not be rendered."""
    configure_logs(level="info", layout="json", redact=SECRET_NAMES)
    structlog.get_logger("test").info("said", tenant_id="t-1", a=Odd(), password="hunter2")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["tenant_id"], line["password"]) == ("said", "t-1", "***")
    assert line["not_rendered"] == "RuntimeError"


def test_an_exception_that_is_a_model_has_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not shown field by field."""
    configure_logs(level="info", layout="json", redact=SECRET_NAMES)
    structlog.get_logger("test").error("said", exc_info=failed(ModelError()))
    assert "Traceback" in json.loads(capsys.readouterr().err)["exception"]


THING = st.none() | st.text(max_size=5) | st.binary() | st.floats() | st.integers() | st.builds(Odd)
NAMES = st.text(max_size=5) | st.integers() | st.tuples(st.integers())


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            THING, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=5
        ),
        max_size=5,
    ),
    st.sampled_from(["json", "console"]),
)
def test_anything_may_be_logged(things: dict[str, Any], layout: Literal["json", "console"]) -> None:
    """Anything that is logged is one line, and never raises an exception."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logs(level="info", layout=layout, redact=SECRET_NAMES)
        structlog.get_logger("test").bind(**things).info("said")
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize("layout", ["json", "console"])
def test_a_log_shows_no_userinfo(layout: Literal["json", "console"]) -> None:
    """It is masked in values, in what lies within them, in a line's text and in a traceback."""
    url = "https://user:hunter2@git.example/a"
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logs(level="info", layout=layout, redact=SECRET_NAMES)
        log = structlog.get_logger("test")
        log.info(f"cloning {url}", url=url, within={"a": [url, f"see {url}"]})
        log.info("failed", exc_info=failed(RuntimeError(url)))
    assert "git.example" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


#: What moves a terminal's cursor, adds a line, or turns the order of letters around.
CONTROL = "a\x1b[2J\x9b2J\x7f\r\nb\u202ec\u2066d\u2028e"


@pytest.mark.parametrize("layout", ["json", "console"])
def test_a_log_has_no_control_characters(layout: Literal["json", "console"]) -> None:
    """Names, values, texts and tracebacks have none; JSON has each as its escape."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logs(level="info", layout=layout, redact=SECRET_NAMES)
        log = structlog.get_logger("test")
        log.info(CONTROL, value=CONTROL, within={"a": [CONTROL]}, **{CONTROL: Odd()})
        log.info("failed", exc_info=failed(RuntimeError(CONTROL)))
    lines = stream.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    if layout == "json":
        assert json.loads(lines[-2])["exception"].endswith(CONTROL)


@pytest.fixture
def root_as_before() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = before


def log_failure(name: str, text: str) -> None:
    """A line of a library, about an exception with a credential in it."""
    try:
        raise ValueError("x-api-key: hunter2")
    except ValueError:
        logging.getLogger(name).exception("%s\nhandle: <Handle hunter2>", text)


@pytest.mark.usefixtures("root_as_before")
@pytest.mark.parametrize("name", ["asyncio", "aiohttp.server", "botocore.retries"])
def test_libraries_log_in_the_services_format(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """One line, whatever was set up before: what happened, the class of the error and where, but
    neither its text nor a traceback."""
    logging.getLogger().addHandler(logging.StreamHandler())
    for _ in range(2):
        configure_logs(level="info", layout="json", redact=SECRET_NAMES)
    log_failure(name, "Task exception was never retrieved")
    (said,) = capsys.readouterr().err.splitlines()
    line = json.loads(said)
    assert line["event"] == "Task exception was never retrieved"
    assert (line["level"], line["logger"], line["error"]) == ("error", name, "ValueError")
    assert line["raised_at"].startswith("test_logs.py:")
    assert "hunter2" not in said


@pytest.mark.usefixtures("root_as_before")
@pytest.mark.parametrize(("level", "count"), [("debug", 2), ("warning", 2), ("error", 1)])
def test_the_level_counts_for_libraries_too(
    capsys: pytest.CaptureFixture[str], level: str, count: int
) -> None:
    """Lines below warning are never logged; `log.level` may allow fewer still."""
    configure_logs(level=level, layout="json", redact=SECRET_NAMES)
    for number in (logging.INFO, logging.WARNING, logging.CRITICAL + 5):
        logging.getLogger("library").log(number, "said %d", number)
    assert len(capsys.readouterr().err.splitlines()) == count


@pytest.mark.usefixtures("root_as_before")
@pytest.mark.parametrize(
    ("text", "values"), [("%d of %s", ("one",)), ("%s", (Odd(),)), (Odd(), ()), ("", ())]
)
def test_a_malformed_log_call_of_a_library_is_logged(
    capsys: pytest.CaptureFixture[str], text: Any, values: tuple[Any, ...]
) -> None:
    """A malformed call is one line, and raises no exception."""
    configure_logs(level="info", layout="json", redact=SECRET_NAMES)
    logging.getLogger("library").warning(text, *values)
    (said,) = capsys.readouterr().err.splitlines()
    assert json.loads(said)["logger"] == "library"
