"""Every option of the exporter, and how its value is found.

`options` declares each option once; flag, environment variable, YAML key, `--help` and documentation derive
from that, by the rows of `catalog`. `values` and `durations` turn text into typed values, `flags` reads the
command line and `file` the YAML file, `sources` joins them with the environment, and `key` holds the one
thing that is never a setting: the API key. Whatever is wrong becomes a `SettingsError` of one line.
"""

from exporter.settings.catalog import Option, options
from exporter.settings.key import ApiKey, resolve_key
from exporter.settings.options import Settings, SettingsError
from exporter.settings.sources import load, unknown_variables
from exporter.settings.subcommands import Command, Subcommand
from exporter.settings.values import ListenAddress

__all__ = [
    "ApiKey",
    "Command",
    "ListenAddress",
    "Option",
    "Settings",
    "SettingsError",
    "Subcommand",
    "load",
    "options",
    "resolve_key",
    "unknown_variables",
]
