"""The pages under docs/ say what the code says."""

from pathlib import Path

import pytest

from docs.generate import PAGES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_as_the_code_would_write_it(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"
