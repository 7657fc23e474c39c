"""Progress of `cyclegan translate` on the terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cyclegan.cli.streams import STREAM, StreamNames
from cyclegan.system.messages import Messages
from cyclegan.system.terminal import say_result
from cyclegan.system.words import counted
from cyclegan.translate.progress import MAX_NAMED, FolderProgress, OnProgress, Skipped


class ConsoleProgress(FolderProgress):
    """Progress on the terminal.

    out: the folder or file of the results, or `-`. streams: names of temporary files as messages show them.
    resumable: the large image that a stop has left half done.
    """

    def __init__(self, out: Path, direction: str, streams: StreamNames) -> None:
        self.resumable: Path | None = None
        self._out, self._direction, self._shown = out, direction, streams.shown
        self._to_stdout = out == STREAM
        self.messages = Messages("translate")
        self._console = self.messages.console

    def note(self, message: str) -> None:
        self.messages.info(self._shown(message))

    def scanning(self) -> contextlib.AbstractContextManager[object]:
        return self.messages.status("Reading the sizes of the images ...")

    @contextlib.contextmanager
    def translating(self, num_images: int) -> Iterator[Callable[[Path], None]]:
        from rich.progress import Progress

        with Progress(console=self._console) as bar:
            task = bar.add_task(f"Translating {self._direction}", total=num_images)
            yield lambda _source: bar.advance(task)

    @contextlib.contextmanager
    def translating_large(self, source: Path, target: Path) -> Iterator[OnProgress]:
        from cyclegan.system.progress import show_time_left
        from cyclegan.translate.partial_result import partial_folder

        try:
            with show_time_left(self._console, source.name) as on_progress:
                yield on_progress
        except KeyboardInterrupt:
            if partial_folder(target).exists():
                self.resumable = target
            raise

    @contextlib.contextmanager
    def translating_frames(self, source: Path) -> Iterator[Callable[[int, int | None], None]]:
        from cyclegan.system.progress import show_time_left

        began = time.monotonic()
        with show_time_left(self._console, source.name) as on_progress:

            def on_frame(done: int, expected: int | None) -> None:
                total, rate = max(expected or 0, done), done / max(time.monotonic() - began, 1e-6)
                on_progress(f"frame {done} of {total}, {rate:.1f} frames/s", done / max(total, 1))

            yield on_frame

    def damaged(self, message: str) -> None:
        self.messages.warning(message)

    def written_frames(self, num_frames: int, target: Path) -> None:
        where = "to standard output" if self._to_stdout else f"into {target}"
        self._say(f"{counted(num_frames, 'frame')} translated {where}")

    def skipped(self, images: Sequence[Skipped], num_images: int) -> None:
        for path, reason in images[:MAX_NAMED]:
            where = "" if reason.startswith(str(path)) or reason.endswith(f" {path}.") else f"{path}: "
            self.messages.warning(self._shown(f"Left out: {where}{reason}"))
        if len(images) > MAX_NAMED:
            self.messages.warning(f"Left out: {len(images) - MAX_NAMED} more, {len(images)} of {num_images} in all.")

    def existing(self, num_existing: int, num_images: int) -> None:
        self._say(f"{num_existing} of {num_images} images are in {self._out} already")

    def written(self, num_images: int, target: Path | None, tile: int | None) -> None:
        what = f"{counted(num_images, 'image')} translated"
        place = self._out if target is None else self._shown(str(target))
        where = "to standard output" if self._to_stdout else f"into {place}"
        self._say(f"{what} {where}" if tile is None else f"{what} in tiles of {tile} pixels {where}")

    def _say(self, text: str) -> None:
        """Show a sentence of the result, on standard error if standard output is the result itself."""
        if self._to_stdout:
            self.messages.info(text)
        else:
            say_result(text)
