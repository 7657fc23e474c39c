"""Discriminators: PatchGAN (70x70 with three layers) and its 1x1 form, Isola et al. 2017 and Zhu et al. 2017.

And a PatchGAN that sees bands of detail instead of the image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks.layers import Conv2d, SpectralConv2d, conv_norm, drop_or_freeze_bias, norm_layer
from cyclegan.networks.protocol import Discriminator, Settings


class PatchDiscriminator(Discriminator):
    """C64-C128-C256-C512 for three layers: 4x4 convolutions, leaky ReLU 0.2, no norm on the first.

    (N, channels, H, W) -> (N, 1, h, w): a score for each overlapping patch, without a sigmoid.
    """

    def __init__(
        self, channels: int, *, discriminator_width: int, discriminator_layers: int, discriminator_norm: str
    ) -> None:
        super().__init__()
        width, num_layers, norm = discriminator_width, discriminator_layers, discriminator_norm
        widths = [width * min(2**level, 8) for level in range(num_layers + 1)]
        conv = SpectralConv2d if norm == "spectral" else Conv2d
        self.stem = conv(channels, width, 4, 2, 1)
        self.convs = nn.ModuleList(
            drop_or_freeze_bias(conv(widths[i], widths[i + 1], 4, 2 if i < num_layers - 1 else 1, 1), norm)
            for i in range(num_layers)
        )
        self.norms = nn.ModuleList(norm_layer(norm, widths[i + 1]) for i in range(num_layers))
        # Not normalised by spectral norm: scores of a bounded slope would hardly react to details.
        self.head = Conv2d(widths[-1], 1, 4, 1, 1)

    @classmethod
    def smallest_side(cls, settings: Settings) -> int:
        # Instance norm needs more than one value a channel: 2x2 at the last layer with a norm.
        return int(3 * 2 ** settings["discriminator_layers"])

    @classmethod
    def summary(cls, settings: Settings) -> str:
        return f"{settings['discriminator_layers']} layers, width {settings['discriminator_width']}"

    def early_layers(self) -> Sequence[nn.Module]:
        return [self.stem, self.convs[:-1], self.norms[:-1]]

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu_(self.stem(x), 0.2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = conv_norm(h, conv, norm, slope=0.2)
        return self.head(h).float()  # type: ignore[no-any-return]


class PyramidDiscriminator(PatchDiscriminator):
    """A patch discriminator that sees an image in three bands of its detail, at full resolution.

    Natural images have little power in fine detail, so convolutions of the image itself hardly react to it. The bands
    of a Laplacian pyramid (Burt and Adelson 1983) are scaled to about equal variance. (N, channels, H, W) ->
    (N, 1, h, w).
    """

    narrow: Tensor
    wide: Tensor

    def __init__(
        self, channels: int, *, discriminator_width: int, discriminator_layers: int, discriminator_norm: str
    ) -> None:
        super().__init__(
            3 * channels,
            discriminator_width=discriminator_width,
            discriminator_layers=discriminator_layers,
            discriminator_norm=discriminator_norm,
        )
        # Buffers, because a CUDA graph cannot contain a copy from the CPU. Their values are exact in 16 bits.
        self.register_buffer("narrow", _binomial(2), persistent=False)
        self.register_buffer("wide", _binomial(10), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.bands(x))

    def bands(self, x: Tensor) -> Tensor:
        """Coarse, middle and fine detail: (N, C, H, W) -> (N, 3 C, H, W), in the type and memory format of x.

        Coarse: after [1 2 1] / 4 and twice [1 4 6 4 1] / 16, both ways; fine: what [1 2 1] / 4 removes, times 10;
        middle: the rest, times 5. The differences are small, so they are computed in float32.
        """
        image = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        smooth, coarse = _filtered(image, self.narrow), _filtered(image, self.wide)
        bands = torch.cat([coarse, 5 * (smooth - coarse), 10 * (image - smooth)], 1)
        is_plain = x.is_contiguous()
        return bands.to(x.dtype, memory_format=torch.contiguous_format if is_plain else torch.channels_last)


def _binomial(order: int) -> Tensor:
    """The binomial filter that [1 1] / 2, applied so many times, makes: [1 2 1] / 4 for 2."""
    return torch.tensor([math.comb(order, i) / 2**order for i in range(order + 1)])


def _filtered(image: Tensor, taps: Tensor) -> Tensor:
    """Every channel of (N, C, H, W), reflected at its borders, after a filter along both axes."""
    channels, length = image.shape[1], len(taps)
    padded = F.pad(image, (length // 2,) * 4, mode="reflect")
    along = taps.to(image.dtype).expand(channels, 1, 1, length)
    return F.conv2d(F.conv2d(padded, along, groups=channels), along.transpose(2, 3), groups=channels)


class PixelDiscriminator(Discriminator):
    """Three 1x1 convolutions, which see only colours. (N, channels, H, W) -> (N, 1, H, W)."""

    def __init__(self, channels: int, *, discriminator_width: int, discriminator_norm: str) -> None:
        super().__init__()
        width, norm = discriminator_width, discriminator_norm
        conv = SpectralConv2d if norm == "spectral" else Conv2d
        self.stem = conv(channels, width, 1)
        self.conv = drop_or_freeze_bias(conv(width, 2 * width, 1), norm)
        self.norm = norm_layer(norm, 2 * width)
        self.head = Conv2d(2 * width, 1, 1)
        if norm == "batch":
            self.head.bias = None  # as in the reference

    @classmethod
    def smallest_side(cls, _settings: Settings) -> int:
        return 1

    @classmethod
    def summary(cls, settings: Settings) -> str:
        return f"width {settings['discriminator_width']}"

    def early_layers(self) -> Sequence[nn.Module]:
        return [self.stem]

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu_(self.stem(x), 0.2)
        h = conv_norm(h, self.conv, self.norm, slope=0.2)
        return self.head(h).float()  # type: ignore[no-any-return]
