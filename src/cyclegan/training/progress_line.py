"""The line that shows how a run goes."""

from cyclegan.config import TrainConfig
from cyclegan.step.terms import reported_losses
from cyclegan.training.loss_log import LossLog
from cyclegan.training.schedule import Progress


class ProgressLine:
    """The text of the progress line: step, losses, speed and time left."""

    def __init__(self, config: TrainConfig, progress: Progress, losses: LossLog) -> None:
        self._config, self._progress, self._losses = config, progress, losses
        self._share_before = progress.share

    def __call__(self) -> str:
        names = {name: loss.short for loss in reported_losses() for name in loss.names}
        sums: dict[str, float] = {}
        means, speed = self._losses.latest
        for name, value in means.items():
            short = names[name]
            sums[short] = sums.get(short, 0.0) + value
        losses = " ".join(f"{name} {value:.2f}" for name, value in sums.items())
        minutes, seconds = divmod(max(round(self._seconds_left()), 0), 60)
        clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        return f"step {self._progress.step} {losses} {speed:.1f} images/s, {clock} left"

    def _seconds_left(self) -> float:
        progress = self._progress
        if self._config.minutes is not None:
            return 60 * self._config.minutes - progress.seconds
        share = min(max(progress.share, 1e-9), 1.0)
        done = share - self._share_before
        return (1 - share) * (progress.seconds - progress.seconds_before) / done if done > 0 else 0.0
