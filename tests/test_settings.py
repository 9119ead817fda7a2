from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.settings import ListenAddress, Option, Settings, SettingsError, load, options, unknown_variables

SECRET = "s3cretKey"
GROUPS = "cohere, poll, models, training, metrics, web, log, demo"
TAGGED = ('int ""', 'float ""', "bool x", "timestamp x")  # for which PyYAML has no error of its own


def settings(*argv: str, **environ: str) -> Settings:
    return load(argv, environ)[1]


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(argv, environ)
    message = str(refused.value)
    assert message.isprintable()
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yml"


# What is declared


def test_every_default_is_the_one_of_the_contract() -> None:
    assert {option.flag: option.default for option in options()} == {
        "--config.file": "",
        "--cohere.base-url": "https://api.cohere.com",
        "--cohere.api-key-file": "",
        "--cohere.ca-file": "",
        "--cohere.client-cert-file": "",
        "--cohere.client-key-file": "",
        "--cohere.client-name": "cohere-finetune-exporter",
        "--cohere.timeout": "30s",
        "--cohere.concurrency": "8",
        "--cohere.requests-per-minute": "300",
        "--cohere.calls-per-month": "0",
        "--cohere.budget-file": "",
        "--cohere.page-size": "0",
        "--poll.interval": "60s",
        "--poll.idle-interval": "the interval",
        "--poll.stale-after": "5 times the interval",
        "--models.limit": "1000",
        "--training.metric-limit": "50",
        "--training.steps-window": "2m",
        "--training.metrics": "",
        "--metrics.exclude": "",
        "--web.listen-address": ":10220",
        "--web.probe-address": "",
        "--web.telemetry-path": "/metrics",
        "--web.config.file": "",
        "--web.max-requests": "40",
        "--web.disable-exporter-metrics": "false",
        "--log.level": "info",
        "--log.format": "logfmt",
        "--demo.speed": "60",
        "--demo.seed": "",
        "--demo.models": "",
    }


def test_a_row_gives_every_name_of_an_option() -> None:
    row = next(option for option in options() if option.name == "stale_after")

    assert (row.flag, row.variable, row.key) == (
        "--poll.stale-after",
        "COHERE_EXPORTER_POLL_STALE_AFTER",
        "poll.stale-after",
    )
    assert row.metavar == "DURATION"
    assert (
        row.meaning == "How long the last good data is served while polls fail; then it is stale and dropped."
    )


def test_an_option_that_every_exporter_has_is_spelled_as_there(file: Path) -> None:
    row = next(option for option in options() if option.name == "config_file")
    assert (row.flag, row.variable) == ("--web.config.file", "COHERE_EXPORTER_WEB_CONFIG_FILE")

    path = Path("/etc/web.yml")
    file.write_text("web: {config: {file: /etc/web.yml}}\n")
    chosen = settings(f"--config.file={file}")
    assert chosen.web.config_file == path
    assert settings("--web.config.file=/etc/web.yml").web.config_file == path
    assert settings(COHERE_EXPORTER_WEB_CONFIG_FILE="/etc/web.yml").web.config_file == path


def test_every_option_has_a_meaning_and_its_names_are_unique() -> None:
    rows = list(options())

    assert all(row.meaning.endswith(".") for row in rows)
    assert len({row.variable for row in rows}) == len({row.flag for row in rows}) == len(rows)


def test_defaults_are_typed() -> None:
    defaults = settings()

    assert defaults == Settings()
    assert (defaults.cohere.timeout, defaults.poll.interval, defaults.cohere.concurrency) == (30.0, 60.0, 8)
    assert defaults.web.listen_address == (ListenAddress("", 10220),)
    assert defaults.web.disable_exporter_metrics is False
    assert (defaults.metrics.exclude, defaults.config.file, defaults.cohere.api_key_file) == (
        None,
        None,
        None,
    )
    assert defaults.demo.speed == 60.0
    assert (defaults.demo.seed, defaults.demo.models) == (None, None)


def test_settings_are_frozen_and_know_nothing_else() -> None:
    with pytest.raises(ValidationError):
        settings().poll.interval = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(poll={"pause": "5s"})


def test_settings_built_by_hand_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHERE_EXPORTER_POLL_INTERVAL", "7s")

    assert Settings().poll.interval == 60
    assert settings().poll.interval == 60


# Where it comes from


def test_a_flag_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    file.write_text("models: {limit: 1}\ntraining: {metric-limit: 1}\nweb: {max-requests: 1}\n")
    chosen = settings(
        f"--config.file={file}",
        "--models.limit=3",
        COHERE_EXPORTER_MODELS_LIMIT="2",
        COHERE_EXPORTER_TRAINING_METRIC_LIMIT="2",
    )

    assert (chosen.models.limit, chosen.training.metric_limit, chosen.web.max_requests) == (3, 2, 1)


@pytest.mark.parametrize("option", [o for o in options() if o.metavar == "NUMBER"], ids=lambda o: o.key)
def test_every_option_is_a_variable_and_a_key_of_the_file(option: Option, file: Path) -> None:
    def value(chosen: Settings) -> Any:
        return getattr(getattr(chosen, option.group), option.name)

    assert value(load([], {option.variable: "17"})[1]) == 17
    file.write_text(f"{option.group}:\n  {option.key.partition('.')[2]}: 18\n")
    assert value(settings(f"--config.file={file}")) == 18


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    file.write_text("poll: {interval: 5m}")
    chosen = settings(COHERE_EXPORTER_CONFIG_FILE=str(file))

    assert (chosen.poll.interval, chosen.config.file) == (300, file)


def test_an_empty_variable_counts_as_unset(file: Path) -> None:
    file.write_text("poll: {interval: 5m}\ncohere: {base-url: https://file.example}")
    chosen = settings(f"--config.file={file}", COHERE_EXPORTER_POLL_INTERVAL="", CO_API_URL=" ")

    assert (chosen.poll.interval, chosen.cohere.base_url) == (300, "https://file.example")


def test_the_base_url_of_the_sdk_ranks_between_ours_and_the_file(file: Path) -> None:
    file.write_text("cohere: {base-url: https://file.example}")
    named, ours = f"--config.file={file}", "https://ours.example"

    sdk = settings(named, CO_API_URL="https://sdk.example/v1")
    assert sdk.cohere.base_url == "https://sdk.example"
    both = settings(named, CO_API_URL="https://sdk.example", COHERE_EXPORTER_COHERE_BASE_URL=ours)
    assert both.cohere.base_url == ours


def test_variables_that_look_like_json_are_text() -> None:
    chosen = settings(COHERE_EXPORTER_METRICS_EXCLUDE="[0-9]+", COHERE_EXPORTER_WEB_LISTEN_ADDRESS="[::1]:80")

    assert chosen.metrics.exclude is not None
    assert chosen.metrics.exclude.fullmatch("17")
    assert chosen.web.listen_address == (ListenAddress("::1", 80),)


KUBERNETES = {
    "COHERE_EXPORTER_PORT": "tcp://10.0.0.1:10220",
    "COHERE_EXPORTER_SERVICE_HOST": "10.0.0.1",
    "COHERE_EXPORTER_SERVICE_PORT": "10220",
    "COHERE_EXPORTER_SERVICE_PORT_HTTP_METRICS": "10220",
    "COHERE_EXPORTER_PORT_10220_TCP": "tcp://10.0.0.1:10220",
    "COHERE_EXPORTER_PORT_10220_TCP_ADDR": "10.0.0.1",
    "COHERE_EXPORTER_PORT_10220_TCP_PORT": "10220",
    "COHERE_EXPORTER_PORT_10220_TCP_PROTO": "tcp",
    "COHERE_EXPORTER_WEB_PORT": "tcp://10.0.0.1:10220",
    "COHERE_EXPORTER_COHERE_SERVICE_HOST": "10.0.0.1",
}


def test_what_kubernetes_injects_is_neither_fatal_nor_reported() -> None:
    assert load([], KUBERNETES)[1] == Settings()
    assert unknown_variables(KUBERNETES) == {}


def test_unknown_variables_of_ours_are_reported_but_not_fatal() -> None:
    environ = {
        "COHERE_EXPORTER_POLL_INTERVALL": "5s",
        "COHERE_EXPORTER_POLL": "{",
        "COHERE_EXPORTER_WEB_PORT": "80",
        "COHERE_EXPORTER_COHERE_BASE_URLL": "https://x/a_SERVICE_HOST=_PORT=tcp://",
        "COHERE_EXPORTER_MY_SERVICE_HOSTNAME": "x",
        "COHERE_EXPORTER_MY_PORT_80_TCP_ADDRESS": "x",
        "COHERE_EXPORTER_LOG_LEVEL": "warn",
        "COHERE_EXPORTER_EMPTY": "",
        "PATH": "/bin",
    }

    assert load([], environ)[1].log.level == "warn"
    assert unknown_variables(environ) == {
        "COHERE_EXPORTER_COHERE_BASE_URLL": "; did you mean COHERE_EXPORTER_COHERE_BASE_URL?",
        "COHERE_EXPORTER_MY_PORT_80_TCP_ADDRESS": "",
        "COHERE_EXPORTER_MY_SERVICE_HOSTNAME": "",
        "COHERE_EXPORTER_POLL": "",
        "COHERE_EXPORTER_POLL_INTERVALL": "; did you mean COHERE_EXPORTER_POLL_INTERVAL?",
        "COHERE_EXPORTER_WEB_PORT": "",
    }


@pytest.mark.parametrize("flag", ["--cohere.base-url=https://x.example", "--cohere.api-key-file=key"])
@pytest.mark.parametrize("command", ["demo", "check --demo"])
def test_a_flag_that_points_at_an_api_is_refused_where_it_is_simulated(command: str, flag: str) -> None:
    name = flag.partition("=")[0]
    assert refusal(*command.split(), flag) == f"{name}: cannot be used with the simulated API"


# The file


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "poll:\n", "metrics: {exclude: null}\n"])
def test_a_file_that_says_nothing_changes_nothing(content: str, file: Path) -> None:
    file.write_text(content)

    assert settings(f"--config.file={file}").poll == Settings().poll


def test_a_file_may_hold_yaml_numbers_and_booleans(file: Path) -> None:
    file.write_text("poll: {interval: 90}\ndemo: {speed: 0.5}\nweb: {disable-exporter-metrics: yes}\n")
    chosen = settings(f"--config.file={file}")

    assert (chosen.poll.interval, chosen.demo.speed, chosen.web.disable_exporter_metrics) == (90.0, 0.5, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- poll", "must be a mapping of option groups, such as poll: {interval: 60s}"),
        (SECRET, "must be a mapping of option groups, such as poll: {interval: 60s}"),
        ("poll: 60s", "line 1: poll: must be a mapping of options, such as poll: {interval: 60s}"),
        ("pol: {}", "line 1: unknown key; did you mean poll?"),
        ("'':\npoll: {}", f"line 1: unknown key; known are {GROUPS}"),
        (
            "web:\n  <<: {config: {file: a}}\n  config: x",
            "line 3: web.config: must be a mapping of options, such as poll: {interval: 60s}",
        ),
        (f"{SECRET}: 1", f"line 1: unknown key; known are {GROUPS}"),
        (f"cohere.api-key-{SECRET}: 1", f"line 1: unknown key; known are {GROUPS}"),
        (f"models: {{{SECRET}: x}}", "line 1: models: unknown key; known are models.limit"),
        (f"web: {{config: {{{SECRET}: x}}}}", "line 1: web.config: unknown key; known are web.config.file"),
        (
            "log: {}\npoll:\n  interval: 1s\n  intervall: 1",
            "line 4: poll: unknown key; did you mean poll.interval?",
        ),
        ("log:\n  17: 1", "line 2: log: unknown key; known are log.level, log.format"),
        (
            f"cohere.api_key: {SECRET}",
            (
                "line 1: cohere.api_key: the API key cannot be set here; "
                "set COHERE_API_KEY or cohere.api-key-file"
            ),
        ),
        ("poll:\n  interval: 1s\n  interval: 2s", "line 3: the key is given twice"),
        ("web: {config.file: x, config.file: x}", "line 1: the key is given twice"),
        ("cohere: {api_key_file: x, api_key_file: x}", "line 1: the key is given twice"),
        (f"poll: {{{SECRET}, {SECRET}}}", "line 1: the key is given twice"),
        (
            "poll:\n  interval: {{ x }}",
            (
                "line 2: is not valid YAML: a mapping or a list as a key; "
                "a value that begins with { or [ must be in quotes"
            ),
        ),
        ("web: {config: {fill: x}}", "line 1: web.config: unknown key; did you mean web.config.file?"),
        ("web: {config-file: x}", "line 1: web: unknown key; did you mean web.config.file?"),
        (
            "web: {config: x}",
            "line 1: web.config: must be a mapping of options, such as poll: {interval: 60s}",
        ),
        ("poll: {stale_after: 5m}", "line 1: poll: unknown key; did you mean poll.stale-after?"),
        ("web: {config: {file: [x]}}", "web.config.file: must be the path of a file"),
        (
            "web: {config: {file: x}, config.file: y}",
            "line 1: web.config.file is given twice, nested and with a dot; keep one",
        ),
        ("config: {file: x}", "line 1: config.file: cannot be set in the file itself"),
        (
            f"cohere: {{api_key: {SECRET}}}",
            (
                "line 1: cohere.api_key: the API key cannot be set here; "
                "set COHERE_API_KEY or cohere.api-key-file"
            ),
        ),
        (f"poll:\n  interval: '{SECRET}\n", "line 3: is not valid YAML: a quote is not closed"),
        (f"poll: {{}}\n\t{SECRET}\n", "line 2: is not valid YAML: indent with spaces, not tabs"),
        (
            f"poll: !!{SECRET} 1",
            (
                "line 1: is not valid YAML: "
                "a tag (!) that is not known; a value that begins with ! must be in quotes"
            ),
        ),
        (
            f"cohere:\n  client-name: {SECRET}: x",
            "line 2: is not valid YAML: a value that holds a colon must be in quotes",
        ),
        (
            f"poll:\n  interval: 1s\n timeout: {SECRET}",
            "line 3: is not valid YAML: the indentation does not match the lines above",
        ),
        ("poll: {interval: 2024-13-45}", "is not valid YAML"),
        *((f"poll: {{interval: !!{value}}}", "is not valid YAML") for value in TAGGED),
        (f"poll:\n  ? 0x{'F' * 5_000}\n  : 1", "line 2: is not valid YAML: a number is too long"),
        (f"models: {{limit: {'9' * 5_000}}}", "line 1: is not valid YAML: a number is too long"),
        ("[" * 1000, "is not valid YAML"),
        ("a: \x00", "is not valid YAML"),
        (
            "poll: {interval: true}",
            "poll.interval: must be a duration such as 45s, 1m30s or 2h, or plain seconds",
        ),
        ("models: {limit: true}", "models.limit: must be a whole number"),
        ("models: {limit: 1.5}", "models.limit: must be a whole number"),
        ("demo: {speed: true}", "demo.speed: must be a number"),
        ("models: {limit: [1]}", "models.limit: must be a whole number"),
        (
            "web: {telemetry-path: 1}",
            (
                "web.telemetry-path: must be a path such as /metrics, without ?, #, % and blanks, "
                "and none of the probes' paths"
            ),
        ),
        ("log: {level: {a: 1}}", "log.level: must be 'debug', 'info', 'warn' or 'error'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_place(content: str, message: str, file: Path) -> None:
    file.write_text(content)
    complaint = refusal(f"--config.file={file}")

    assert complaint == f"{file}: {message}"
    assert SECRET not in complaint


def test_a_file_that_cannot_be_read_is_refused(file: Path, tmp_path: Path) -> None:
    assert refusal(f"--config.file={file}") == f"{file}: cannot be read: No such file or directory"
    assert refusal(f"--config.file={tmp_path}") == f"{tmp_path}: cannot be read: Is a directory"
    file.write_bytes(b"\xff\xfe")
    assert refusal(f"--config.file={file}") == f"{file}: cannot be read: not a UTF-8 text file"
    assert refusal("--config.file=") == "--config.file: must be the path of a file"
    assert refusal("--config.file=a\0b") == "a?b: cannot be read: not a UTF-8 text file"


# Values


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--poll.interval", "soon", "must be a duration such as 45s, 1m30s or 2h, or plain seconds"),
        ("--poll.interval", "", "must be a duration such as 45s, 1m30s or 2h, or plain seconds"),
        ("--poll.interval", "999ms", "must be at least 1s"),
        ("--poll.idle-interval", "59s", "must be at least the poll interval (1m)"),
        ("--poll.idle-interval", "32d", "must be at most 31d"),
        ("--poll.stale-after", "119s", "must be at least twice the poll interval (2m)"),
        ("--cohere.timeout", "0", "must be more than 0"),
        ("--cohere.concurrency", "0", "must be at least 1"),
        ("--cohere.concurrency", "many", "must be a whole number"),
        ("--cohere.concurrency", "1.0", "must be a whole number"),
        ("--cohere.concurrency", "1_0", "must be a whole number"),
        ("--cohere.concurrency", "9" * 5000, "must be a whole number"),
        ("--cohere.requests-per-minute", "0", "must be at least 1"),
        ("--cohere.calls-per-month", "-1", "must be at least 0"),
        ("--cohere.page-size", "-1", "must be at least 0"),
        ("--models.limit", "-1", "must be at least 0"),
        ("--training.metric-limit", "-1", "must be at least 0"),
        ("--training.metrics", "(", "must be a Python regular expression: "),
        ("--web.max-requests", "-1", "must be at least 0"),
        ("--demo.speed", "0", "must be at least 0.01"),
        ("--demo.models", "9", "must be at least 10"),
        ("--demo.models", "10001", "must be at most 10000"),
        ("--demo.seed", "lucky", "must be a whole number"),
        ("--demo.speed", "nan", "must be a number"),
        ("--demo.speed", "fast", "must be a number"),
        ("--log.level", "warning", "must be 'debug', 'info', 'warn' or 'error'"),
        ("--log.format", "xml", "must be 'logfmt' or 'json'"),
        ("--metrics.exclude", "(", "must be a Python regular expression: "),
        ("--metrics.exclude", "a{99999999999}", "must be a Python regular expression: "),
        ("--cohere.client-name", "", "must be printable ASCII text"),
        ("--cohere.client-name", "a\nb", "must be printable ASCII text"),
        ("--cohere.client-name", "modèle", "must be printable ASCII text"),
        ("--cohere.api-key-file", "", "must be the path of a file"),
    ],
)
def test_a_value_that_is_not_allowed_names_the_flag_and_what_is(flag: str, value: str, allowed: str) -> None:
    assert refusal(f"{flag}={value}").startswith(f"{flag}: {allowed}")


def test_a_refusal_names_the_option_as_it_was_given(file: Path) -> None:
    file.write_text("poll: {interval: never}")

    assert refusal(COHERE_EXPORTER_DEMO_SPEED="x") == "COHERE_EXPORTER_DEMO_SPEED: must be a number"
    assert refusal(CO_API_URL="x").startswith("CO_API_URL: must be an http or https URL")
    assert refusal(f"--config.file={file}").startswith(f"{file}: poll.interval: must be a duration")
    assert refusal(COHERE_EXPORTER_WEB_DISABLE_EXPORTER_METRICS="perhaps") == (
        "COHERE_EXPORTER_WEB_DISABLE_EXPORTER_METRICS: must be true or false"
    )


def test_the_first_of_several_wrong_values_is_reported() -> None:
    assert refusal("--demo.speed=x", "--poll.interval=x").startswith("--poll.interval: ")


def test_what_follows_from_the_interval_is_none_unless_given() -> None:
    derived, given = settings("--poll.interval=2m").poll, settings("--poll.stale-after=1h").poll

    assert (derived.idle_interval, derived.stale_after) == (None, None)
    assert (given.idle_interval, given.stale_after) == (None, 3600)
    assert settings("--poll.stale-after=2m").poll.stale_after == 120
    assert settings("--poll.interval=2m", "--poll.idle-interval=2m").poll.idle_interval == 120
    assert settings("--poll.idle-interval=15m").poll.idle_interval == 900


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.cohere.com/", "https://api.cohere.com"),
        ("https://api.cohere.com/v1", "https://api.cohere.com"),
        ("https://api.cohere.com/v1/", "https://api.cohere.com"),
        ("https://host.example/cohere/v1/", "https://host.example/cohere"),
        ("https://host.example/cohere/", "https://host.example/cohere"),
        ("https://host.example/apiv1", "https://host.example/apiv1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
        ("HTTP://localhost:8080", "http://localhost:8080"),
    ],
)
def test_a_base_url_loses_its_end_and_keeps_its_prefix(given: str, kept: str) -> None:
    assert settings(f"--cohere.base-url={given}").cohere.base_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.cohere.com",
        "ftp://api.cohere.com",
        "https://",
        "https:///v1",
        "https://[::1",
        "https://host:port",
        "https://host:99999",
        "https://ho st",
        "https://host/a\nb",
        "https://host\\evil",
        f"https://user:{SECRET}@host",
        f"https://{SECRET}@host",
        f"https://host/?key={SECRET}",
        f"https://host/#{SECRET}",
        "https://host?",
    ],
)
def test_a_base_url_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    message = refusal(f"--cohere.base-url={url}")

    assert message.startswith("--cohere.base-url: must ")
    assert SECRET not in message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10220", ("", 10220)),
        (":0", ("", 0)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_a_listen_address_is_split_and_written_back(text: str, address: tuple[str, int]) -> None:
    (parsed,) = settings(f"--web.listen-address={text}").web.listen_address

    assert parsed == address
    assert str(parsed) == text


def test_there_may_be_several_listen_addresses(tmp_path: Path) -> None:
    wanted = (ListenAddress("127.0.0.1", 1), ListenAddress("::1", 2))
    file = tmp_path / "config.yml"
    file.write_text("web: {listen-address: ['127.0.0.1:1', '[::1]:2']}")
    for given in (
        settings("--web.listen-address=127.0.0.1:1", "--web.listen-address=[::1]:2"),
        settings(COHERE_EXPORTER_WEB_LISTEN_ADDRESS="127.0.0.1:1, [::1]:2"),
        settings(f"--config.file={file}"),
    ):
        assert given.web.listen_address == wanted


def test_the_probes_have_an_address_of_their_own_if_asked_for() -> None:
    assert settings().web.probe_address is None
    assert settings("--web.probe-address=:10221").web.probe_address == ListenAddress("", 10221)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10220",
        "localhost",
        "::1:80",
        "[::1]",
        "[x]:80",
        "[]:80",
        ":65536",
        ":-1",
        ":x",
        "a b:1",
        "a:\u0661",
    ],
)
def test_a_listen_address_that_is_none_is_refused(text: str) -> None:
    assert refusal(f"--web.listen-address={text}") == (
        "--web.listen-address: must be HOST:PORT, [IPV6]:PORT or :PORT, the port from 0 to 65535"
    )


@pytest.mark.parametrize("path", ["metrics", "", "/a?b", "/a#b", "/a b", "/a\x7fb", "/-/healthy", "/-/ready"])
def test_a_telemetry_path_that_cannot_be_served_is_refused(path: str) -> None:
    assert refusal(f"--web.telemetry-path={path}").startswith("--web.telemetry-path: must be ")


def test_families_are_excluded_by_a_full_match() -> None:
    exclude = settings("--metrics.exclude=cohere_a|cohere_ab").metrics.exclude

    assert exclude is not None
    assert exclude.fullmatch("cohere_ab")
    assert not exclude.fullmatch("cohere_abc")
    assert settings("--metrics.exclude=").metrics.exclude is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("Yes", True), ("false", False), ("0", False), ("off", False)],
)
def test_a_switch_by_environment_reads_the_usual_words(text: str, value: bool) -> None:
    chosen = settings(COHERE_EXPORTER_WEB_DISABLE_EXPORTER_METRICS=text)

    assert chosen.web.disable_exporter_metrics is value


@pytest.mark.parametrize(
    "option",
    [o for o in options() if o.metavar not in ("FILE", "TEXT", "REGEX")],
    ids=lambda o: o.key,
)
def test_no_refusal_repeats_a_value(option: Option) -> None:
    value = f"{SECRET} \n" if option.metavar else SECRET

    assert SECRET not in refusal(*[f"{option.flag}={value}"])


def test_a_demo_polls_often_unless_told_otherwise(file: Path) -> None:
    file.write_text("poll: {interval: 20s}")
    assert settings("demo").poll.interval == 5
    assert settings("demo", "--poll.stale-after=12s").poll.stale_after == 12
    assert settings("demo", "--poll.interval=30s").poll.interval == 30
    assert settings("demo", f"--config.file={file}").poll.interval == 20
    assert settings("serve").poll.interval == 60


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("--demo.speed=1e308", "at most 10000"),
        ("--demo.speed=1e-300", "at least 0.01"),
        ("--poll.interval=100y", "at most 31d"),
    ],
)
def test_values_beyond_all_measure_are_refused(flag: str, allowed: str) -> None:
    assert refusal(flag).endswith(allowed)
