"""The residual generator of Zhu et al. 2017, appendix 7.2, after Johnson et al. 2016."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks import winograd
from cyclegan.networks.layers import (
    BlurConv2d,
    BlurConvTranspose2d,
    Conv2d,
    ConvTranspose2d,
    checkpointed,
    drop_or_freeze_bias,
    norm_layer,
    to_image,
)
from cyclegan.networks.protocol import Generator, Settings, Sizes, Tiling


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions with reflection padding; (N, C, H, W) -> (N, C, H, W)."""

    # The kernels of both convolutions after `winograd.transform`, within `kernels_transformed`.
    transformed: tuple[Tensor, Tensor] | None = None

    def __init__(self, channels: int, *, norm: str, dropout: bool) -> None:
        super().__init__()
        self.conv1 = drop_or_freeze_bias(Conv2d(channels, channels, 3), norm)
        self.norm1 = norm_layer(norm, channels)
        self.conv2 = drop_or_freeze_bias(Conv2d(channels, channels, 3), norm)
        self.norm2 = norm_layer(norm, channels)
        self.dropout = 0.5 if dropout else 0.0

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.transformed or (None, None)
        h = F.relu_(self.norm1(_convolve(self.conv1, x, first)))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        change: Tensor = self.norm2(_convolve(self.conv2, h, second))
        return x + change


def _convolve(conv: Conv2d, x: Tensor, transformed: Tensor | None) -> Tensor:
    if transformed is None:
        return conv(reflect(x, 1))  # type: ignore[no-any-return]
    return winograd.convolve(x, conv.weight, conv.bias, transformed)


@contextmanager
def kernels_transformed(network: nn.Module) -> Iterator[None]:
    """Within, wide residual blocks of a network convolve as in `winograd`, for float32 on a CPU.

    The weights must not change within: their transform is computed once, at the beginning.
    """
    modules = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    blocks = [block for block in modules if block.conv1.in_channels >= winograd.FEWEST_CHANNELS]
    try:
        for block in blocks:
            block.transformed = winograd.transform(block.conv1.weight), winograd.transform(block.conv2.weight)
        yield
    finally:
        for block in blocks:
            block.transformed = None


class ResnetGenerator(Generator):
    """c7s1-w, d2w, d4w, R4w x blocks, u2w, uw, c7s1-out; tanh.

    (N, in_channels, H, W) -> (N, out_channels, H, W) in [-1, 1]; H and W are multiples of 4 and at least 8.
    """

    can_checkpoint = True
    tiling: ClassVar[Tiling] = "residual"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        blocks: int,
        norm: str,
        dropout: bool,
        resampling: str = "strided",
        global_skip: bool = False,
    ) -> None:
        """resampling: strided, or smooth: with a low-pass filter against aliasing and checkerboards.

        global_skip: add the input to the output, see `to_image`.
        """
        super().__init__()
        down, up = {"strided": (Conv2d, ConvTranspose2d), "smooth": (BlurConv2d, BlurConvTranspose2d)}[resampling]
        self.stem = drop_or_freeze_bias(Conv2d(in_channels, width, 7), norm)
        self.stem_norm = norm_layer(norm, width)
        self.down = nn.ModuleList(drop_or_freeze_bias(down(c, 2 * c, 3, 2, 1), norm) for c in (width, 2 * width))
        self.down_norm = nn.ModuleList(norm_layer(norm, 2 * c) for c in (width, 2 * width))
        self.blocks = nn.ModuleList(ResidualBlock(4 * width, norm=norm, dropout=dropout) for _ in range(blocks))
        self.dropout = dropout
        self.up = nn.ModuleList(
            drop_or_freeze_bias(up(c, c // 2, 3, 2, 1, output_padding=1), norm) for c in (4 * width, 2 * width)
        )
        self.up_norm = nn.ModuleList(norm_layer(norm, c // 2) for c in (4 * width, 2 * width))
        self.head = Conv2d(width, out_channels + global_skip, 7)
        self.global_skip = global_skip
        self.feature_channels = [2 * width, 4 * width, *[4 * width] * len(self._feature_blocks)]

    @classmethod
    def sizes(cls, _settings: Settings) -> Sizes:
        # Reflection padding needs 2x2 at a quarter of the size.
        return Sizes(multiple=4, smallest=8)

    @classmethod
    def summary(cls, settings: Settings) -> str:
        return f"{settings['blocks']} residual blocks, width {settings['width']}"

    def early_layers(self) -> Sequence[nn.Module]:
        return [self.stem, self.stem_norm, self.down, self.down_norm]

    def forward(self, x: Tensor) -> Tensor:
        """Computes in the type and memory format of x; the result is float32."""
        h = checkpointed(self._encode, x, enabled=self.checkpointing)
        for block in self.blocks:
            h = checkpointed(block, h, enabled=self.checkpointing, random=self.dropout)
        return self._to_image(h, x)

    def features(self, x: Tensor, *, decode: bool) -> tuple[Tensor, ...]:
        """Activations at half and quarter resolution: after each down-sampling, the first and the middle block.

        decode: whether the output comes first.
        """
        half = checkpointed(self._encode_half, x, enabled=self.checkpointing)
        h = checkpointed(self._encode_quarter, half, enabled=self.checkpointing)
        found = [half, h]
        last = len(self.blocks) if decode else max(self._feature_blocks, default=-1) + 1
        for index, block in enumerate(self.blocks[:last]):
            h = checkpointed(block, h, enabled=self.checkpointing, random=self.dropout)
            if index in self._feature_blocks:
                found.append(h)
        return (self._to_image(h, x), *found) if decode else tuple(found)

    def _to_image(self, h: Tensor, x: Tensor) -> Tensor:
        change = checkpointed(self._decode, h, enabled=self.checkpointing)
        return to_image(change, x if self.global_skip else None)

    @property
    def _feature_blocks(self) -> list[int]:
        return sorted({0, len(self.blocks) // 2}) if len(self.blocks) else []

    def _encode(self, x: Tensor) -> Tensor:
        return self._encode_quarter(self._encode_half(x))

    def _encode_half(self, x: Tensor) -> Tensor:
        h = F.relu_(self.stem_norm(self.stem(reflect(x, 3))))
        return F.relu_(self.down_norm[0](self.down[0](h)))

    def _encode_quarter(self, h: Tensor) -> Tensor:
        return F.relu_(self.down_norm[1](self.down[1](h)))

    def _decode(self, h: Tensor) -> Tensor:
        for conv, norm in zip(self.up, self.up_norm, strict=True):
            h = F.relu_(norm(conv(h)))
        return self.head(reflect(h, 3)).float()  # type: ignore[no-any-return]


def reflect(x: Tensor, pixels: int) -> Tensor:
    """Pad each side with `pixels` mirrored rows and columns, without repeating the border."""
    padded = F.pad(x, (pixels, pixels, pixels, pixels), mode="reflect")
    if x.is_cuda and not x.is_contiguous():  # CUDA pads to planes, whatever the input
        return padded.contiguous(memory_format=torch.channels_last)
    return padded
