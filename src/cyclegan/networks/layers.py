"""What all networks share: convolutions, norms, and what may be computed twice to save memory."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# The types that networks compute in, by their names in settings.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` in the type of its input: weights are rounded to it for a call, their gradients stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)  # type: ignore[no-any-return]


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` in the type of its input, like `Conv2d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None, output_size
        weight, bias = self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        (stride, padding, more) = (self.stride[0], int(self.padding[0]), self.output_padding[0])
        return F.conv_transpose2d(x, weight, bias, stride, padding, more)


Conv = TypeVar("Conv", Conv2d, ConvTranspose2d)


class InstanceNorm(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` without learned values, fast for activations in the channels-last memory format.

    (N, C, H, W) -> the same, in the type and memory format of the input; statistics and arithmetic are float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        # torch's own turns channels-last images into planes first, which takes far longer than the norm itself.
        if x.is_contiguous() or torch.compiler.is_compiling():
            return super().forward(x)
        # Image by image, batch norm is instance norm. With weights in float32 its statistics are float32, too.
        dtype = torch.promote_types(x.dtype, torch.float32)
        ones, zeros = x.new_ones(x.shape[1], dtype=dtype), x.new_zeros(x.shape[1], dtype=dtype)
        images = [
            torch.batch_norm(image, ones, zeros, None, None, True, 0.0, self.eps, False) for image in torch.split(x, 1)
        ]
        return images[0] if len(images) == 1 else torch.cat(images)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """instance: no learned values, no running statistics; batch: both; none: the identity."""
    if norm == "instance":
        return InstanceNorm(channels)
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


def forget(part: Callable[[Tensor], Tensor], x: Tensor, *, when: bool, random: bool = False) -> Tensor:
    """part(x). With `when`, its activations are not kept for the backward pass but computed again there.

    random: whether the part draws random numbers, which must then be the same again.
    """
    if when and torch.is_grad_enabled():
        return checkpoint(part, x, use_reentrant=False, preserve_rng_state=random)  # type: ignore[no-any-return]
    return part(x)
