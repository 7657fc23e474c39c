"""The networks of Zhu et al. 2017: builders by name, and their initialisation."""

import math
from collections.abc import Callable

import torch
from torch import nn

from cyclegan.config import ModelConfig
from cyclegan.networks.layers import SmoothConv2d, SmoothConvTranspose2d, SpectralConv2d
from cyclegan.networks.patch_projection import ProjectionHeads
from cyclegan.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from cyclegan.networks.resnet import ResnetGenerator
from cyclegan.networks.unet import UnetGenerator

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ProjectionHeads",
    "ResnetGenerator",
    "UnetGenerator",
    "build_discriminator",
    "build_generator",
    "build_heads",
    "count_parameters",
    "forget_activations",
    "freeze",
    "initialise",
    "plain",
    "train_mode",
]

GENERATORS: dict[str, Callable[[ModelConfig, int, int], nn.Module]] = {
    "resnet": lambda c, in_channels, out_channels: ResnetGenerator(
        in_channels,
        out_channels,
        width=c.width,
        num_blocks=c.blocks,
        norm=c.norm,
        dropout=c.dropout,
        smooth=c.resampling == "smooth",
        global_skip=c.global_skip,
    ),
    "unet": lambda c, in_channels, out_channels: UnetGenerator(
        in_channels,
        out_channels,
        width=c.width,
        depth=c.depth,
        norm=c.norm,
        dropout=c.dropout,
        global_skip=c.global_skip,
    ),
}

DISCRIMINATORS: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "patch": lambda c, channels: PatchDiscriminator(
        channels, width=c.discriminator_width, num_layers=c.discriminator_layers, norm=c.resolved_discriminator_norm
    ),
    "pixel": lambda c, channels: PixelDiscriminator(
        channels, width=c.discriminator_width, norm=c.resolved_discriminator_norm
    ),
}


def build_generator(config: ModelConfig, in_channels: int, out_channels: int, *, seed: int | None = None) -> nn.Module:
    """A generator: (N, in_channels, H, W) in [-1, 1] -> (N, out_channels, H, W), H and W multiples of config.multiple.

    Without a seed the weights are left unset, for a caller who loads them.
    """
    with torch.device("meta"):
        network = GENERATORS[config.generator](config, in_channels, out_channels)
    return _materialise(network, config, seed)


def build_discriminator(config: ModelConfig, channels: int, *, seed: int | None = None) -> nn.Module:
    """A discriminator: (N, channels, H, W) -> (N, 1, h, w), one score for each patch, without a final sigmoid."""
    with torch.device("meta"):
        network = DISCRIMINATORS[config.discriminator](config, channels)
    return _materialise(network, config, seed)


def build_heads(config: ModelConfig, generator: nn.Module, *, seed: int) -> ProjectionHeads:
    """Projections of the activations that a generator taps, as wide as its residual blocks; weights N(0, 0.02)."""
    heads = ProjectionHeads(generator.feature_channels, 4 * config.width)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(seed)
    for module in heads.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=draw)
            nn.init.zeros_(module.bias)
    return heads


def _materialise(network: nn.Module, config: ModelConfig, seed: int | None) -> nn.Module:
    network = network.to_empty(device="cpu")
    if seed is not None:
        initialise(network, config.init, config.init_gain, torch.Generator().manual_seed(seed))
    return network


@torch.no_grad()
def initialise(network: nn.Module, kind: str, gain: float, generator: torch.Generator) -> None:
    """Set all weights from `generator` alone: normal(0, gain), xavier, kaiming or orthogonal; biases 0.

    Batch norm scales are normal(1, gain), as in the reference implementation; kaiming has no gain.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight
            if kind == "normal":
                nn.init.normal_(weight, 0.0, gain, generator=generator)
            elif kind == "xavier":
                nn.init.xavier_normal_(weight, gain, generator=generator)
            elif kind == "kaiming":
                nn.init.kaiming_normal_(weight, generator=generator)
            else:
                assert kind == "orthogonal", kind
                nn.init.orthogonal_(weight, gain, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, SpectralConv2d):
                nn.init.normal_(module.u, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1.0, gain, generator=generator)
            nn.init.zeros_(module.bias)


def count_parameters(network: nn.Module) -> int:
    """Number of values that training can change, frozen ones included."""
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def freeze(network: nn.Module) -> None:
    """Keep the first layers of a network from being trained, for training further on few images.

    Generators: the encoder, all layers before the residual blocks or on the way down. Discriminators: all layers but
    the last two convolutions (Mo et al. 2020, "Freeze the Discriminator"). Their batch norms keep their statistics and
    normalise with them, as long as `train_mode` prepares the network for each step.
    """
    if isinstance(network, ResnetGenerator):
        parts = [network.stem, network.stem_norm, network.down, network.down_norm]
    elif isinstance(network, UnetGenerator):
        parts = [network.down, network.down_norm]
    elif isinstance(network, PatchDiscriminator):
        parts = [network.stem, network.convs[:-1], network.norms[:-1]]
    else:
        assert isinstance(network, PixelDiscriminator), type(network)
        parts = [network.stem]
    for part in parts:
        part.requires_grad_(False)


def forget_activations(generator: nn.Module) -> None:
    """Let a generator compute its activations again in the backward pass instead of keeping them."""
    assert isinstance(generator, ResnetGenerator | UnetGenerator), type(generator)
    generator.forgets = True


def plain(network: nn.Module) -> nn.Module:
    """A generator to translate with: of ordinary convolutions alone, where training has others. Changed in place."""
    for name, module in list(network.named_modules()):
        if isinstance(module, SmoothConv2d | SmoothConvTranspose2d):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module.plain())
    return network


def train_mode(network: nn.Module) -> None:
    """`network.train()`, but for frozen batch norms: what is frozen must give the same features as before."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()
