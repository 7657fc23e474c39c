"""Settings as flags of the command line."""

from collections.abc import Mapping
from typing import Any

from cyclegan.config.resolve import field_sections


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """The words of `cyclegan train` that give these settings, in the order of its help. None has no flag.

    The folders `a` and `b` are no flags: they come first on the command line.
    """
    words: list[str] = []
    for name in field_sections():
        value, flag = values.get(name), name.replace("_", "-")
        if value is None or name in ("a", "b"):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, Mapping):
            words += [word for key, item in value.items() for word in (f"--{flag}", f"{key}={item}")]
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words
