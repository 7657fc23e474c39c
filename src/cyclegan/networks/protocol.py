"""The declarations of a generator class and of a discriminator class.

The keyword-only arguments of `__init__` are the settings of the class. An argument with the name of a setting of
`ModelConfig` (`width`, `norm`, `dropout`, ...) gets its value; `discriminator_norm` gets the resolved one. Any other
argument is an option of the class alone: it needs a type, has a default or must be given, and is set by
`generator_options` or `discriminator_options`, which are checked against the type and saved with the configuration.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from torch import Tensor, nn

from cyclegan.errors import InputError

# The values of the keyword-only arguments of a class, by name.
Settings: TypeAlias = Mapping[str, Any]

# How a generator can be run over an image in tiles with the result of the whole image:
# local: every output pixel depends on the input pixels up to `reach` away, and on nothing else.
# residual, levels: it has the layers of ResidualLayers or of LevelLayers, which may have instance norms.
Tiling: TypeAlias = Literal["local", "residual", "levels"]


class Sizes(NamedTuple):
    """Input sizes of a generator: height and width are multiples of `multiple` and at least `smallest`, in pixels.

    Other sizes are padded by the caller, with mirrored pixels.
    """

    multiple: int
    smallest: int


class BlockLayers(Protocol):
    """A residual block: x + norm2(conv2(relu(norm1(conv1(x))))), both convolutions 3x3 with reflection padding."""

    conv1: nn.Conv2d
    norm1: nn.Module
    conv2: nn.Conv2d
    norm2: nn.Module


class ResidualLayers(Protocol):
    """The layers of a generator with tiling `residual`, computed as in `ResnetGenerator`.

    The last four exist only with skips.
    """

    stem: nn.Conv2d
    stem_norm: nn.Module
    down: nn.ModuleList
    down_norm: nn.ModuleList
    blocks: nn.ModuleList
    up: nn.ModuleList
    up_norm: nn.ModuleList
    head: nn.Conv2d
    global_skip: bool
    skips: bool
    skip_half: nn.Conv2d
    skip_full: nn.Conv2d
    merge: nn.Conv2d
    merge_norm: nn.Module


class LevelLayers(Protocol):
    """The layers of a generator with tiling `levels`, computed as in `UnetGenerator`."""

    down: nn.ModuleList
    down_norm: nn.ModuleList
    up: nn.ModuleList
    up_norm: nn.ModuleList
    global_skip: bool


class Network(nn.Module, ABC):
    """Base of generators and discriminators."""

    @classmethod
    def summary(cls, settings: Settings) -> str:
        """The size of the network in a few words for reports, such as `9 residual blocks, width 64`."""
        numbers = {name: value for name, value in settings.items() if type(value) in (int, float)}
        return ", ".join(f"{name} {value}" for name, value in numbers.items())

    def early_layers(self) -> Sequence[nn.Module]:
        """The modules that `freeze` keeps from being trained: the encoder of a generator, all but the last two layers
        of a discriminator. Raises InputError where the class declares none.
        """
        raise InputError(f"{type(self).__name__} does not declare early_layers, so it cannot be frozen.")


class Generator(Network):
    """(N, in_channels, H, W) in [-1, 1] -> (N, out_channels, H, W) in [-1, 1], float32.

    `__init__` takes in_channels and out_channels, then keyword-only settings. `forward` computes in the type of its
    input, which is float32 or, with --precision, a 16-bit type; the layers of `networks.layers` do so.
    Convolutions begin as the setting `init` says, all other parameters as the constructor leaves them. A convolution
    with the attribute `keeps_weights = True` begins as its constructor leaves it, too: normal(0, 0.02) is too small for
    layers whose outputs are multiplied, as in NAFNet. A layer that
    keeps running statistics needs the setting norm=batch, one that draws random numbers the setting dropout. For all
    inputs of one shape and type `forward` computes the same operations, because the training step may trace it.
    """

    # Whether and how it can be run in tiles, and the reach of a local one, in pixels. A subclass of such a class
    # declares it again, because it may compute something else.
    tiling: ClassVar[Tiling | None] = None
    reach: int = 0

    # Whether the class can compute activations again in the backward pass, and whether it does: it then passes
    # `enabled=self.checkpointing` to `layers.checkpointed`.
    can_checkpoint: ClassVar[bool] = False
    checkpointing: bool = False

    # Channels of each activation that `features` returns, set by a class that has features.
    feature_channels: list[int]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.tiling = vars(cls).get("tiling")

    @classmethod
    @abstractmethod
    def sizes(cls, settings: Settings) -> Sizes:
        """The input sizes of a network with these settings."""

    @classmethod
    def has_features(cls) -> bool:
        """Whether the class has `features`, which the contrastive loss compares."""
        return cls.features is not Generator.features

    def features(self, x: Tensor, *, decode: bool) -> tuple[Tensor, ...]:
        """Activations for the contrastive loss, (N, C, h, w) each, best of more than one resolution.

        decode: whether the output comes first; without it, compute only the layers up to the last activation.
        """
        raise NotImplementedError


class Discriminator(Network):
    """(N, channels, H, W) in [-1, 1] -> (N, 1, h, w), float32: one score for each patch, without a final sigmoid.

    `__init__` takes channels, then keyword-only settings.
    """

    @classmethod
    @abstractmethod
    def smallest_side(cls, settings: Settings) -> int:
        """Smallest height and width, in pixels, on which a network with these settings can be trained."""
