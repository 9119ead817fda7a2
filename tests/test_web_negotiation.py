"""What a client gets for the headers it sends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition import Format
from exporter.web.negotiation import accepts_gzip, choose_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,/;q=0.1"
)
OLD_PROMETHEUS = "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        "application/openmetrics-text",
        "Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8",
        'application/openmetrics-text;version="1.0.0"',
        "application/openmetrics-text, */*",
        "application/openmetrics-text, text/plain",
        "application/openmetrics-text;q=0.2, text/plain;q=0.1",
        "application/*, text/*;q=0.9",
        "text/plain;q=0, */*",
        "text/*;q=0.1, */*",
        "text/plain;version=0.0.4;q=0.1, text/*, application/openmetrics-text;q=0.5",
        "application/openmetrics-text;q=1., text/plain;q=.999",
    ],
)
def test_openmetrics_goes_to_those_who_want_it_most(accept: str) -> None:
    assert choose_format(accept) is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        OLD_PROMETHEUS,
        BROWSER,
        "text/plain",
        "text/*",
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "text/plain, application/openmetrics-text",
        "text/plain;charset=utf-8;q=0.9, application/openmetrics-text;q=0.8",
        "text/plain;q=0.1, text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;q=0, */*",
        "*/*, application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0",
        "*/*;q=0",
        "image/png",
        "application/json, text/plain;version=1.0.0",
    ],
)
def test_text_goes_to_everyone_else(accept: str) -> None:
    assert choose_format(accept) is Format.TEXT


@pytest.mark.parametrize(
    "quality", ["", "high", "nan", "inf", "-1", "2", "1.5", "1e0", "0x1", "0.5.5", "1_0", "\u0661"]
)
def test_a_range_whose_quality_cannot_be_read_counts_for_nothing(quality: str) -> None:
    assert choose_format(f"application/openmetrics-text;q={quality}, text/plain;q=0.1") is Format.TEXT


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "gzip",
        "GZip",
        "x-gzip",
        "*",
        "deflate, gzip;q=0.1",
        "gzip, identity",
        "gzip;q=1.0, identity; q=0.5, *;q=0",
        "br, *;q=0.5",
        "identity;q=0, *;q=0.5",
        "gzip, deflate, br, zstd",
    ],
)
def test_gzip_goes_to_those_who_allow_it(accept_encoding: str) -> None:
    assert accepts_gzip(accept_encoding)


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "",
        "identity",
        "br, deflate",
        "gzip;q=0",
        "gzip;q=0, *",
        "*;q=0",
        "identity;q=1, gzip;q=0.5",
        "gzip;q=yes",
        "gzipped",
        ";;,,==",
    ],
)
def test_nobody_else_gets_gzip(accept_encoding: str) -> None:
    assert not accepts_gzip(accept_encoding)


HEADERS = st.text() | st.lists(
    st.sampled_from(
        ["text/plain", "*/*", "gzip", "q=", "0.5", "version=", ";", ",", "=", '"', " ", "\\", "\x00"]
    )
).map("".join)


@given(HEADERS)
def test_no_text_is_too_odd(header: str) -> None:
    assert choose_format(header) in Format
    assert accepts_gzip(header) in (True, False)


def test_of_a_header_without_end_the_beginning_is_read() -> None:
    endless = "a/b," * 10_000
    assert choose_format(f"application/openmetrics-text,{endless}") is Format.OPENMETRICS
    assert choose_format(f"{endless}application/openmetrics-text") is Format.TEXT
    assert not accepts_gzip(f"{endless}gzip")
