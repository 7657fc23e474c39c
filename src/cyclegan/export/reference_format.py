"""Export checkpoints of the reference implementation."""

import io
from pathlib import Path

import torch
from torch import Tensor

from cyclegan.config import Direction, ModelConfig
from cyclegan.errors import InputError
from cyclegan.networks import build_discriminator
from cyclegan.reference.importing import ROLES
from cyclegan.reference.keys import KINDS, to_reference
from cyclegan.storage.model import load_generator, read_discriminators, read_info
from cyclegan.system.atomic import atomic_path


def export_reference(
    model: Path, out: Path, directions: tuple[Direction, ...], weights: str | None
) -> tuple[list[Path], list[str]]:
    """Write latest_net_G_A.pth and the others, as junyanz/pytorch-CycleGAN-and-pix2pix writes and loads them."""
    info = read_info(model)
    config = info.model
    if others := config.reference_incompatibilities:
        raise InputError(
            f"The networks of the reference have no {' and no '.join(others)}, which {model} has; "
            "export it in another format. (Networks of --preset paper can be exported.)"
        )
    theirs = {name: role for role, name in ROLES.items()}
    states: dict[str, dict[str, Tensor]] = {}
    for direction in directions:
        network, _ = load_generator(model, direction, weights)
        states[theirs[direction]] = to_reference(network.state_dict(), dropout=config.dropout, norm=config.norm)
    discriminators = read_discriminators(model) if len(directions) == len(info.directions) else {}
    for domain, state in discriminators.items():
        network = build_discriminator(config, config.channels_a if domain == "a" else config.channels_b)
        try:
            network.load_state_dict(state)
        except RuntimeError:
            raise InputError(f"The discriminator {domain} of {model} does not match its config.json.") from None
        states[theirs[f"discriminator_{domain}"]] = to_reference(state, norm=config.norm)

    targets = {role: out / f"latest_net_{role}.pth" for role in states}
    for target in targets.values():
        if target.exists():
            raise InputError(f"{target} already exists; remove it or choose another --out.")
    with atomic_path(out, merge=True) as folder:
        folder.mkdir()
        for role, state in states.items():
            content = io.BytesIO()  # on a full disk, torch's own writer ends in an error that does not say so
            torch.save(state, content)
            (folder / targets[role].name).write_bytes(content.getbuffer())

    notes = [f"To load it there: --model cycle_gan {' '.join(_reference_flags(config))}"]
    if config.dropout and KINDS[config.generator].dropout_shows:
        notes[0] = f"To load it there: --model test --model_suffix _A {' '.join(_reference_flags(config))}"
        notes.append("It has dropout, which --model cycle_gan there always leaves out; the keys would not fit.")
    if not discriminators:
        notes.append("Without discriminators: it can translate there, but not be trained further.")
    if (note := KINDS[config.generator].note(config)) is not None:
        notes.append(note)
    for name, image_format in (("A", info.a), ("B", info.b)):
        if image_format.dtype != "uint8":
            notes.append(f"Images of domain {name} are {image_format}; its loader reads only 8-bit images.")
    return [*targets.values()], notes


def _reference_flags(config: ModelConfig) -> list[str]:
    """Options with which the reference builds these networks."""
    flags = KINDS[config.generator].options(config)
    flags += ["--ngf", str(config.width), "--norm", config.norm]
    flags += ["--input_nc", str(config.channels_a), "--output_nc", str(config.channels_b)]
    flags += KINDS[config.discriminator].options(config)
    flags += ["--n_layers_D", str(config.discriminator_layers), "--ndf", str(config.discriminator_width)]
    return flags if config.dropout else [*flags, "--no_dropout"]
