"""Losses between two lines of the log: collected on the device, averaged, and checked to be finite."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from cyclegan.errors import TrainingError
from cyclegan.training.checkpoint import last_good_checkpoint
from cyclegan.training.events import Events, LossesLogged, LossNotFinite
from cyclegan.training.schedule import Progress


@dataclass
class LossLog:
    """Collects the losses of each step and publishes their means.

    Losses stay on the device until `publish`: reading each one at once would make a GPU wait after every step.
    """

    progress: Progress
    events: Events
    _pending: list[tuple[int, Mapping[str, Tensor]]] = field(default_factory=list)
    _learning_rate: float = 0.0
    # The last line: its means, its speed, and its training time plus that of snapshots since then.
    _means: dict[str, float] = field(default_factory=dict)
    _images_per_second: float = 0.0
    _logged_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self._logged_seconds = self.progress.seconds_before

    def add(self, step: int, losses: Mapping[str, Tensor], learning_rate: float) -> None:
        """Add the losses of one step."""
        self._pending.append((step, losses))
        self._learning_rate = learning_rate

    def exclude(self, seconds: float) -> None:
        """Leave some time, such as that of a snapshot, out of the speed."""
        self._logged_seconds += seconds

    def publish(self) -> None:
        """Publish the mean losses since the last call, if there are any.

        Raises TrainingError at the first loss that is not finite, after publishing which one it is.
        """
        if not self._pending:
            return
        self._means, num_steps, seconds = self._compute_means(), len(self._pending), self.progress.seconds
        self._images_per_second = self._num_images / max(seconds - self._logged_seconds, 1e-9)
        self._logged_seconds = seconds
        self._pending.clear()
        self.events.publish(
            LossesLogged(
                self.progress.step,
                epoch=self.progress.epoch,
                seconds=round(seconds, 3),
                images_per_second=round(self._images_per_second, 3),
                learning_rate=self._learning_rate,
                num_steps=num_steps,
                losses=self._means,
            )
        )

    @property
    def _num_images(self) -> int:
        """Images of both domains in the steps since the last line."""
        return 2 * self.progress.config.batch_size * len(self._pending)

    def _compute_means(self) -> dict[str, float]:
        # One transfer from the device for all steps.
        names, steps = list(self._pending[0][1]), [step for step, _ in self._pending]
        values = torch.stack([torch.stack(list(losses.values())) for _, losses in self._pending]).tolist()
        for step, row in zip(steps, values, strict=True):
            for name, value in zip(names, row, strict=True):
                if not math.isfinite(value):
                    self._stop(step, name, value)
        return {name: sum(row[i] for row in values) / len(values) for i, name in enumerate(names)}

    def _stop(self, step: int, term: str, value: float) -> NoReturn:
        self._pending.clear()
        self.events.publish(LossNotFinite(step, term, value))
        raise TrainingError(
            f"The loss {term} became {value} at step {step}, so training stopped. "
            f"{last_good_checkpoint(self.progress.config.out)} "
            "Try a smaller --learning-rate, or --precision fp32 if it was not."
        )

    @property
    def latest(self) -> tuple[Mapping[str, float], float]:
        """Losses and images per second to show: those of the last line, or before the first one those of now."""
        if self._means or not self._pending:
            return self._means, self._images_per_second
        # Slow steps must not leave the progress line empty; this reads the device, but only before the first line.
        losses = {name: float(loss) for name, loss in self._pending[-1][1].items()}
        return losses, self._num_images / max(self.progress.seconds - self.progress.seconds_before, 1e-9)
