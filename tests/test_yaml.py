import time
from typing import Any

import pytest

from exporter.runtime.yaml import NotYaml, parse_yaml
from exporter.settings import SettingsError, load


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "x: {a: 1, b: 2, 'a': 3}", "x: [{a: 1, a: 1}]"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(NotYaml, match="the key is given twice"):
        parse_yaml(text)


def test_a_merged_key_may_be_overridden_again_and_again() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\nd: {<<: [*a, *b]}"

    merged, _ = parse_yaml(text)
    assert (merged["c"], merged["d"]) == ({"x": 3, "y": 1}, {"x": 1, "y": 1})


def test_merging_cannot_fill_the_memory() -> None:
    doubling = "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
    began = time.monotonic()
    with pytest.raises(NotYaml):
        parse_yaml("a0: &a0 {x: 1, y: 2}\n" + doubling)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("option", ["web: {disable-exporter-metrics: %s}", "poll: {interval: %s}"])
def test_aliases_are_not_written_out(option: str, tmp_path: Any) -> None:
    laughs = "[&a0 [x, x]" + "".join(f", &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)) + "]"
    file = tmp_path / "exporter.yml"
    file.write_text(option % laughs)
    began = time.monotonic()
    with pytest.raises(SettingsError):
        load([f"--config.file={file}"], {})
    assert time.monotonic() - began < 2


def test_a_twin_in_the_configuration_is_told_with_its_line(tmp_path: Any) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("poll: {interval: 5s}\nlog: {}\npoll: {interval: 6s}\n")
    with pytest.raises(SettingsError, match=r"exporter\.yml: line 3: the key is given twice$"):
        load([f"--config.file={file}"], {})
