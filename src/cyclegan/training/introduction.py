"""What a session shows before its first step."""

from pathlib import Path

from cyclegan.config import TrainConfig
from cyclegan.networks import count_parameters
from cyclegan.step.state import TrainState
from cyclegan.step.terms import active_terms
from cyclegan.system.devices import describe_device
from cyclegan.system.messages import Messages
from cyclegan.training.schedule import Progress


def introduce(
    config: TrainConfig,
    state: TrainState,
    precision: str,
    progress: Progress,
    checkpoint: Path | None,
    messages: Messages,
) -> None:
    """Show the networks, the losses, the length, the machine and where the run starts.

    precision: the arithmetic in words.
    """
    for line in (
        *_networks(config, state),
        f"Preset {config.preset}: {_weights(config)}",
        *_missing_identity(config),
        f"Length: {_length(config, progress)}. Device: {describe_device(state.device)}. Seed: {config.seed}",
        f"Precision: {precision}",
        f"Run directory: {config.out}",
        *([f"Going on after step {state.step} from {checkpoint}"] if checkpoint is not None else []),
    ):
        messages.info(line)


def _networks(config: TrainConfig, state: TrainState) -> list[str]:
    generator, discriminator = state.generator.a2b, state.discriminator.a
    lines = [
        f"Networks: {config.model.generator} generators with {count_parameters(generator):,} parameters each, "
        f"{config.model.discriminator} discriminators with {count_parameters(discriminator):,}"
    ]
    if config.freeze != "none":
        parts = {"encoder": "the generators' encoders", "discriminator": "the discriminators' first layers"}
        parts["both"] = f"{parts['encoder']} and {parts['discriminator']}"
        lines.append(f"Frozen with the weights of {config.init_from}: {parts[config.freeze]}")
    return lines


def _weights(config: TrainConfig) -> str:
    """The weights of the generator's loss terms, the batch size and the learning rate."""
    parts = [term.describe_weight(config) for term in active_terms(config)]
    images = "1 image" if config.batch_size == 1 else f"{config.batch_size} images"
    return f"{', '.join(parts)}; {images} a step, learning rate {config.learning_rate:g}"


def _missing_identity(config: TrainConfig) -> list[str]:
    if config.identity_weight == 0 or config.uses_identity:
        return []
    channels = config.model.channels_a, config.model.channels_b
    return [f"No identity term: domain A has {channels[0]} channels, domain B has {channels[1]}"]


def _length(config: TrainConfig, progress: Progress) -> str:
    if config.minutes is not None:
        return f"{config.minutes:g} minutes; the {config.schedule} schedule follows the clock, not the steps"
    if config.steps is not None:
        return f"{config.steps} steps"
    return f"{config.epochs:g} epochs, {progress.num_steps} steps"
