"""Ask a training to stop, from any process that sees its run directory.

The request is an empty file in the run directory. The training looks for it once a second and then does what it does
after Ctrl-C: it finishes its step, saves, and can be resumed by the same command. A process number would not do: it may
be another process by now, or one of another machine.
"""

import stat
from contextlib import suppress
from pathlib import Path

from cyclegan.errors import InputError, reason_of, remedy_sentence
from cyclegan.system.atomic import describe_kind, is_locked

STOP_REQUEST = ".stop"

# Held by the process that trains in a run directory.
RUN_LOCK = ".lock"


def is_training(run: Path) -> bool:
    """Whether a process trains in this run directory now."""
    return is_locked(run / RUN_LOCK)


def request_stop(run: str | Path) -> None:
    """Ask the training in a run directory to save and stop; it does within a second and a step.

    Asking again changes nothing. Raises InputError if no process is training there, or if it cannot be asked.
    """
    run = Path(run)
    if not is_training(run):
        raise InputError(f"{run} is not training, so there is nothing to stop.")
    file = run / STOP_REQUEST
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        if not is_stop_requested(run):
            raise InputError(
                f"{file} is {describe_kind(file)}, where the request to stop belongs; move it away."
            ) from None
    except OSError as error:
        raise InputError(
            f"The training in {run} cannot be asked to stop: {reason_of(error)}.{remedy_sentence(error)} "
            "Ctrl-C in its terminal stops it, too."
        ) from error


def is_stop_requested(run: Path) -> bool:
    """Whether the training in a run directory is asked to stop."""
    try:
        about = (run / STOP_REQUEST).lstat()
    except OSError:
        return False
    return stat.S_ISREG(about.st_mode) and about.st_size == 0


def withdraw_stop(run: Path) -> None:
    """Remove a request, as before and after a training."""
    if is_stop_requested(run):
        with suppress(OSError):
            (run / STOP_REQUEST).unlink()
