"""The options, each declared once: name, type, default as users write it, and meaning.

Group `poll` with field `stale_after` is the flag `--poll.stale-after`, the variable
`COHERE_EXPORTER_POLL_STALE_AFTER` and the YAML key `poll: {stale-after: …}`. Settings are frozen once they
are built, know no option that is not declared here, and never hold the API key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.runtime.text import printable
from exporter.settings import values
from exporter.settings.durations import format_duration

ENV_PREFIX = "COHERE_EXPORTER_"
_MONTH = 31 * 86_400


class SettingsError(Exception):
    """A setting cannot be used; the message is one line for people, free of secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _option(default: str | None, meaning: str, *, in_words: str = "", **bounds: float) -> Any:
    """Declare an option; `in_words` is what holds as long as one without a default is None."""
    return Field(  # type: ignore[call-overload]
        default=default,
        validate_default=default is not None,
        description=meaning,
        json_schema_extra={"default": default or in_words},
        **bounds,
    )


class Cohere(_Group):
    """API."""

    base_url: values.BaseUrl = _option(
        "https://api.cohere.com",
        "Base URL of the API, with any path prefix; a trailing / or /v1 is dropped. Also read from "
        "CO_API_URL. The default, Cohere's public platform, no longer serves fine-tuning.",
    )
    api_key_file: values.File = _option(
        None, "File with the API key; reloaded when it changes, so a rotated key needs no restart."
    )
    ca_file: values.File = _option(
        None,
        "CA bundle (PEM) to verify the API with, instead of SSL_CERT_FILE, SSL_CERT_DIR or the system's; "
        "reloaded when it changes.",
    )
    client_cert_file: values.File = _option(
        None, "Client certificate (PEM), if the API requires one; reloaded when it changes."
    )
    client_key_file: values.File = _option(
        None, "Private key (PEM) of the client certificate, if it is not in the same file."
    )
    client_name: values.HeaderText = _option("cohere-finetune-exporter", "Value of the X-Client-Name header.")
    timeout: values.Duration = _option("30s", "Total timeout per request, including connect and body.", gt=0)
    concurrency: values.Integer = _option(
        "8",
        "Maximum concurrent API requests. One is kept for the list of models; with 1 the list waits for a "
        "request in flight.",
        ge=1,
    )
    requests_per_minute: values.Integer = _option(
        "300", "Rate limit: maximum API requests per minute, retries included.", ge=1
    )
    calls_per_month: values.Integer = _option(
        "0",
        "Quota: maximum API calls in any 31 days; polls are spread to stay within it. A trial key has 1000. "
        "0: no quota.",
        ge=0,
    )
    budget_file: values.File = _option(
        None, "File that keeps the calls counted for --cohere.calls-per-month across restarts."
    )
    page_size: values.Integer = _option(
        "0", "Models or steps requested per page. 0: the server's default.", ge=0
    )

    @field_validator("client_key_file")
    @classmethod
    def _has_a_certificate(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file and not info.data.get("client_cert_file"):
            raise ValueError("needs --cohere.client-cert-file")
        return file


class Poll(_Group):
    """Polling."""

    interval: values.Duration = _option(
        "60s", "Time from the start of one poll to the start of the next.", ge=1, le=_MONTH
    )
    idle_interval: values.OptionalDuration = _option(
        None,
        "Interval while no model is queued, training or deploying; at least --poll.interval.",
        in_words="the interval",
        le=_MONTH,
    )
    stale_after: values.OptionalDuration = _option(
        None,
        "How long the last good data is served while polls fail; then it is stale and dropped.",
        in_words="5 times the interval",
    )

    @field_validator("idle_interval", "stale_after")
    @classmethod
    def _spans_intervals(cls, seconds: float, info: ValidationInfo) -> float:
        # Data is renewed at each poll, and a poll takes its time.
        count, words = (2, "twice the") if info.field_name == "stale_after" else (1, "the")
        least = count * info.data.get("interval", 0)
        if seconds < least:
            raise ValueError(f"must be at least {words} poll interval ({format_duration(least)})")
        return seconds


class Models(_Group):
    """Models."""

    limit: values.Integer = _option(
        "1000", "Maximum models exported, newest first; dropped ones are counted. 0: no limit.", ge=0
    )


class Training(_Group):
    """Training metrics."""

    metric_limit: values.Integer = _option(
        "50",
        "Maximum training metrics per model; those on the most steps are kept, then those with the shortest "
        "names. Dropped ones are counted and logged. 0: no limit.",
        ge=0,
    )
    metrics: values.Pattern = _option(
        None, "Anchored regular expression of the training metrics to export; all by default."
    )
    steps_window: values.Duration = _option(
        "2m",
        "How long /metrics/steps serves a training step after it was read; set it to two scrape intervals. "
        "0 turns the endpoint off.",
        le=3600,
    )


class Metrics(_Group):
    """Metric families.

    `exclude` is anchored by its reader: a family is left out when `exclude.fullmatch(name)` matches.
    """

    exclude: values.Pattern = _option(
        None, "Anchored regular expression of the model metrics to leave out, by family name."
    )


class Web(_Group):
    """Web server."""

    listen_address: values.Addresses = _option(
        ":10220", "Address to listen on: host:port, [v6]:port or :port; repeatable."
    )
    probe_address: values.Address = _option(
        None, "Additional address that serves only /-/healthy and /-/ready, without TLS or password."
    )
    telemetry_path: values.TelemetryPath = _option("/metrics", "Path under which metrics are served.")
    config_file: values.File = _option(
        None,
        "File with TLS and basic auth settings, in exporter-toolkit's format; reloaded when it changes.",
    )
    max_requests: values.Integer = _option("40", "Maximum concurrent scrapes. 0: no limit.", ge=0)
    disable_exporter_metrics: bool = _option("false", "Omit process_* and python_* metrics.")


class Log(_Group):
    """Logging, to standard error."""

    level: Literal["debug", "info", "warn", "error"] = _option("info", "Lowest level to log.")
    format: Literal["logfmt", "json"] = _option("logfmt", "Log format.")


class Config(_Group):
    """Configuration file."""

    file: values.File = _option(None, "YAML file with any of these options.")


class Demo(_Group):
    """Simulated API, for demo and --demo."""

    speed: values.Number = _option(
        "60", "Speed of the simulated fleet, as a multiple of real time.", ge=0.01, le=10_000
    )
    seed: values.OptionalInteger = _option(
        None, "Simulate the same models, ids included, at every start; by default they differ."
    )
    models: values.OptionalInteger = _option(
        None, "Number of simulated models; 20 by default.", ge=10, le=10_000
    )


class Settings(BaseSettings):
    """Every option, grouped by the prefix of its name; `load` builds it, tests may do so from keywords."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        enable_decoding=False,  # values are text to be validated, never JSON
    )

    config: Config = Config()
    cohere: Cohere = Cohere()
    poll: Poll = Poll()
    models: Models = Models()
    training: Training = Training()
    metrics: Metrics = Metrics()
    web: Web = Web()
    log: Log = Log()
    demo: Demo = Demo()

    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Build from what is handed in only: `sources` reads the rest, to know who gave which value."""
        return (sources["init_settings"],)

    @classmethod
    def build(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Self:
        """Return the settings of `values`, by group; `origins` says what their sources call each key."""
        settings = cls(**values)
        settings._origins = origins
        return settings

    def origin(self, key: str) -> str:
        """Return what the source of an option calls it; its flag when nobody gave it."""
        return self._origins.get(key, f"--{key}")
