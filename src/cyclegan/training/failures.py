"""Errors that stop a run, with the checkpoint that it can be resumed from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclegan.errors import TrainingError
from cyclegan.storage.run import list_checkpoints


def last_good_checkpoint(run: Path) -> str:
    """A sentence that names the newest checkpoint."""
    checkpoints = list_checkpoints(run)
    return f"The last good checkpoint is {checkpoints[0]}." if checkpoints else "No checkpoint was saved yet."


@contextmanager
def writing(run: Path, step: int) -> Iterator[None]:
    """Turn an OSError while the files of a step are written into a TrainingError with the remedy."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"Step {step} could not be written to {run}: {error.strerror or error}. {last_good_checkpoint(run)} "
            "Free some space or repair the disk, then run the same command again to go on from there."
        ) from error
