"""Progress of a run, and the learning rate and cycle weights that depend on it."""

import math
from dataclasses import dataclass
from fractions import Fraction

from cyclegan.config import TrainConfig
from cyclegan.step.state import TrainState
from cyclegan.system.clock import time_stood_still, working_time
from cyclegan.system.messages import Messages


@dataclass
class Progress:
    """Progress of a run, in steps and in seconds of training time.

    steps_per_epoch: None if the batches have no known length; the length is then given in steps or minutes.
    seconds_before: training time of earlier sessions. epochs_before: a step, and the epochs that were done by then,
    when an epoch had another number of steps: images that are added make no epoch undone.
    """

    config: TrainConfig
    state: TrainState
    steps_per_epoch: int | None
    seconds_before: float
    epochs_before: tuple[int, Fraction] = (0, Fraction(0))
    # When the clock started, and the share that was done then.
    _started: float | None = None
    _share_before: float = 0.0
    # For how long the process has stood still, as far as it was shown.
    _stood_still: float = 0.0

    def start_clock(self) -> None:
        """Count training time from now on."""
        self._share_before, self._started = self.share, working_time()
        self._stood_still = time_stood_still()

    @property
    def seconds(self) -> float:
        """Training time so far, including earlier sessions, without time in which the process stood still."""
        return self.seconds_before + (working_time() - self._started if self._started is not None else 0.0)

    def report_standstill(self, messages: Messages) -> None:
        """Show how long the process stood still, if it did since the last call."""
        before, self._stood_still = self._stood_still, time_stood_still()
        if self._stood_still > before:
            minutes = round((self._stood_still - before) / 60)
            messages.info(
                f"Step {self.step}: the process stood still for {minutes} minutes (a computer that slept, or Ctrl-Z). "
                "They do not count as training time."
            )

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.state.step

    @property
    def epoch(self) -> float | None:
        """Passes over the larger domain, or None if the batches have no known length."""
        return float(self.epochs_at(self.step)) if self.steps_per_epoch is not None else None

    def epochs_at(self, step: int) -> Fraction:
        """Passes over the larger domain after a step of this session. Only for batches of a known length."""
        assert self.steps_per_epoch is not None
        begin, epochs = self.epochs_before
        return epochs + Fraction(step - begin, self.steps_per_epoch)

    @property
    def num_steps(self) -> int:
        """Length of the run in steps. Not for a run whose length is given in minutes."""
        if self.config.steps is not None:
            return self.config.steps
        assert self.config.epochs is not None
        assert self.steps_per_epoch is not None
        begin, epochs = self.epochs_before
        if begin == 0:
            return math.ceil(self.config.epochs * self.steps_per_epoch)
        return begin + max(0, math.ceil((Fraction(self.config.epochs) - epochs) * self.steps_per_epoch))

    @property
    def share(self) -> float:
        """Share of the run that is done; 1 and more: it is complete."""
        if self.config.minutes is not None:
            return self.seconds / (60 * self.config.minutes)
        if self.epochs_before[0] > 0 and self.config.epochs is not None and self.step < self.num_steps:
            return float(self.epochs_at(self.step) / Fraction(self.config.epochs))
        return self.step / self.num_steps

    @property
    def seconds_left(self) -> float:
        """Estimate of the training time that is left, from the pace of this session; 0 before its first step."""
        if self.config.minutes is not None:
            return 60 * self.config.minutes - self.seconds
        share = min(max(self.share, 1e-9), 1.0)
        done = share - self._share_before
        return (1 - share) * (self.seconds - self.seconds_before) / done if done > 0 else 0.0

    @property
    def position(self) -> tuple[float, float]:
        """Position and length of the run, in the unit that its length is given in: seconds, steps or epochs."""
        if self.config.minutes is not None:
            return self.seconds, 60 * self.config.minutes
        if self.config.steps is not None:
            return self.step, self.config.steps
        assert self.config.epochs is not None
        assert self.epoch is not None
        return self.epoch, self.config.epochs


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
