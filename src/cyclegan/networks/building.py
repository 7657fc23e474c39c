"""Build networks from a configuration, initialise them, and prepare them for training or translation."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from cyclegan.errors import InputError
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.networks.layers import BlurConv2d, BlurConvTranspose2d, SpectralConv2d
from cyclegan.networks.patch_projection import ProjectionHeads
from cyclegan.networks.protocol import Discriminator, Generator, Network
from cyclegan.system.host_state import random_numbers_kept

if TYPE_CHECKING:
    from cyclegan.config import ModelConfig

Built = TypeVar("Built", bound=Network)

# Weights of one network that no machine holds.
_MAX_BYTES = 2**41


def build_generator(
    config: "ModelConfig", in_channels: int, out_channels: int, *, seed: int | None = None
) -> Generator:
    """A generator: (N, in_channels, H, W) in [-1, 1] -> (N, out_channels, H, W), H and W multiples of config.multiple.

    seed: of the weights; without one they are left unset, for a caller who loads them.
    Raises InputError if its layers need a setting that the configuration does not have.
    """
    build = partial(GENERATORS[config.generator], in_channels, out_channels, **config.generator_settings)
    return _with_weights(build, config, seed)


def build_discriminator(config: "ModelConfig", channels: int, *, seed: int | None = None) -> Discriminator:
    """A discriminator: (N, channels, H, W) -> (N, 1, h, w), one score for each patch, without a final sigmoid.

    seed, errors: as in `build_generator`.
    """
    build = partial(DISCRIMINATORS[config.discriminator], channels, **config.discriminator_settings)
    return _with_weights(build, config, seed)


def build_heads(config: "ModelConfig", generator: Generator, *, seed: int) -> ProjectionHeads:
    """Projections of a generator's features for the contrastive loss, 4 * config.width wide; weights N(0, 0.02)."""
    with random_numbers_kept():
        heads = ProjectionHeads(generator.feature_channels, 4 * config.width)
    draw = torch.Generator().manual_seed(seed)
    for module in heads.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=draw)
            nn.init.zeros_(module.bias)
    return heads


def _with_weights(build: Callable[[], Built], config: "ModelConfig", seed: int | None) -> Built:
    """The network of `build`, initialised from the seed alone."""
    network = None
    shapes = built_on_meta(build)
    if shapes is not None:
        _check_size(shapes)
        try:
            network = shapes.to_empty(device="cpu") if _all_initialised(shapes) else None
        except RuntimeError:  # torch has no error of its own for a CPU without memory
            raise InputError(f"{type(shapes).__name__} does not fit into memory: {_size(shapes)}.") from None
    if network is None:
        # Parameters that `initialise` does not set keep the values of their constructors.
        with random_numbers_kept(seed or 0):
            network = build()
    _check_layers(network, config)
    if seed is not None:
        initialise(network, config.init, config.init_gain, torch.Generator().manual_seed(seed))
    return network


def built_on_meta(build: Callable[[], Built]) -> Built | None:
    """The network of `build` with shapes but no memory; None if its constructor computes with values."""
    try:
        with random_numbers_kept(), torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):
        return None


def _check_size(network: Network) -> None:
    """Raise InputError if no machine can hold the weights, before any memory is taken."""
    if _num_bytes(network) > _MAX_BYTES:
        raise InputError(
            f"{type(network).__name__} with these settings is too large for any machine: {_size(network)}; "
            "expected a smaller width or fewer layers."
        )


def _num_bytes(network: Network) -> int:
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in network.state_dict().values())


def _size(network: Network) -> str:
    return f"{count_parameters(network):,} parameters, {_num_bytes(network) / 2**30:,.1f} GiB"


def _all_initialised(network: Network) -> bool:
    """Whether `initialise` would set all of its tensors."""
    return all(_is_initialised(module) for module in network.modules())


def _is_initialised(module: nn.Module) -> bool:
    """Whether `initialise` sets every tensor that a module itself holds."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        return not _keeps_weights(module)
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False), *vars(module).values()]
    return not any(isinstance(value, Tensor) for value in own)


def _keeps_weights(module: nn.Module) -> bool:
    """Whether a layer begins with the weights of its constructor: an attribute `keeps_weights`, see `Generator`."""
    return bool(getattr(module, "keeps_weights", False))


def _check_layers(network: Network, config: "ModelConfig") -> None:
    """Raise InputError if a layer needs a setting that is off.

    The training step relies on these settings: how it may split a batch, and which random numbers are drawn.
    """
    name = type(network).__name__
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not config.uses_batch_norm:
            raise InputError(f"{name} has a layer of batch norm, and norm is {config.norm!r}; set norm to 'batch'.")
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 and not config.dropout:
            raise InputError(f"{name} has a dropout layer, and dropout is off; set dropout to true.")


@torch.no_grad()
def initialise(network: nn.Module, kind: str, gain: float, generator: torch.Generator) -> None:
    """Set the weights of all convolutions from `generator` alone: normal(0, gain), xavier, kaiming or orthogonal.

    Biases are 0. Batch norm scales are normal(1, gain), as in the reference implementation; kaiming has no gain. Layers
    with `keeps_weights` stay as they are.
    """
    for module in network.modules():
        if _keeps_weights(module):
            continue
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


@torch.no_grad()
def check_output(network: Network, x: Tensor, channels: int, side: int | None) -> None:
    """Run a network once, and raise InputError if it fails or returns anything else than its protocol says.

    x: (1, C, H, W), float32. channels, side: of the output; a side of None is any.
    """
    name, given = type(network).__name__, tuple(x.shape)
    try:
        output: Any = network.eval()(x)
    except Exception as error:
        raise InputError(f"{name} fails for images of shape {given}: {type(error).__name__}: {error}") from error
    finally:
        network.train()
    wanted = (1, channels, *(("h", "w") if side is None else (side, side)))
    if isinstance(output, Tensor):
        sizes = tuple(output.shape) if side is not None else (*output.shape[:2], *"hw"[: output.ndim - 2])
        if sizes == wanted and output.dtype == torch.float32:
            return
    found = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise InputError(
        f"{name} returned {found} for images of shape {given}; expected a torch.float32 tensor of shape "
        f"({', '.join(map(str, wanted))})."
    )


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values, frozen ones included."""
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def freeze(network: Network) -> None:
    """Freeze the early layers of a network, for fine-tuning on few images.

    Generators: the encoder, all layers before the residual blocks or on the way down. Discriminators: all layers but
    the last two convolutions (Mo et al. 2020, "Freeze the Discriminator"). Buffers are frozen as well, as long as
    `train_mode` prepares the network for each step: batch norms keep their statistics and normalise with them, and
    spectral norms keep their estimates.
    Raises InputError if the class declares no early layers.
    """
    for part in network.early_layers():
        part.requires_grad_(False)
        for module in part.modules():
            module.is_frozen = True  # type: ignore[assignment]


def enable_checkpointing(generator: Generator) -> None:
    """Compute the activations of a generator again in the backward pass instead of keeping them.

    Raises InputError if the class cannot do this.
    """
    if not generator.can_checkpoint:
        raise InputError(f"{type(generator).__name__} has no gradient checkpointing; leave checkpoint_activations out.")
    generator.checkpointing = True


def to_plain_convs(network: nn.Module) -> nn.Module:
    """Replace convolutions with a low-pass filter by ordinary ones of the same result, for translation. In place."""
    with random_numbers_kept():
        for name, module in list(network.named_modules()):
            if isinstance(module, BlurConv2d | BlurConvTranspose2d):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, module.to_plain())
    return network


def train_mode(network: nn.Module) -> None:
    """`network.train()`, except for frozen layers that would update their buffers and so change their results.

    These are the layers with buffers below what `freeze` froze, such as batch norms and torch's spectral norms, and
    batch norms whose scale is frozen.
    """
    network.train()
    for module in network.modules():
        frozen = getattr(module, "is_frozen", False) and any(True for _ in module.buffers(recurse=False))
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None:
            frozen |= not module.weight.requires_grad
        if frozen:
            module.training = False
