import os
from pathlib import Path
from unittest.mock import patch

import pytest

from exporter.settings import ApiKey, SettingsError, load, resolve_key

KEY = "s3cretKey"
PRIVATE = "--cohere.base-url=http://localhost:8080"


def resolve(*argv: str, **environ: str) -> ApiKey:
    return resolve_key(load(argv, environ)[1], environ)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        resolve(*argv, **environ)
    assert KEY not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return file


def test_the_key_comes_from_the_environment_ours_before_the_sdk_s() -> None:
    assert resolve(COHERE_API_KEY=f" {KEY}\n").read() == KEY
    assert resolve(CO_API_KEY=KEY).read() == KEY
    assert resolve(COHERE_API_KEY=KEY, CO_API_KEY="other").read() == KEY
    assert resolve(COHERE_API_KEY=" ", CO_API_KEY=KEY).read() == KEY


def test_the_key_comes_from_a_file_without_the_blanks_around_it(file: Path) -> None:
    assert resolve(f"--cohere.api-key-file={file}").read() == KEY


def test_the_file_is_read_once_at_the_start(file: Path) -> None:
    with patch("exporter.settings.key.read_again", return_value=KEY.encode()) as read:
        resolve(f"--cohere.api-key-file={file}")
    read.assert_called_once()


def test_a_missing_key_is_an_error_on_cohere_s_hosts_only() -> None:
    assert refusal().startswith("no API key: set COHERE_API_KEY or --cohere.api-key-file")
    assert resolve(PRIVATE).read() == ""


@pytest.mark.parametrize(
    "url", ["https://api.cohere.com", "https://API.Cohere.AI:443/v1", "https://stg.api.cohere.com."]
)
def test_cohere_s_own_hosts_need_a_key(url: str) -> None:
    assert refusal(f"--cohere.base-url={url}").startswith("no API key")


@pytest.mark.parametrize(
    "url",
    ["https://cohere.com.example", "https://notcohere.com", "http://localhost:8080/api.cohere.com"],
)
def test_other_hosts_need_no_key(url: str) -> None:
    assert resolve(f"--cohere.base-url={url}").read() == ""


def test_an_empty_file_is_an_error_on_cohere_s_hosts_only(file: Path) -> None:
    file.write_text(" \n")

    assert refusal(f"--cohere.api-key-file={file}") == f"--cohere.api-key-file: {file} is empty"
    blank = resolve(PRIVATE, f"--cohere.api-key-file={file}")
    assert (blank.read(), blank.error) == ("", None)


@pytest.mark.parametrize("variable", ["COHERE_API_KEY", "CO_API_KEY"])
def test_two_sources_of_the_key_are_an_error(variable: str, file: Path) -> None:
    message = refusal(**{variable: KEY, "COHERE_EXPORTER_COHERE_API_KEY_FILE": str(file)})

    assert message == f"{variable} and COHERE_EXPORTER_COHERE_API_KEY_FILE are both set; keep one"


def test_an_unreadable_file_is_an_error_that_names_option_and_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    config = tmp_path / "exporter.yml"
    config.write_text(f"cohere: {{api-key-file: {missing}}}")

    assert refusal(f"--config.file={config}") == (
        f"{config}: cohere.api-key-file: cannot read {missing}: No such file or directory"
    )
    assert refusal(PRIVATE, f"--cohere.api-key-file={tmp_path}").endswith(
        f"cannot read {tmp_path}: Is a directory"
    )


@pytest.mark.parametrize(
    "key", [f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}\x01x", f"{KEY}é", f"{KEY}\x7f", KEY * 2000]
)
def test_a_key_that_is_no_header_is_refused_and_not_repeated(key: str, file: Path) -> None:
    file.write_text(key, encoding="utf-8")

    assert refusal(COHERE_API_KEY=key).startswith("COHERE_API_KEY: cannot be an API key: ")
    assert refusal(f"--cohere.api-key-file={file}").startswith(
        f"--cohere.api-key-file: the content of {file} cannot be an API key: "
    )


@pytest.mark.parametrize("content", [f"\ufeff{KEY}\r\n", f"\ufeff {KEY}", f"{KEY}\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_key(content: str, file: Path) -> None:
    file.write_text(content, encoding="utf-8")
    assert resolve(f"--cohere.api-key-file={file}").read() == KEY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f'"{KEY}"', "is in quotes"),
        (f"'{KEY}'\n", "is in quotes"),
        (f"COHERE_API_KEY={KEY}", "begins with NAME="),
        (f"COHERE_API_KEY='{KEY}'\n", "begins with NAME="),
        (f"export CO_API_KEY={KEY}\n", "begins with NAME="),
        (f"FIRST=1\nCOHERE_API_KEY={KEY}\n", "begins with NAME="),
        (f"Bearer {KEY}", "begins with Bearer"),
        ("${COHERE_API_KEY}", "is a variable that was not expanded"),
        ("$(COHERE_API_KEY)", "is a variable that was not expanded"),
        (f'{{"api_key":"{KEY}"}}', "is JSON"),
    ],
)
def test_what_tools_write_around_a_key_is_recognised_before_it_is_sent(
    content: str, says: str, file: Path
) -> None:
    file.write_text(content)
    assert f"the content of {file} {says}" in refusal(f"--cohere.api-key-file={file}")
    assert refusal(COHERE_API_KEY=content).startswith(f"COHERE_API_KEY: {says}")


@pytest.mark.parametrize("key", ["ABCDEF=", "ABCDEF==", "a=b", "it's", '"', "x{y}", "KEY-1=2"])
def test_a_key_may_have_any_of_these_characters(key: str, file: Path) -> None:
    file.write_text(key)
    assert resolve(f"--cohere.api-key-file={file}").read() == key


def test_a_rotated_key_is_used_without_a_restart(file: Path) -> None:
    key = ApiKey(file=file)
    file.write_text("rotated")

    assert key.read() == "rotated"
    assert set(key.secrets()) == {KEY, "rotated"}


@pytest.mark.parametrize("content", ["", " \n", "two words", "é", None])
def test_a_file_that_goes_bad_keeps_the_last_good_key_and_says_so(content: str | None, file: Path) -> None:
    key = ApiKey(file=file)
    file.unlink()
    if content is not None:
        file.write_text(content, encoding="utf-8")

    assert key.read() == KEY
    assert key.error is not None
    assert str(file) in key.error
    assert KEY not in key.error

    file.write_text("mended")
    assert key.read() == "mended"
    assert key.error is None


def test_a_key_is_shown_by_no_repr(file: Path) -> None:
    for key in (ApiKey(KEY), ApiKey(file=file), ApiKey()):
        assert KEY not in f"{key!r} {key}"
    settings = load([], {"COHERE_API_KEY": KEY})[1]
    assert KEY not in repr(settings) + str(settings.model_dump())


def test_a_fixed_key_stays(file: Path) -> None:
    assert ApiKey("demo").read() == "demo"
    assert ApiKey("demo").secrets() == ("demo",)
    assert ApiKey().secrets() == ()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refusal(PRIVATE, f"--cohere.api-key-file={pipe}").endswith("a pipe cannot be read again")


def test_a_file_that_turns_into_a_pipe_is_not_waited_for(file: Path) -> None:
    key = ApiKey(file=file)
    file.unlink()
    os.mkfifo(file)

    assert key.read() == KEY
    assert key.error == f"cannot read {file}: a pipe cannot be read again"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    assert refusal(PRIVATE, f"--cohere.api-key-file={path}").endswith(f"cannot read {path}: not a file")


def test_a_log_given_for_a_key_is_refused_and_not_read_to_its_end(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 40)
    assert refusal(f"--cohere.api-key-file={file}").endswith(f"cannot read {file}: larger than 64 KiB")


def test_an_empty_file_is_used_once_it_holds_a_key(file: Path) -> None:
    file.write_text("")
    key = resolve(PRIVATE, f"--cohere.api-key-file={file}")
    assert key.read() == ""
    file.write_text(KEY)
    assert key.read() == KEY
