"""Discriminators: PatchGAN (70x70 with three layers) and its 1x1 form, Isola et al. 2017 and Zhu et al. 2017."""

from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks.layers import Conv2d, SpectralConv2d, before_norm, norm_layer


class PatchDiscriminator(nn.Module):
    """C64-C128-C256-C512 for three layers: 4x4 convolutions, leaky ReLU 0.2, no norm on the first.

    (N, channels, H, W) -> (N, 1, h, w): a score for each overlapping patch, without a sigmoid.
    """

    def __init__(self, channels: int, *, width: int, num_layers: int, norm: str) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(num_layers + 1)]
        conv = SpectralConv2d if norm == "spectral" else Conv2d
        self.stem = conv(channels, width, 4, 2, 1)
        self.convs = nn.ModuleList(
            before_norm(conv(widths[i], widths[i + 1], 4, 2 if i < num_layers - 1 else 1, 1), norm)
            for i in range(num_layers)
        )
        self.norms = nn.ModuleList(norm_layer(norm, widths[i + 1]) for i in range(num_layers))
        # Spectral norm leaves scores their own scale: a slope that is bounded everywhere judges details too softly.
        self.head = Conv2d(widths[-1], 1, 4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu_(self.stem(x), 0.2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = F.leaky_relu_(norm(conv(h)), 0.2)
        return self.head(h).float()  # type: ignore[no-any-return]


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions: colours alone are judged. (N, channels, H, W) -> (N, 1, H, W)."""

    def __init__(self, channels: int, *, width: int, norm: str) -> None:
        super().__init__()
        conv = SpectralConv2d if norm == "spectral" else Conv2d
        self.stem = conv(channels, width, 1)
        self.conv = before_norm(conv(width, 2 * width, 1), norm)
        self.norm = norm_layer(norm, 2 * width)
        self.head = Conv2d(2 * width, 1, 1)
        if norm == "batch":
            self.head.bias = None  # as in the reference

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu_(self.stem(x), 0.2)
        h = F.leaky_relu_(self.norm(self.conv(h)), 0.2)
        return self.head(h).float()  # type: ignore[no-any-return]
