"""The learning rate over a run."""

import math

from cyclegan.config import TrainConfig


def cycle_factor_at(config: TrainConfig, position: float, length: float) -> float:
    """What the cycle weights are multiplied by: 1 at the start, falling evenly to `cycle_end` at the end of the run."""
    share = min(max(position / length, 0.0), 1.0)
    return 1.0 + (config.cycle_end - 1.0) * share


def learning_rate_at(config: TrainConfig, position: float, length: float) -> float:
    """The learning rate at `position` of a run of `length`, in the same unit: epochs, steps or seconds.

    linear: constant, then in equal parts down to zero over `decay_share` of the run. Over epochs or steps the n-th of
    `decay` units has the factor 1 - n / (decay + 1), so that no unit is spent at zero (the reference's schedule); over
    minutes, and over less than one epoch of decay, it falls continuously.
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
