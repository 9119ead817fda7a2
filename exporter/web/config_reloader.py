"""The web configuration in force: read at the start, and again whenever one of its files changes.

A configuration that cannot be used changes nothing. While the program runs, TLS is neither turned on nor off,
and what keeps others out is not turned off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.runtime.reload import ReadFile, Reloader, ReloadError
from exporter.web.auth import BasicAuth
from exporter.web.config import read_config
from exporter.web.config_schema import WebConfig
from exporter.web.limits import TokenBucket
from exporter.web.policy import RequestPolicy
from exporter.web.tls import Tls, open_tls


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The file's content, and what was made of it."""

    config: WebConfig
    policy: RequestPolicy
    tls: Tls | None


class WebConfigReloader:
    """Who may read the pages, and over what; `policy` and `tls` are those of the moment."""

    def __init__(self, path: Path, on_reload: Callable[[WebConfig | str], None] = lambda _: None) -> None:
        """Read the file; raise ReloadError when it cannot be used.

        `on_reload` is called after each later reading, with what is in force now or with what is wrong.
        """
        self._path = path
        self._loaded: LoadedConfig | None = None
        self._reloader = Reloader(self._read, lambda error: on_reload(error or self.config))

    @property
    def config(self) -> WebConfig:
        """The file's content, as in force."""
        return self._reloader.value.config

    @property
    def encrypted(self) -> bool:
        """Whether TLS is served."""
        return self._reloader.value.tls is not None

    def policy(self) -> RequestPolicy:
        """Return what is asked of a request; never raise."""
        return self._reloader.current().policy

    def tls(self) -> Tls:
        """Return how a new connection is encrypted, for a server that is `encrypted`."""
        tls = self._reloader.current().tls
        if tls is None:
            raise RuntimeError("TLS is not served")
        return tls

    def _read(self, read_file: ReadFile) -> LoadedConfig:
        before = self._loaded
        config = read_config(self._path, read_file)
        tls_config = config.tls_server_config
        tls = open_tls(tls_config, read_file) if tls_config.enabled else None
        if before and (before.tls is None) != (tls is None):
            raise ReloadError(f"{self._path}: TLS cannot be turned on or off without a restart")
        if before and (what := _turned_off(before.config, config)):
            # A file that is being written is empty for a moment, and for longer when the disk is full.
            raise ReloadError(f"{self._path}: {what} cannot be turned off without a restart")
        self._loaded = LoadedConfig(config, _policy(config, before), tls)
        return self._loaded


def _turned_off(before: WebConfig, after: WebConfig) -> str | None:
    """Return the name of what has kept others out and no longer would."""
    if before.basic_auth_users and not after.basic_auth_users:
        return "passwords"
    tls, later = before.tls_server_config, after.tls_server_config
    if (tls.verifies and not later.verifies) or (tls.requires and not later.requires):
        return "client certificates"
    if tls.client_allowed_sans and not later.client_allowed_sans:
        return "client_allowed_sans"
    return None


def _policy(config: WebConfig, before: LoadedConfig | None) -> RequestPolicy:
    limit = config.rate_limit
    return RequestPolicy(
        auth=_auth(config, before),
        limit=TokenBucket(limit.interval, limit.burst) if limit.interval else None,
        headers=config.http_server_config.headers,
    )


def _auth(config: WebConfig, before: LoadedConfig | None) -> BasicAuth | None:
    users = config.basic_auth_users
    if before and before.config.basic_auth_users == users:
        return before.policy.auth  # with what it remembers: a new certificate is no new password
    return BasicAuth(users) if users else None
