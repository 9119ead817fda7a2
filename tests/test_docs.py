"""The pages under docs/ say what the code says."""

from pathlib import Path

import pytest

from docs.generate import PAGES
from exporter.web.format import HttpConfig, RateLimit, TlsConfig, WebConfig
from exporter.web.names import CLIENT_AUTH, CURVES, SUITES, TLS13_SUITES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_as_the_code_would_write_it(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_the_web_configuration_s_page_names_every_key_and_every_name() -> None:
    page = (ROOT / "docs" / "web-configuration.md").read_text(encoding="utf-8")
    keys = [key for section in (WebConfig, TlsConfig, HttpConfig, RateLimit) for key in section.model_fields]
    missing = [
        name for name in (*keys, *CLIENT_AUTH, *CURVES, *SUITES, *TLS13_SUITES) if f"`{name}`" not in page
    ]
    assert not missing
