"""What is read again while the exporter runs: the API key, the files of TLS and the web configuration.

How each was last read is a metric, and a change of that a line of the log.
"""

import structlog

from exporter.clock import Clock
from exporter.runtime.reload import ReloadError
from exporter.settings import ApiKey, Settings, SettingsError
from exporter.telemetry import Telemetry
from exporter.web.config_reloader import WebConfigReloader
from exporter.web.config_schema import WebConfig

log = structlog.stdlib.get_logger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Reloads:
    """Reports to the log and to `telemetry`."""

    def __init__(self, settings: Settings, key: ApiKey, telemetry: Telemetry, clock: Clock) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._has_bad_key = False
        key.on_reload = self._key
        if settings.cohere.api_key_file:
            self.loaded("api_key")

    def loaded(self, file: str, *, successful: bool = True) -> None:
        """Show how a file was read; it counts from its first time."""
        self._telemetry.reloaded(file, successful=successful, now=self._clock.time())

    def _key(self, error: str | None) -> None:
        self.loaded("api_key", successful=error is None)
        if error:
            log.warning("the API key file cannot be reloaded; the last good key stays in use", error=error)
        elif self._has_bad_key:
            log.info("the API key file can be used again")
        self._has_bad_key = error is not None

    def tls(self, file: str, error: str | None) -> None:
        """Report that certificates were read again, or why they could not be."""
        self.loaded(file, successful=error is None)
        if error:
            log.warning("certificates cannot be reloaded; the last good ones stay in use", error=error)
        else:
            log.info("certificates for the API reloaded", file=file)

    def open_access(self) -> WebConfigReloader | None:
        """Read the web configuration file, if there is one."""
        file = self._settings.web.config_file
        if file is None:
            return None
        try:
            access = WebConfigReloader(file, on_reload=self._web_config)
        except ReloadError as error:
            raise SettingsError(f"{self._settings.origin('web.config.file')}: {error}") from None
        self.loaded("web_config")
        return access

    def _web_config(self, result: WebConfig | str) -> None:
        self.loaded("web_config", successful=isinstance(result, WebConfig))
        if isinstance(result, WebConfig):
            log.info("web configuration reloaded")
            warn_of_access(self._settings, result)
        else:
            log.warning(
                "the web configuration cannot be reloaded; the last good one stays in use", error=result
            )


def warn_of_access(settings: Settings, config: WebConfig) -> None:
    """Log what in the web configuration may not work as intended."""
    local = all(address.host in LOOPBACK for address in settings.web.listen_address)
    for warning in config.warnings(local=local):
        log.warning("web configuration may not work as intended", detail=warning)
