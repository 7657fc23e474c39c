"""What an export gives back."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exported:
    """The files that were written, and what a user should know."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
