"""The one choice that all networks share: how activations are normalised."""

from typing import TypeVar

from torch import nn

Conv = TypeVar("Conv", nn.Conv2d, nn.ConvTranspose2d)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """instance: no learned values, no running statistics; batch: both; none: the identity."""
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    assert norm == "none", norm
    return nn.Identity()


def before_norm(conv: Conv, norm: str) -> Conv:
    """A convolution made ready to stand before this norm.

    Batch norm brings its own bias, so the convolution has none. Instance norm removes any bias again. The reference
    keeps one there nevertheless, and so do we: parameter counts and checkpoints agree. But its gradient is rounding
    noise, which Adam would blow up to a random walk at full speed, so it is not trained.
    """
    assert conv.bias is not None
    if norm == "batch":
        conv.bias = None
    elif norm == "instance":
        conv.bias.requires_grad_(False)
    return conv
