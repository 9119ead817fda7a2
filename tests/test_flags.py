import re
from collections.abc import Callable

import pytest

from exporter import NAME, REVISION, __version__
from exporter.settings import Command, Option, SettingsError, Subcommand, options
from exporter.settings.flags import parse
from exporter.settings.subcommands import REAL_API, SUBCOMMANDS


def refusal(*argv: str) -> str:
    with pytest.raises(SettingsError) as refused:
        parse(argv)
    return str(refused.value)


def test_no_arguments_mean_serve() -> None:
    assert parse([]) == (Command(Subcommand.SERVE), {})


@pytest.mark.parametrize("subcommand", list(Subcommand)[:3])
def test_a_subcommand_stands_before_the_flags(subcommand: Subcommand) -> None:
    flags = ["--poll.interval", "5s", "--log.level=debug"]

    assert parse([subcommand, *flags]) == (Command(subcommand), {"poll.interval": "5s", "log.level": "debug"})
    assert refusal(*flags, subcommand) == f"the subcommand {subcommand} must stand before the flags"


@pytest.mark.parametrize(
    "argv",
    [
        "--demo check",
        "--output=json check",
        "--output json check",
        "--config-only check",
        "--log.level=x check --demo",
    ],
)
def test_a_subcommand_stands_before_its_own_flags(argv: str) -> None:
    assert refusal(*argv.split()) == "the subcommand check must stand before the flags"
    assert refusal("--nonsense", *argv.split()) == "unknown flag --nonsense; see --help"


@pytest.mark.parametrize("option", [option for option in options() if option.metavar], ids=lambda o: o.key)
def test_every_option_is_a_flag(option: Option) -> None:
    value = ["x"] if option.repeatable else "x"
    expected = (Command(Subcommand.SERVE), {option.key: value})

    assert parse([option.flag, "x"]) == expected
    assert parse([f"{option.flag}=x"]) == expected


def test_a_switch_is_turned_on_and_off() -> None:
    on, off = "--web.disable-exporter-metrics", "--no-web.disable-exporter-metrics"

    assert parse([on])[1] == {"web.disable-exporter-metrics": True}
    assert parse([off])[1] == {"web.disable-exporter-metrics": False}


@pytest.mark.parametrize(
    "flags",
    [
        ("--models.limit=1", "--models.limit=2"),
        ("--web.disable-exporter-metrics", "--no-web.disable-exporter-metrics"),
        ("check", "--output=json", "--output=table"),
    ],
)
def test_a_flag_given_twice_is_refused(flags: tuple[str, ...]) -> None:
    assert refusal(*flags) == f"{flags[-1].partition('=')[0]}: given twice"


def test_check_has_flags_of_its_own() -> None:
    command, _ = parse(["check", "--demo", "--output=json"])
    assert command == Command(Subcommand.CHECK, (), {"--demo": True, "--output": "json"})
    assert command.simulated


def test_a_value_may_begin_with_a_dash_after_an_equals_sign() -> None:
    assert parse(["--metrics.exclude=-x"])[1] == {"metrics.exclude": "-x"}


def test_an_empty_value_is_a_value() -> None:
    assert parse(["--config.file="])[1] == {"config.file": ""}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--pol.interval=5s"], "unknown flag --pol.interval; did you mean --poll.interval?"),
        (["--poll.intervall", "5s"], "unknown flag --poll.intervall; did you mean --poll.interval?"),
        (["--poll.inter", "5s"], "unknown flag --poll.inter; did you mean --poll.interval?"),
        (["-poll.interval", "5s"], "unknown flag -poll.interval; did you mean --poll.interval?"),
        (["--nonsense"], "unknown flag --nonsense; see --help"),
        (["--poll.interval"], "--poll.interval: needs a value"),
        (["--poll.interval", "--log.level=info"], "--poll.interval: needs a value"),
        (["--web.disable-exporter-metrics=true"], "--web.disable-exporter-metrics: takes no value"),
        (["--help=me"], "-h: takes no value"),
        (["--interval", "5s"], "unknown flag --interval; did you mean --poll.interval?"),
        (["--idle-interval", "5s"], "unknown flag --idle-interval; did you mean --poll.idle-interval?"),
        (["--json"], "unknown flag --json; see --help"),
        (["--port=1"], "unknown flag --port; see --help"),
        (["--config=/x"], "unknown flag --config; did you mean --config.file?"),
        (["--models=3"], "unknown flag --models; did you mean --models.limit?"),
        (["demo", "--models=3"], "unknown flag --models; did you mean --demo.models?"),
        (["check", "--demo", "--models=3"], "unknown flag --models; did you mean --demo.models?"),
        (["check", "--poll.intervall=5s"], "unknown flag --poll.intervall; did you mean --poll.interval?"),
        (
            ["check", "--config-only", "--web.config.flie=x"],
            "unknown flag --web.config.flie; did you mean --web.config.file?",
        ),
        (
            ["history", "--poll.stale-aftr=3m"],
            "unknown flag --poll.stale-aftr; did you mean --poll.stale-after?",
        ),
        (
            ["demo", "--cohere.base-urlx=x"],
            "unknown flag --cohere.base-urlx; did you mean --cohere.base-url?",
        ),
        (["--poll=5s"], "unknown flag --poll; see --help"),
        (["check", "--outptu=json"], "unknown flag --outptu; did you mean --output?"),
        (["rules", "--outptu=x"], "unknown flag --outptu; see --help"),
        (["rules", "--value=x"], "unknown flag --value; did you mean --values?"),
        (["rules", "--poll.intervall=x"], "unknown flag --poll.intervall; see --help"),
        (["chek"], f"unknown subcommand; did you mean check?; the subcommands are {', '.join(Subcommand)}"),
        (["xyzzy"], f"unknown subcommand; the subcommands are {', '.join(Subcommand)}"),
        (["serve", "demo"], "serve takes nothing but flags; see --help"),
        (["check", "--output=yaml"], "--output: must be table, wide or json"),
        (["check", "--output"], "--output: needs a value"),
        (["serve", "--output=json"], "unknown flag --output; see --help"),
    ],
)
def test_a_wrong_argument_is_named_with_what_to_do(argv: list[str], message: str) -> None:
    assert refusal(*argv) == message


@pytest.mark.parametrize(
    "flag", ["--cohere.api-key", "--api-key", "--cohere.api_key", "--apikey", "--cohere.API-KEY"]
)
def test_the_key_is_never_taken_from_the_command_line(flag: str) -> None:
    message = "the API key is never given on the command line: set COHERE_API_KEY or --cohere.api-key-file"

    assert refusal(flag, "s3cretKey") == refusal(f"{flag}=s3cretKey") == message


@pytest.mark.parametrize(
    "argv",
    [
        ["s3cretKey"],
        ["serve", "s3cretKey"],
        ["--s3cretKey"],
        ["-s3cretKey"],
        ["--cohere.api-keys3cretKey"],
        ["--unknown=s3cretKey"],
        ["--unknown", "s3cretKey"],
        ["--unknown s3cretKey"],
        ["--web.disable-exporter-metrics=s3cretKey"],
        ["--version=s3cretKey"],
        ["--", "s3cretKey"],
    ],
)
def test_no_message_repeats_what_may_be_a_key(argv: list[str]) -> None:
    assert "s3cretKey" not in refusal(*argv)


def test_version_prints_name_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(["--version"])

    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"cohere-finetune-exporter {__version__} (revision {REVISION})\n"


HelpOf = Callable[..., str]


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str]) -> HelpOf:
    def printed(*argv: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            parse([*argv, "--help"])
        assert exit_.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return printed


@pytest.mark.parametrize("argv", [[], *([subcommand] for subcommand in Subcommand)])
def test_help_is_readable_on_a_terminal_of_80_columns_in_any_locale(argv: list[str], help_of: HelpOf) -> None:
    text = help_of(*argv)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.isascii()


def test_help_names_every_flag_with_its_meaning_and_default(help_of: HelpOf) -> None:
    served, simulated = (" ".join(help_of(*argv).split()).replace("- ", "-") for argv in ((), ("demo",)))
    for option in options():
        text = simulated if option.group == "demo" else served
        assert f" {option.flag}" in text
        assert option.meaning in text
        assert not (option.default and option.metavar) or f"(default: {option.default})" in text


def test_help_of_a_subcommand_has_its_own_flags_and_only_options_that_it_reads(help_of: HelpOf) -> None:
    for name, row in SUBCOMMANDS.items():
        text = help_of(name)
        assert text.startswith(f"usage: {NAME} {name} [FLAG ...] {row.operands}".rstrip() + "\n")
        for flag in row.flags:
            assert f"\n  {flag.flag} {flag.metavar}".rstrip() in text
            assert flag.meaning in " ".join(text.split())
        read = {flag.flag for flag in row.flags} | {
            option.flag for option in options() if option.group in row.reads
        }
        named = set(re.findall(r"^  (--[a-z.-]+)", text, re.MULTILINE))
        refused = {f"--{key}" for key in REAL_API} if name is Subcommand.DEMO else set()
        assert named == (read | {"--version"}) - refused


def test_help_of_the_command_has_no_flag_of_a_subcommand(help_of: HelpOf) -> None:
    named = set(re.findall(r"^  (--[a-z.-]+)", help_of(), re.MULTILINE))
    assert named.isdisjoint(flag.flag for row in SUBCOMMANDS.values() for flag in row.flags)


def test_help_names_the_subcommands_the_key_variables_and_the_rule_for_variables(help_of: HelpOf) -> None:
    for word in (*Subcommand, "COHERE_API_KEY", "CO_API_KEY", "COHERE_EXPORTER_POLL_INTERVAL", "--version"):
        assert word in help_of()
