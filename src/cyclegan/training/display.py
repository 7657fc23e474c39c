"""Text that a session shows in the terminal: an introduction before its first step, then the progress line."""

from pathlib import Path

import torch

from cyclegan.networks import count_parameters
from cyclegan.step.state import TrainState
from cyclegan.step.terms import active_terms, reported_losses
from cyclegan.system.devices import describe_device
from cyclegan.system.messages import Messages
from cyclegan.system.words import counted
from cyclegan.training.loss_log import LossLog
from cyclegan.training.schedule import Progress

_FROZEN_PARTS = {
    "encoder": "the generators' encoders",
    "discriminator": "the discriminators' first layers",
    "both": "the generators' encoders and the discriminators' first layers",
}


def introduce(
    state: TrainState, progress: Progress, messages: Messages, *, precision_reason: str, checkpoint: Path | None
) -> None:
    """Show the networks, the losses, the length, the machine and where the run starts.

    checkpoint: the one that the session resumes from, if there is one.
    """
    config, model = progress.config, progress.config.model
    messages.info(
        f"Networks: {model.generator} generators with {count_parameters(state.generator.a2b):,} parameters each, "
        f"{model.discriminator} discriminators with {count_parameters(state.discriminator.a):,}"
    )
    if model.settings_without_effect:
        messages.warning(
            f"Without effect: {', '.join(model.settings_without_effect)}, which a {model.generator} generator and "
            f"{model.discriminator} discriminators do not have."
        )
    if config.freeze != "none":
        messages.info(f"Frozen with the weights of {config.init_from}: {_FROZEN_PARTS[config.freeze]}")
    weights = ", ".join(term.describe_weight(config) for term in active_terms(config))
    images = counted(config.batch_size, "image")
    messages.info(f"Preset {config.preset}: {weights}; {images} a step, learning rate {config.learning_rate:g}")
    if config.identity_weight > 0 and not config.uses_identity:
        messages.info(f"No identity term: domain A has {model.channels_a} channels, domain B has {model.channels_b}")
    device = describe_device(state.device)
    messages.info(f"Length: {_describe_length(progress)}. Device: {device}. Seed: {config.seed}")
    messages.info(f"Precision: {state.config.precision}, {precision_reason}{_describe_threads(state)}")
    if not state.execution.share.is_whole:
        messages.info(f"Processes: {state.execution.share}")
    messages.info(f"Run directory: {config.out}")
    if checkpoint is not None:
        messages.info(f"Resuming after step {state.step} from {checkpoint}")


def _describe_length(progress: Progress) -> str:
    config = progress.config
    if config.minutes is not None:
        minutes = counted(config.minutes, "minute")
        return f"{minutes}; the {config.schedule} schedule follows the clock, not the steps"
    if config.steps is not None:
        return f"{config.steps} steps"
    return f"{config.epochs:g} epochs, {progress.num_steps} steps"


def _describe_threads(state: TrainState) -> str:
    if state.device.type != "cpu" or torch.get_num_threads() == 1:
        return ""
    side_by_side = state.execution.two_threads.side_by_side
    return "; both directions at once" if side_by_side else "; one direction after the other"


def progress_line(progress: Progress, losses: LossLog) -> str:
    """Step, losses other than 0, speed and time left. The losses of both directions are added up."""
    names = {name: loss.short for loss in reported_losses() for name in loss.names}
    sums: dict[str, float] = {}
    means, speed = losses.latest
    for name, value in means.items():
        sums[names[name]] = sums.get(names[name], 0.0) + value
    terms = " ".join(f"{name} {value:.2f}" for name, value in sums.items() if value)
    minutes, seconds = divmod(max(round(progress.seconds_left), 0), 60)
    clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return f"step {progress.step} {terms} {speed:.1f} images/s, {clock} left"
