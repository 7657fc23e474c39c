"""The command, the time and the versions behind a result, for the log, the scores and the report."""

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from cyclegan._version import __version__
from cyclegan.system.terminal import shell_quote


def command_line() -> str:
    """The command of this process, quoted for a shell."""
    program = Path(sys.argv[0]).name if sys.argv else ""
    if program in ("cyclegan", "cyclegan.exe", "__main__.py"):
        return " ".join(map(shell_quote, ["cyclegan", *sys.argv[1:]]))
    return " ".join(map(shell_quote, ["python", *sys.argv])) if program else "python"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Releases of this package, torch and Python, and the operating system."""
    return {
        "cyclegan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
