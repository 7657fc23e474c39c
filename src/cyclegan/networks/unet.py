"""The U-Net generator of Isola et al. 2017 (pix2pix), which the reference implementation offers for CycleGAN too."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks.layers import Conv2d, ConvTranspose2d, checkpointed, drop_or_freeze_bias, norm_layer, to_image
from cyclegan.networks.protocol import Generator, Settings, Sizes, Tiling

# Levels on the way down whose activations the contrastive loss compares.
_FEATURE_LEVELS = (1, 2, 3)


class UnetGenerator(Generator):
    """`depth` 4x4 convolutions of stride 2 down and as many up, each level joined to its mirror; tanh.

    (N, in_channels, H, W) -> (N, out_channels, H, W) in [-1, 1]; H and W are multiples of 2 ** depth.
    """

    can_checkpoint = True
    tiling: ClassVar[Tiling] = "levels"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        depth: int,
        norm: str,
        dropout: bool,
        global_skip: bool = False,
    ) -> None:
        """global_skip: add the input to the output, see `to_image`."""
        super().__init__()
        channels = [width * min(2**level, 8) for level in range(depth)]
        last = depth - 1

        # No norm at the outermost level, nor at the innermost on the way down, which may be a single pixel.
        self.down = nn.ModuleList()
        self.down_norm = nn.ModuleList()
        self.up = nn.ModuleList()
        self.up_norm = nn.ModuleList()
        for level, out in enumerate(channels):
            down = Conv2d(in_channels if level == 0 else channels[level - 1], out, 4, 2, 1)
            normed = 0 < level < last
            if not normed and norm == "batch":
                down.bias = None  # as in the reference
            self.down.append(drop_or_freeze_bias(down, norm) if normed else down)
            self.down_norm.append(norm_layer(norm if normed else "none", out))
            up_in = out if level == last else 2 * out
            if level == 0:
                self.up.append(ConvTranspose2d(up_in, out_channels + global_skip, 4, 2, 1))
                self.up_norm.append(nn.Identity())
            else:
                self.up.append(drop_or_freeze_bias(ConvTranspose2d(up_in, channels[level - 1], 4, 2, 1), norm))
                self.up_norm.append(norm_layer(norm, channels[level - 1]))

        # Dropout is in the levels of full width except the innermost one.
        self.dropout_levels = range(4, last) if dropout else range(0)
        self.global_skip = global_skip
        self.feature_channels = [channels[level] for level in _FEATURE_LEVELS]

    @classmethod
    def sizes(cls, settings: Settings) -> Sizes:
        return Sizes(multiple=2 ** settings["depth"], smallest=2 ** settings["depth"])

    @classmethod
    def summary(cls, settings: Settings) -> str:
        return f"depth {settings['depth']}, width {settings['width']}"

    def early_layers(self) -> Sequence[nn.Module]:
        return [self.down, self.down_norm]

    def forward(self, x: Tensor) -> Tensor:
        """Computes in the type and memory format of x; the result is float32."""
        return self._up_from(self._skips(x, len(self.down)), x)

    def features(self, x: Tensor, *, decode: bool) -> tuple[Tensor, ...]:
        """Activations on the way down, at a quarter to a sixteenth of the resolution.

        decode: whether the output comes first.
        """
        skips = self._skips(x, len(self.down) if decode else _FEATURE_LEVELS[-1] + 1)
        found = tuple(skips[level] for level in _FEATURE_LEVELS)
        return (self._up_from(skips, x), *found) if decode else found

    def _skips(self, x: Tensor, count: int) -> list[Tensor]:
        """The activations of the first levels on the way down."""
        skips: list[Tensor] = []
        h = x
        for level in range(count):
            h = checkpointed(partial(self._down, level), h, enabled=self.checkpointing)
            skips.append(h)
        return skips

    def _up_from(self, skips: list[Tensor], x: Tensor) -> Tensor:
        h = skips[-1]
        for level in reversed(range(len(self.up))):
            h = checkpointed(partial(self._up, level), h, enabled=self.checkpointing)
            if level in self.dropout_levels:
                h = F.dropout(h, 0.5, self.training)
            if level > 0:
                h = torch.cat([skips[level - 1], h], 1)
        return to_image(h.float(), x if self.global_skip else None)

    def _down(self, level: int, h: Tensor) -> Tensor:
        return self.down_norm[level](self.down[level](h if level == 0 else F.leaky_relu(h, 0.2)))  # type: ignore[no-any-return]

    def _up(self, level: int, h: Tensor) -> Tensor:
        return self.up_norm[level](self.up[level](F.relu(h)))  # type: ignore[no-any-return]
