"""Typed events of a training run. log.jsonl, the trackers and the caller's callbacks receive the same ones.

    def stop_when_good(event: Event) -> None:
        if isinstance(event, Scored) and event.kid < 0.05:
            raise KeyboardInterrupt  # saves a checkpoint; the same call without the callback continues from there

    train("photos/", "maps/", callbacks=[stop_when_good])

A callback is a function of one event. `train` calls it between steps, in the thread that trains, with every event in
order; one that is slow makes training slow. What it raises ends the run with a checkpoint and reaches the caller.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PIL import Image
from torch import Tensor

from cyclegan.config import Direction, TrainConfig

Status: TypeAlias = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run. step: number of training steps that are done."""

    step: int


@dataclass(frozen=True)
class SessionStarted(Event):
    """A process starts to train, at step 0 or at the step that it resumes from.

    held_out: digest of the names of the validation images, or None without validation. changes: old and new value of
    the settings that differ from those of the session before. images: sentences on images that do.
    """

    config: TrainConfig
    time: str
    command: str
    versions: Mapping[str, str]
    device: str
    precision: str
    held_out: str | None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepDone(Event):
    """One training step is done.

    losses: weighted terms as scalar tensors on the training device. Reading one (`float(loss)`) makes the CPU wait for
    the GPU; use `LossesLogged` for numbers.
    """

    losses: Mapping[str, Tensor]
    learning_rate: float


@dataclass(frozen=True)
class LossesLogged(Event):
    """Mean losses of the last `num_steps` steps, every `log_steps` steps and before each checkpoint.

    epoch: passes over the larger domain so far; None if the batches have no known length. seconds: training time of all
    sessions. images_per_second: images of both domains, without the time of snapshots.
    """

    epoch: float | None
    seconds: float
    images_per_second: float
    learning_rate: float
    num_steps: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class LossNotFinite(Event):
    """A loss became NaN or infinite at this step. The run stops."""

    term: str
    value: float


@dataclass(frozen=True)
class FileUnreadable(Event):
    """A file is left out because it cannot be read. Sent once for each file of a run."""

    path: str
    reason: str


@dataclass(frozen=True)
class SnapshotSaved(Event):
    """The sample grid of this step was written to `path`."""

    path: Path
    image: Image.Image


@dataclass(frozen=True)
class ValidationMeasured(Event):
    """The real validation images were measured, before the first scores.

    about: origin, files and number of the images, the feature network, and the scores of real and of untranslated
    images for each direction.
    """

    about: Mapping[str, Any]


@dataclass(frozen=True)
class ScoringSkipped(Event):
    """A snapshot was not scored, because that would take too large a share of the training time."""


@dataclass(frozen=True)
class Scored(Event):
    """Both translators were scored on validation images.

    kid: mean of both directions, less is better. best: whether it is the lowest so far; best/ then holds this step.
    directions: all scores of each direction. scoring_seconds: time that all scores of the run took.
    """

    seconds: float
    kid: float
    best: bool
    directions: Mapping[Direction, Mapping[str, Any]]
    scoring_seconds: float


@dataclass(frozen=True)
class WarningRaised(Event):
    """A health check found a problem. check: its name. is_new: whether it is the first time in this run."""

    check: str
    message: str
    is_new: bool


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint that the run can be resumed from was written to `path`."""

    path: Path


@dataclass(frozen=True)
class Ended(Event):
    """The session is over; the last event. seconds: training time of all sessions. error: what ended it early."""

    seconds: float
    status: Status
    error: BaseException | None = None


def status_after(error: type[BaseException] | None) -> Status:
    """The status of a session that this kind of exception ended, or none."""
    if error is None:
        return "finished"
    return "interrupted" if issubclass(error, KeyboardInterrupt) else "failed"


Callback: TypeAlias = Callable[[Event], None]


class Events:
    """Passes events to recorders at once, and to the caller's callbacks between steps.

    Recorders (log.jsonl, trackers, monitor) may write only part of what a step writes before the next event. Callbacks
    run when everything of a step has been written, so an exception in one leaves no half-written state.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.recorders: list[Callback] = []
        self._callbacks = tuple(callbacks)
        self._waiting: deque[Event] = deque()

    def publish(self, event: Event) -> None:
        """Record an event, and keep it for the callbacks."""
        # Before the recorders, which publish events that follow from this one.
        if self._callbacks:
            self._waiting.append(event)
        for record in self.recorders:
            record(event)

    def deliver(self) -> None:
        """Call every callback with every waiting event. Raises the first exception of one, after the event's others."""
        while self._waiting:
            event, errors = self._waiting.popleft(), list[BaseException]()
            for callback in self._callbacks:
                try:
                    callback(event)
                except BaseException as error:
                    errors.append(error)
            if errors:
                raise errors[0]
