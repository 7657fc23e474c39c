"""Where a run is between its start and its end, and the learning rate and cycle weights there."""

import math
import time

from cyclegan.config import TrainConfig
from cyclegan.step.state import TrainState


class Progress:
    """How far a run is, in steps and in seconds of training time.

    steps_per_epoch: None if the batches have no known length; the length is then given in steps or minutes.
    seconds_before: training time of earlier sessions.
    """

    def __init__(
        self, config: TrainConfig, state: TrainState, steps_per_epoch: int | None, seconds_before: float
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.seconds_before = seconds_before
        self._config, self._state = config, state
        self._started: float | None = None

    def start_clock(self) -> None:
        """Count training time from now on."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, including earlier sessions."""
        return self.seconds_before + (time.monotonic() - self._started if self._started is not None else 0.0)

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self._state.step

    @property
    def epoch(self) -> float | None:
        """Passes over the larger domain, or None if the batches have no known length."""
        return self._state.step / self.steps_per_epoch if self.steps_per_epoch is not None else None

    @property
    def num_steps(self) -> int:
        """Length of the run in steps. Not for a run whose length is given in minutes."""
        if self._config.steps is not None:
            return self._config.steps
        assert self._config.epochs is not None
        assert self.steps_per_epoch is not None
        return math.ceil(self._config.epochs * self.steps_per_epoch)

    @property
    def share(self) -> float:
        """Share of the run that is done; 1 and more: it is complete."""
        if self._config.minutes is not None:
            return self.seconds / (60 * self._config.minutes)
        return self._state.step / self.num_steps

    @property
    def position(self) -> tuple[float, float]:
        """Position and length of the run, in the unit that its length is given in: seconds, steps or epochs."""
        config = self._config
        if config.minutes is not None:
            return self.seconds, 60 * config.minutes
        if config.steps is not None:
            return self._state.step, config.steps
        assert config.epochs is not None
        assert self.steps_per_epoch is not None
        return self._state.step / self.steps_per_epoch, config.epochs


def cycle_factor_at(config: TrainConfig, position: float, length: float) -> float:
    """Factor of the cycle weights: 1 at the start of a run, changing linearly to `cycle_end` at its end."""
    share = min(max(position / length, 0.0), 1.0)
    return 1.0 + (config.cycle_end - 1.0) * share


def learning_rate_at(config: TrainConfig, position: float, length: float) -> float:
    """The learning rate at `position` of a run of `length`, in the same unit: epochs, steps or seconds.

    linear: constant, then decays to zero over the last `decay_share` of the run. Over epochs or steps the n-th of
    `decay` units has the factor 1 - n / (decay + 1), so that no unit trains at zero (the schedule of the reference
    implementation); over minutes, and over less than one epoch of decay, it decays continuously.
    cosine: half a cosine down to zero. step: a tenth after each `drop_share` of the run. constant: constant.
    """
    share = min(max(position / length, 0.0), 1.0)
    if config.schedule == "linear":
        decay = round(length * config.decay_share)
        if config.decay_share == 0:
            factor = 1.0
        elif config.minutes is not None or decay == 0:
            factor = min(1.0, (1.0 - share) / config.decay_share)
        else:
            factor = 1.0 - max(0, math.floor(position) + 1 - (math.ceil(length) - decay)) / (decay + 1)
    elif config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    elif config.schedule == "step":
        # 90 of 200 epochs are three times a share of 0.15 only up to rounding.
        factor = 0.1 ** math.floor(share / config.drop_share + 1e-9)
    else:
        factor = 1.0
    return config.learning_rate * max(factor, 0.0)
