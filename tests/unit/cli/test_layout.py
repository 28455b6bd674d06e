"""How lists, fields and times are laid out for a terminal."""

import pytest

from orchestrator.cli.layout import Row, fields, show_duration, show_time, table, wrap

TENANT = "6f2c0e1e-7f0b-4a53-9a57-3d1f5a0c9b11"


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2026-11-20T09:14:03.123456+00:00", "2026-11-20T09:14:03Z"),
        ("2026-11-20T10:14:03+01:00", "2026-11-20T09:14:03Z"),
        ("2026-11-20T09:14:03Z", "2026-11-20T09:14:03Z"),
        (None, "-"),
        ("soon", "soon"),
    ],
)
def test_times_are_in_utc_to_the_second(moment: str | None, shown: str) -> None:
    """A time of any offset is shown in UTC; a text that is no time is shown as it is."""
    assert show_time(moment) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    """A duration is shown in its two largest units."""
    assert show_duration(seconds) == shown


def test_a_table_fits_the_width() -> None:
    """Headings align with their cells; a column that may be narrow is cut, reasons are wrapped."""
    cells = {"RUN": "f208d036", "TYPE": "TENANT_PROVISIONING", "TENANT": TENANT}
    lines = table([Row(cells, ["word " * 40])], width=50, narrow=("TENANT",))
    assert lines[:2] == [
        "RUN       TYPE                 TENANT",
        "f208d036  TENANT_PROVISIONING  6f2c0e1e-7f0b-4a53…",
    ]
    assert [line[:11] for line in lines[2:]] == [f"{'':10}w"] * 3
    assert lines[-1].endswith(" …")
    assert max(map(len, lines)) == 50


def test_without_a_terminal_nothing_is_cut() -> None:
    """A pipe gets each reason in one line."""
    lines = table([Row({"TENANT": TENANT}, ["word " * 40])], width=None, narrow=("TENANT",))
    assert lines == ["TENANT", TENANT, f"{'':38}{'word ' * 40}"]


def test_the_measured_width_is_the_printed_one() -> None:
    """Control characters count as they are escaped, and cells stay in their columns."""
    lines = table([Row({"A": "a\x1b", "Z": "z"}), Row({"A": "a", "Z": "z"})], width=80)
    assert [line.index("z") for line in lines[1:]] == [7, 7]


def test_a_link_is_never_broken() -> None:
    """It can be clicked, however narrow the terminal is."""
    link = f"https://console.aws.amazon.com/{'x' * 100}"
    assert wrap(f"see {link} there", width=40) == ["see", link, "there"]


def test_fields_without_a_value_are_left_out() -> None:
    """The others are aligned."""
    shown = fields({"tenant": "t-1", "tier": None, "a": "b"}, width=80)
    assert shown == ["tenant  t-1", "a       b"]
