import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.settings.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("1m30s", 90),
        ("2h", 7200),
        ("1d12h", 129_600),
        ("1w", 604_800),
        ("1y", 31_536_000),
        ("1s500ms", 1.5),
        ("250ms", 0.25),
        ("0", 0),
        ("0s", 0),
        ("90", 90),
        ("0.5", 0.5),
        (".5", 0.5),
        (" 60s ", 60),
        (60, 60),
        (2.5, 2.5),
    ],
)
def test_reads_what_prometheus_writes_and_plain_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


WRONG = ["s", "-5s", "-1", "1s1m", "1s1s", "1.5h", "1h30", "1M", "1e3", "nan", "inf", "300y"]


@pytest.mark.parametrize(
    "text", [*WRONG, "", " ", "5 s", "\u0663s", "1s\n2s", "9" * 400, "9" * 18 + "y", "9" * 19 + "s"]
)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as 45s, 1m30s or 2h, or plain seconds"):
        parse_duration(text)


@pytest.mark.parametrize("value", [True, False, float("nan"), float("inf"), -1, None, [], 10**400])
def test_refuses_yaml_scalars_that_are_no_durations(value: float) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (90, "1m30s"),
        (300, "5m"),
        (0.25, "250ms"),
        (7200, "2h"),
        (90 * 86_400, "90d"),
        (14 * 86_400, "2w"),
        (365 * 86_400, "1y"),
        (366 * 86_400, "366d"),
    ],
)
def test_writes_as_prometheus_does(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=9 * 10**12))
def test_what_is_written_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000
