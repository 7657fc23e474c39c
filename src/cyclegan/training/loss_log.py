"""Losses between two lines of the log: collected on the device, averaged, and checked to be finite."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cyclegan.config import TrainConfig
from cyclegan.errors import TrainingError
from cyclegan.step.terms import first_non_finite
from cyclegan.training.events import Events, LossesLogged, LossNotFinite
from cyclegan.training.failures import last_good_checkpoint
from cyclegan.training.schedule import Progress


class LossLog:
    """Collects the losses of each step and publishes their means.

    Losses stay on the device until `publish`: reading each one at once would make a GPU wait after every step.
    """

    def __init__(self, config: TrainConfig, progress: Progress, events: Events) -> None:
        self._config, self._progress, self._events = config, progress, events
        self._pending: list[tuple[int, Mapping[str, Tensor]]] = []
        self._learning_rate = 0.0
        # Training time at the last line, without the time of snapshots since then.
        self._logged_seconds = progress.seconds_before
        self._means: dict[str, float] = {}
        self._images_per_second = 0.0

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
        losses, num_steps = self._take_means(), len(self._pending)
        self._pending.clear()
        step, seconds = self._progress.step, self._progress.seconds
        images = num_steps * self._config.batch_size * 2
        self._means = losses
        self._images_per_second = images / max(seconds - self._logged_seconds, 1e-9)
        self._logged_seconds = seconds
        self._events.publish(
            LossesLogged(
                step,
                epoch=self._progress.epoch,
                seconds=round(seconds, 3),
                images_per_second=round(self._images_per_second, 3),
                learning_rate=self._learning_rate,
                num_steps=num_steps,
                losses=losses,
            )
        )

    def _take_means(self) -> dict[str, float]:
        # One transfer from the device for all steps.
        names = list(self._pending[0][1])
        values = torch.stack([torch.stack(list(losses.values())) for _, losses in self._pending]).tolist()
        steps = [step for step, _ in self._pending]
        bad = first_non_finite(zip(steps, (dict(zip(names, row, strict=True)) for row in values), strict=True))
        if bad is not None:
            step, term, value = bad
            self._pending.clear()
            self._events.publish(LossNotFinite(step, term, value))
            raise TrainingError(
                f"The loss {term} became {value} at step {step}, so training stopped. "
                f"{last_good_checkpoint(self._config.out)} "
                "Try a smaller --learning-rate, or --precision fp32 if it was not."
            )
        return {name: sum(row[i] for row in values) / len(values) for i, name in enumerate(names)}

    @property
    def latest(self) -> tuple[Mapping[str, float], float]:
        """Losses and images per second to show: those of the last line, or before the first one those of now."""
        if self._means or not self._pending:
            return self._means, self._images_per_second
        # Slow steps must not leave the progress line empty; this reads the device, but only before the first line.
        losses = {name: float(loss) for name, loss in self._pending[-1][1].items()}
        images = 2 * self._config.batch_size * len(self._pending)
        return losses, images / max(self._progress.seconds - self._progress.seconds_before, 1e-9)
