"""Remember on this machine what trials have found: what is fast depends on the machine, and a trial takes seconds."""

import json
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from platformdirs import user_cache_path
from pydantic import TypeAdapter, ValidationError

from cyclegan.errors import UnreadableError
from cyclegan.system.atomic import write_bytes
from cyclegan.system.devices import cpu_name
from cyclegan.system.json_files import read_json

Found = TypeVar("Found")


def trial_file(name: str) -> Path:
    """A file of trials in the user's cache folder."""
    return user_cache_path("cyclegan", appauthor=False) / name


def trial_key(subject: str) -> str:
    """The key of a trial: the machine, torch and its threads, and the subject, which names all else it depends on."""
    return f"{platform.node()} {cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}: {subject}"


def recall(file: Path, key: str, kind: TypeAdapter[Found]) -> Found | None:
    """What a trial has found; None if there was none, or another release wrote it."""
    with suppress(ValidationError):
        return kind.validate_python(_read(file).get(key))
    return None


def remember(file: Path, key: str, found: Found, kind: TypeAdapter[Found]) -> None:
    """Add what a trial has found. If the file cannot be written, the next call tries again."""
    with suppress(OSError):
        content = {**_read(file), key: kind.dump_python(found, mode="json")}
        write_bytes(file, json.dumps(content, indent=2).encode())


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, dict[str, Any])
    except UnreadableError:
        return {}
