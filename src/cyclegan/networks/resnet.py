"""The residual generator of Zhu et al. 2017, appendix 7.2, after Johnson et al. 2016."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks import winograd
from cyclegan.networks.fused import reflect
from cyclegan.networks.layers import (
    BlurConv2d,
    BlurConvTranspose2d,
    Conv2d,
    ConvTranspose2d,
    checkpointed,
    conv_norm,
    conv_norm_and_pad,
    drop_or_freeze_bias,
    norm_layer,
    to_image,
)
from cyclegan.networks.protocol import Generator, Settings, Sizes, Tiling

_NO_NORM = nn.Identity()


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

    def forward(
        self, x: Tensor, padded: Tensor | None = None, *, pad: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """padded: x after `reflect`, if the block before has computed it. pad: return the output padded, too, if not 0.

        In a chain of blocks that is faster than padding at the start of each.
        """
        if self.transformed is not None:
            result = self._with_fewer_multiplications(x, *self.transformed)
            return result if pad is None else (result, None)
        padded = reflect(x, 1) if padded is None else padded
        if self.dropout:
            h = conv_norm(padded, self.conv1, self.norm1, slope=0.0)
            h = reflect(F.dropout(h, self.dropout, self.training), 1)
        else:
            h = conv_norm(padded, self.conv1, self.norm1, slope=0.0, pad=1)
        if pad is None:
            return conv_norm(h, self.conv2, self.norm2, residual=x)
        return conv_norm_and_pad(h, self.conv2, self.norm2, residual=x, pad=pad)

    def _with_fewer_multiplications(self, x: Tensor, kernels1: Tensor, kernels2: Tensor) -> Tensor:
        h = F.relu_(self.norm1(winograd.convolve(x, self.conv1.weight, self.conv1.bias, kernels1)))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        change: Tensor = self.norm2(winograd.convolve(h, self.conv2.weight, self.conv2.bias, kernels2))
        return x + change


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
        padding: str = "zeros",
        skips: bool = False,
        global_skip: bool = False,
    ) -> None:
        """resampling: strided, or smooth: with a low-pass filter against aliasing and checkerboards.

        padding: of the convolutions that change the resolution: zeros, or reflect, as that of all others.
        skips: add the encoder's activations at full and half resolution to the decoder's, so that detail of the input
        reaches the output. Two 3x3 convolutions then take the place of the last one, 7x7, at about the same cost.
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
        for conv in (*self.down, *self.up):
            conv.padding_mode = padding
        self.skips = skips
        if skips:
            # Without a bias: that of the convolution behind the sum has the same effect.
            self.skip_half = Conv2d(2 * width, 2 * width, 1, bias=False)
            self.skip_full = Conv2d(width, width, 1, bias=False)
            self.merge = drop_or_freeze_bias(Conv2d(width, width, 3), norm)
            self.merge_norm = norm_layer(norm, width)
        self.head = Conv2d(width, out_channels + global_skip, 3 if skips else 7)
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
        h, *skips = checkpointed(self._encode, x, enabled=self.checkpointing)
        padded = None
        for index, block in enumerate(self.blocks):
            h, padded = self._block(block, h, padded, last=index == len(self.blocks) - 1)
        return self._to_image(h, x, *skips)

    def features(self, x: Tensor, *, decode: bool) -> tuple[Tensor, ...]:
        """Activations at half and quarter resolution: after each down-sampling, the first and the middle block.

        decode: whether the output comes first.
        """
        half, *full = checkpointed(self._encode_half, x, enabled=self.checkpointing)
        h = checkpointed(self._encode_quarter, half, enabled=self.checkpointing)
        found = [half, h]
        count = len(self.blocks) if decode else max(self._feature_blocks, default=-1) + 1
        padded = None
        for index, block in enumerate(self.blocks[:count]):
            h, padded = self._block(block, h, padded, last=index == count - 1)
            if index in self._feature_blocks:
                found.append(h)
        return (self._to_image(h, x, *((half, *full) if self.skips else ())), *found) if decode else tuple(found)

    def _block(self, block: nn.Module, h: Tensor, padded: Tensor | None, *, last: bool) -> tuple[Tensor, Tensor | None]:
        """The activation after a block, and its padded form if it was computed with it."""
        if self.checkpointing:  # which keeps one tensor between blocks, not two
            return checkpointed(block, h, enabled=True, random=self.dropout), None
        return block(h, padded, pad=0 if last else 1)  # type: ignore[no-any-return]

    def _to_image(self, h: Tensor, x: Tensor, *skips: Tensor) -> Tensor:
        change = checkpointed(self._decode, h, *skips, enabled=self.checkpointing)
        return to_image(change, x if self.global_skip else None)

    @property
    def _feature_blocks(self) -> list[int]:
        return sorted({0, len(self.blocks) // 2}) if len(self.blocks) else []

    def _encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """The activation at a quarter of the resolution, then those of skips: at half and at full resolution."""
        half, *full = self._encode_half(x)
        return self._encode_quarter(half), *((half, *full) if self.skips else ())

    def _encode_half(self, x: Tensor) -> tuple[Tensor, ...]:
        """The activation at half resolution, then, with skips, that at full resolution."""
        full = conv_norm(reflect(x, 3), self.stem, self.stem_norm, slope=0.0)
        half = conv_norm(full, self.down[0], self.down_norm[0], slope=0.0)
        return (half, full) if self.skips else (half,)

    def _encode_quarter(self, h: Tensor) -> Tensor:
        return conv_norm(h, self.down[1], self.down_norm[1], slope=0.0)

    def _decode(self, h: Tensor, half: Tensor | None = None, full: Tensor | None = None) -> Tensor:
        h = conv_norm(h, self.up[0], self.up_norm[0], slope=0.0)
        if half is None or full is None:
            h = conv_norm(h, self.up[1], self.up_norm[1], slope=0.0, pad=3)
        else:
            h = conv_norm(half, self.skip_half, _NO_NORM, residual=h)
            h = conv_norm(h, self.up[1], self.up_norm[1], slope=0.0)
            h = conv_norm(full, self.skip_full, _NO_NORM, residual=h, pad=1)
            h = conv_norm(h, self.merge, self.merge_norm, slope=0.0, pad=1)
        return self.head(h).float()  # type: ignore[no-any-return]
