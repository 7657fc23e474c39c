"""The residual generator of Zhu et al. 2017, appendix 7.2, after Johnson et al. 2016."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks.layers import (
    Conv2d,
    ConvTranspose2d,
    SmoothConv2d,
    SmoothConvTranspose2d,
    before_norm,
    finish,
    forget,
    norm_layer,
)


class ResidualBlock(nn.Module):
    """R: x + two 3x3 convolutions with reflection padding; (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, *, norm: str, dropout: bool) -> None:
        super().__init__()
        self.conv1 = before_norm(Conv2d(channels, channels, 3), norm)
        self.norm1 = norm_layer(norm, channels)
        self.conv2 = before_norm(Conv2d(channels, channels, 3), norm)
        self.norm2 = norm_layer(norm, channels)
        self.dropout = 0.5 if dropout else 0.0

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu_(self.norm1(self.conv1(reflect(x, 1))))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        change: Tensor = self.norm2(self.conv2(reflect(h, 1)))
        return x + change


class ResnetGenerator(nn.Module):
    """c7s1-w, d2w, d4w, R4w x num_blocks, u2w, uw, c7s1-out; tanh.

    (N, in_channels, H, W) -> (N, out_channels, H, W) in [-1, 1]; H and W are multiples of 4 and at least 8.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        num_blocks: int,
        norm: str,
        dropout: bool,
        smooth: bool = False,
        global_skip: bool = False,
    ) -> None:
        """smooth: low-pass filter what is resampled, so that neither aliases nor a checkerboard come in.

        global_skip: add the input to the output, see `finish`.
        """
        super().__init__()
        down, up = (SmoothConv2d, SmoothConvTranspose2d) if smooth else (Conv2d, ConvTranspose2d)
        self.stem = before_norm(Conv2d(in_channels, width, 7), norm)
        self.stem_norm = norm_layer(norm, width)
        self.down = nn.ModuleList(before_norm(down(c, 2 * c, 3, 2, 1), norm) for c in (width, 2 * width))
        self.down_norm = nn.ModuleList(norm_layer(norm, 2 * c) for c in (width, 2 * width))
        self.blocks = nn.ModuleList(ResidualBlock(4 * width, norm=norm, dropout=dropout) for _ in range(num_blocks))
        self.dropout = dropout
        self.up = nn.ModuleList(
            before_norm(up(c, c // 2, 3, 2, 1, output_padding=1), norm) for c in (4 * width, 2 * width)
        )
        self.up_norm = nn.ModuleList(norm_layer(norm, c // 2) for c in (4 * width, 2 * width))
        self.head = Conv2d(width, out_channels + global_skip, 7)
        self.global_skip = global_skip
        # Whether activations are computed again in the backward pass instead of kept.
        self.forgets = False

    def forward(self, x: Tensor) -> Tensor:
        """Computed in the type and memory format of x; the result is float32."""
        h = forget(self._encode, x, when=self.forgets)
        for block in self.blocks:
            h = forget(block, h, when=self.forgets, random=self.dropout)
        return finish(forget(self._decode, h, when=self.forgets), x if self.global_skip else None)

    @property
    def feature_channels(self) -> list[int]:
        """Of what `features` gives."""
        wide = self.down[1].out_channels
        return [self.down[0].out_channels, wide, *[wide] * len(self._feature_blocks)]  # type: ignore[list-item]

    def features(self, x: Tensor, *, decode: bool) -> tuple[Tensor, ...]:
        """Activations at half and at quarter resolution: behind both down-samplings, the first block, the middle one.

        decode: whether the output comes first.
        """
        half = forget(self._encode_half, x, when=self.forgets)
        h = forget(self._encode_quarter, half, when=self.forgets)
        found = [half, h]
        last = len(self.blocks) if decode else max(self._feature_blocks, default=-1) + 1
        for index, block in enumerate(self.blocks[:last]):
            h = forget(block, h, when=self.forgets, random=self.dropout)
            if index in self._feature_blocks:
                found.append(h)
        if not decode:
            return tuple(found)
        return finish(forget(self._decode, h, when=self.forgets), x if self.global_skip else None), *found

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
    """Mirror `pixels` rows and columns outwards on each side, the border itself not repeated."""
    padded = F.pad(x, (pixels, pixels, pixels, pixels), mode="reflect")
    if x.is_cuda and not x.is_contiguous():  # it gives planes there, whatever it gets
        return padded.contiguous(memory_format=torch.channels_last)
    return padded
