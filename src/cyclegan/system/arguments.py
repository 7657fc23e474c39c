"""Check arguments of public functions and flags: a wrong type or range is one sentence, at once."""

import math
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.system.json_files import shown

# Larger counts are typing errors; images have at most this many pixels on a side.
MAX_NUMBER = 10**12
MAX_SIDE = 2**20


def check_int(name: str, value: Any, *, least: int, most: int = MAX_NUMBER, unit: str = "") -> None:
    """Raises InputError for anything but a whole number from `least` to `most`, which may be one of numpy."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} is {shown(value)}; expected a whole number.")
    number = int(value)
    if number < least:
        raise InputError(f"{name} is {shown(number)}; expected at least {least}{unit}.")
    if number > most:
        raise InputError(f"{name} is {shown(number)}; expected at most {most:,}{unit}.")


def check_float(name: str, value: Any, *, least: float) -> float:
    """A finite number from `least` on, which may be one of numpy. Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} is {shown(value)}; expected a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not least <= number < math.inf:
        raise InputError(f"{name} is {number:g}; expected at least {least:g}, and a finite number.")
    return number


def check_bool(name: str, value: Any) -> bool:
    """True or False, by the truth of any value. Raises InputError for what has none, such as an array."""
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {shown(value)}; expected True or False.") from None


def check_path(name: str, value: Any) -> Path:
    """A path, with a leading ~ for the home of a user as in a shell. Raises InputError for what is no path."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} is {shown(value)}; expected a path.")
    if not os.fspath(value):
        raise InputError(f"{name} is empty; expected a path. The folder that you are in is '.'.")
    if "\0" in os.fspath(value):
        raise InputError(f"{name} is {shown(os.fspath(value))}; no path holds a null character.")
    return expand_home(Path(value))


def expand_home(path: Path) -> Path:
    """The path with a leading `~` or `~user` replaced by that user's home, as a shell does.

    It stays if there is no such user, and if a file or folder here has that very name.
    """
    if not path.parts or not path.parts[0].startswith("~") or os.path.lexists(path.parts[0]):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises InputError for anything but one of these words."""
    if not isinstance(value, str) or value not in choices:
        known = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise InputError(f"{name} is {shown(value)}; expected {known}.")


def real_path(path: Path) -> Path:
    """The absolute path without links. Links that lead in a circle keep their names, and nothing is there to open."""
    return Path(os.path.realpath(path))
