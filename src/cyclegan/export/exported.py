"""The result of an export."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exported:
    """files: all that were written. notes: sentences for the user."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
