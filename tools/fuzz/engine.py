"""One target in atheris's hands: `python -m tools.fuzz.engine TARGET`, with libFuzzer's flags behind it.

What is to guide the fuzzer is instrumented as it is imported, so nothing of it may be imported before.
"""

import sys

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore] # not there where types are checked

with atheris.instrument_imports(include=["exporter", "email", "yaml"]):
    from tools.fuzz.targets import JSON_TARGETS, TARGETS

from tools.fuzz.mutation import mutated


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    return mutated(data, max_size, seed, bytewise=atheris.Mutate)


def main() -> None:
    """Fuzz until a flag of libFuzzer ends the process."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name], custom_mutator=_mutate if name in JSON_TARGETS else None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
