"""Networks and folders as the reference implementation leaves them, with random weights."""

import torch

from cyclegan.networks import build_discriminator, build_generator
from cyclegan.reference.keys import to_reference


def reference_state(config, channels=(3, 3), *, seed=0):
    """A network with random weights, under the reference's keys and as its release writes it."""
    build = build_generator if len(channels) == 2 else build_discriminator
    network = build(config, *channels, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            state[key] = torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01
    if config.norm == "none":  # it has biases at the ends alone
        ends = {"resnet": ("head",), "unet": ("up.0",)}
        kept = ends[config.generator] if len(channels) == 2 else ("stem", "head")
        inner = [key for key in state if key.endswith("bias") and not key.startswith(kept)]
        state |= {key: torch.zeros_like(state[key]) for key in inner}
        if config.discriminator == "pixel" and len(channels) == 1:
            state["head.bias"].zero_()
    return to_reference(state, dropout=config.dropout, norm=config.norm)


def write_folder(folder, config, *, epoch="latest", options=None, channels=(3, 3)):
    """checkpoints/NAME as the reference leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    discriminators = {"D_A": channels[1:], "D_B": channels[:1]}
    for seed, (role, of) in enumerate({"G_A": channels, "G_B": channels[::-1], **discriminators}.items()):
        torch.save(reference_state(config, of, seed=seed), folder / f"{epoch}_net_{role}.pth")
    if options is not None:
        lines = [f"{name:>25}: {value:<30}\t[default: None]" for name, value in options.items()]
        text = ["----------------- Options ---------------", *lines, "----------------- End -------------------"]
        (folder / "train_opt.txt").write_text("\n".join(text) + "\n")
    return folder
