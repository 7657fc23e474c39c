"""Progress reports of a translation of many files. Imports nothing heavy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias

from cyclegan.errors import CycleganError, reason_of, remedy_sentence

# A source that could not be translated, and the reason.
Skipped: TypeAlias = tuple[Path, str]

# Failed files that are listed by name.
MAX_NAMED = 10

# Called with a name of the current work and the share that is done, 0 to 1.
OnProgress: TypeAlias = Callable[[str, float], None]

# Called with the number of frames that are done, and of all frames, None if it is unknown.
OnFrame: TypeAlias = Callable[[int, int | None], None]


class FolderProgress:
    """Reports what `translate_folder` does. Here every method does nothing; override those that you need."""

    def note(self, message: str) -> None:
        """A sentence for the user about the work."""

    def scanning(self) -> AbstractContextManager[object]:
        """Active while headers are read, to find the images that are too large."""
        return nullcontext()

    @contextmanager
    def translating(self, num_images: int) -> Iterator[Callable[[Path], None]]:  # noqa: ARG002
        """Active while images are translated; gives a function to call with each source that is done."""
        yield lambda _source: None

    @contextmanager
    def translating_large(self, source: Path, target: Path) -> Iterator[OnProgress]:  # noqa: ARG002
        """Active while an image is translated in tiles; yields a function of the current work and the share done."""
        yield lambda _what, _share: None

    @contextmanager
    def translating_frames(self, source: Path) -> Iterator[OnFrame]:  # noqa: ARG002
        """Active while a sequence is translated; yields a function of the frames done and of all, None if unknown."""
        yield lambda _done, _expected: None

    def damaged(self, message: str) -> None:
        """A sentence on frames of a sequence that are lost; those before them are written."""

    def written_frames(self, num_frames: int, target: Path) -> None:
        """A sequence has been written."""

    def skipped(self, images: Sequence[Skipped], num_images: int) -> None:
        """Images that could not be translated, of how many."""

    def existing(self, num_existing: int, num_images: int) -> None:
        """Images are left out because their results are there already, of how many."""

    def written(self, num_images: int, target: Path | None, tile: int | None) -> None:
        """Images have been written. target, tile: of one that was translated in tiles."""


def not_written(target: Path, error: BaseException, num_done: int | None = None) -> str:
    """Why a result could not be written, as a sentence. num_done: images that were, if the work ends here."""
    if isinstance(error, CycleganError):
        return str(error)
    kept = "" if num_done is None else f" {num_done} images are done and kept."
    return f"{target} could not be written: {reason_of(error).rstrip('.')}.{kept}{remedy_sentence(error)}"
