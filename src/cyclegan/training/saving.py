"""Save the networks of a run: checkpoints, the final model, and models of certain epochs."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from cyclegan.config import TrainConfig
from cyclegan.errors import InputError, TrainingError
from cyclegan.step.state import TrainState
from cyclegan.storage.model import ModelInfo, check_model, save_model
from cyclegan.system.processes import Processes
from cyclegan.training.checkpoint import generator_weights, last_good_checkpoint, save_checkpoint, writing
from cyclegan.training.events import CheckpointSaved, Events
from cyclegan.training.loss_log import LossLog
from cyclegan.training.schedule import Progress


@dataclass
class Saver:
    """Saves the networks of one run, never with a weight that is not finite.

    info: describes the model, except for its step. saved_step: step of the newest checkpoint, or -1. processes: the
    first one writes, and all of them check that what they have is finite. Methods raise TrainingError if a weight
    or a loss is not finite, or if a file cannot be written.
    """

    config: TrainConfig
    state: TrainState
    info: ModelInfo
    progress: Progress
    losses: LossLog
    events: Events
    saved_step: int
    processes: Processes
    _saved_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self._saved_seconds = self.progress.seconds

    def checkpoint_is_due(self) -> bool:
        """Whether `checkpoint_steps` or `checkpoint_minutes` have passed."""
        if self.state.step % self.config.checkpoint_steps == 0:
            return True
        return self.progress.seconds - self._saved_seconds > 60 * self.config.checkpoint_minutes

    def save_checkpoint(self) -> None:
        """Write checkpoints/step_N, unless the newest one is of this step, and log the losses up to it."""
        config, state = self.config, self.state
        if self.saved_step == state.step:
            return
        self._check()
        if not self.processes.is_first:
            return
        with writing(config.out, state.step):
            path = save_checkpoint(
                config.out, self._describe(), state, seconds=self.progress.seconds, keep=config.keep_checkpoints
            )
        self.saved_step, self._saved_seconds = state.step, self.progress.seconds
        self.events.publish(CheckpointSaved(state.step, path))

    def save_model(self, folder: str = "model", *, unless_current: bool = False) -> None:
        """Write model/ or another folder of the run. unless_current: only if it is missing or holds another model."""
        target = self.config.out / folder
        if not self.processes.is_first:
            return
        if unless_current and self._is_current(target):
            return
        with writing(self.config.out, self.state.step):
            save_model(target, self._describe(), generator_weights(self.state))

    def _is_current(self, model: Path) -> bool:
        """Whether a model directory is whole and holds the model of this step."""
        try:
            return (model / "config.json").is_file() and check_model(model) == self._describe()
        except InputError:  # damaged: it is written again
            return False

    def epoch_model_is_due(self) -> bool:
        """Whether `model_epochs` more epochs are complete."""
        every, step = self.config.model_epochs, self.state.step
        if every is None or self.progress.steps_per_epoch is None:
            return False
        return self.progress.epochs_at(step) // every > self.progress.epochs_at(step - 1) // every

    def save_epoch_model(self) -> None:
        """Write models/epoch_0005/ and so on, which are never removed."""
        self._check()
        self.save_model(f"models/epoch_{int(self.progress.epochs_at(self.state.step)):04d}")

    def check_weights(self) -> None:
        """Raise TrainingError at the first weight that is not finite."""
        networks = {"generator": self.state.generator, "discriminator": self.state.discriminator}
        for owner, network in networks.items():
            for name, weight in network.named_parameters():
                if not torch.isfinite(weight).all():
                    raise TrainingError(
                        f"The weight {owner}.{name} is not finite after step {self.state.step}, so training stopped. "
                        f"{last_good_checkpoint(self.config.out)} Try a smaller --learning-rate."
                    )

    def _check(self) -> None:
        """A checkpoint must be a good one: neither the losses up to it nor its weights hold a NaN."""
        self.losses.publish()
        self.check_weights()

    def _describe(self) -> ModelInfo:
        return self.info.replace(step=self.state.step)
