"""The web configuration in force: read at the start, and again whenever one of its files changes.

Whether something has changed is asked of the file system at each connection and each request, which costs
microseconds. A configuration that cannot be used changes nothing: the last good one stays in force, and the
failure is reported once for each change. While the program runs, TLS is neither turned on nor off, and what
keeps others out is not turned off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.web.auth import Logins
from exporter.web.config import WebConfigError, read_config
from exporter.web.format import WebConfig
from exporter.web.guard import Rules, TokenBucket
from exporter.web.tls import Tls, open_tls

_Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class _InForce:
    config: WebConfig
    rules: Rules
    tls: Tls | None


class Access:
    """Who may read the pages, and over what; `rules` and `tls` are those of the moment."""

    def __init__(
        self, path: Path, on_reload: Callable[[WebConfig | WebConfigError], None] = lambda _: None
    ) -> None:
        """Read the file; WebConfigError when it cannot be used.

        `on_reload` is called after each later reading, with what is in force now or with what is wrong.
        """
        self._path = path
        self._on_reload = on_reload
        self._stamps: dict[Path, _Stamp] = {}
        self._in_force = self._read(None)

    @property
    def config(self) -> WebConfig:
        """The file's content, as in force."""
        return self._in_force.config

    @property
    def encrypted(self) -> bool:
        """Whether TLS is served."""
        return self._in_force.tls is not None

    def rules(self) -> Rules:
        """Give what is asked of a request; never raises."""
        return self._current().rules

    def tls(self) -> Tls:
        """Give how a new connection is encrypted, for a server that is `encrypted`."""
        tls = self._current().tls
        if tls is None:
            raise RuntimeError("TLS is not served")
        return tls

    def _current(self) -> _InForce:
        if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
            try:
                self._in_force = self._read(self._in_force)
            except WebConfigError as error:
                self._on_reload(error)
            else:
                self._on_reload(self._in_force.config)
        return self._in_force

    def _read(self, before: _InForce | None) -> _InForce:
        """Read all files; each is stamped before it is read, so that no change goes unseen."""
        stamps = self._stamps = {self._path: _stamp(self._path)}
        config = read_config(self._path)
        stamps.update({file: _stamp(file) for file in config.tls_server_config.files})
        tls = open_tls(config.tls_server_config) if config.tls_server_config.enabled else None
        if before and (before.tls is None) != (tls is None):
            raise WebConfigError(
                f"{self._path}: TLS is neither turned on nor off while the exporter runs; restart it"
            )
        if before and (what := _turned_off(before.config, config)):
            # A file that is being written is empty for a moment, and for longer when the disk is full.
            raise WebConfigError(
                f"{self._path}: {what} are not turned off while the exporter runs; restart it"
            )
        return _InForce(config, _rules(config, before), tls)


def _turned_off(before: WebConfig, after: WebConfig) -> str | None:
    """Name what has kept others out and no longer would."""
    if before.basic_auth_users and not after.basic_auth_users:
        return "passwords"
    if before.tls_server_config.verifies and not after.tls_server_config.verifies:
        return "client certificates"
    return None


def _rules(config: WebConfig, before: _InForce | None) -> Rules:
    limit = config.rate_limit
    return Rules(
        logins=_logins(config, before),
        limit=TokenBucket(limit.interval, limit.burst) if limit.interval else None,
        headers=config.http_server_config.headers,
    )


def _logins(config: WebConfig, before: _InForce | None) -> Logins | None:
    users = config.basic_auth_users
    if before and before.config.basic_auth_users == users:
        return before.rules.logins  # with what it remembers: a new certificate is no new password
    return Logins(users) if users else None


def _stamp(path: Path) -> _Stamp:
    """Give what changes when a file does; None when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
