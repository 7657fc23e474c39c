"""What a run writes while it goes: log.jsonl, and the same for TensorBoard."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from cyclegan.config import TrainConfig
from cyclegan.run_directory import shorten_log


class RunLog:
    """log.jsonl with a line for each event, the TensorBoard files, and what is told on screen once."""

    def __init__(self, config: TrainConfig, step: int, console: Console, stack: ExitStack) -> None:
        """Open for a run that goes on after `step`; what was logged later is dropped. Closes with `stack`."""
        self.console = console
        self.events, self._file = shorten_log(config.out / "log.jsonl", step)
        stack.callback(_close_quietly, self._file)
        self._board = _open_board(config, step, console)
        if self._board is not None:
            stack.callback(_close_quietly, self._board)
        # Files that were left out: shown in this session, and named in the log.
        self._shown: set[str] = set()
        self._logged = {event["path"] for event in self.events if event.get("event") == "unreadable"}

    def write(self, event: Mapping[str, Any]) -> None:
        """Add one line. Raises OSError if the disk does not take it."""
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def write_losses(self, event: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """A line of means of losses, with the step, the rate and the speed."""
        self.write({**event, **losses})
        step = int(event["step"])
        with self._on_board() as board:
            for name, value in losses.items():
                board.add_scalar(f"loss/{name}", value, step)
            for name in ("learning_rate", "images_per_second"):
                board.add_scalar(name, event[name], step)

    def write_scores(self, event: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        """A line of scores; `scalars` are those that TensorBoard shows, by name."""
        self.write(event)
        with self._on_board() as board:
            for name, value in scalars.items():
                board.add_scalar(f"validation_efficientnet_lite0/{name}", value, int(event["step"]))

    def show_samples(self, sheet: Image.Image, step: int) -> None:
        """A sample grid for TensorBoard."""
        with self._on_board() as board:
            board.add_image("samples", np.asarray(sheet), step, dataformats="HWC")

    def report_unreadable(self, path: str, reason: str, step: int) -> None:
        """Tell of a file that was left out: once on screen in each session, once in the log."""
        if path not in self._shown:
            self._shown.add(path)
            count = len(self._shown)
            self.console.print(f"Left out, cannot be read ({count} so far): {path}: {reason}", style="yellow")
        if path not in self._logged:
            self._logged.add(path)
            self.write({"event": "unreadable", "step": step, "path": path, "reason": reason})

    @contextmanager
    def _on_board(self) -> Iterator[Any]:
        """TensorBoard, or something that takes its calls and does nothing. A board that fails must not end a run."""
        try:
            yield self._board if self._board is not None else _NoBoard()
        except OSError as error:
            self.console.print(f"TensorBoard files are no longer written: {error}", style="yellow")
            self._board = None


class _NoBoard:
    """Takes the calls of a TensorBoard writer."""

    def add_scalar(self, *_: Any, **__: Any) -> None: ...

    def add_image(self, *_: Any, **__: Any) -> None: ...


def _close_quietly(file: Any) -> None:
    # What could not be written has been told already; closing tries once more and would hide that.
    with suppress(OSError):
        file.close()


def _open_board(config: TrainConfig, step: int, console: Console) -> Any:
    """A TensorBoard writer, or None if it is not wanted, not installed or cannot be written."""
    if not config.tensorboard:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        console.print("TensorBoard files are not written; to have them: pip install tensorboard")
        return None
    try:
        return SummaryWriter(str(config.out / "tensorboard"), purge_step=step or None)
    except OSError as error:
        console.print(f"TensorBoard files are not written: {error}", style="yellow")
        return None
