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


class PixelNorm(nn.Module):
    """Normalises the channels of each pixel by themselves, as in NAFNet (Chen et al. 2022) but without learned values.

    (N, C, H, W) -> the same. What becomes of a pixel depends on its neighbourhood alone, not on the whole image.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), eps=self.eps).permute(0, 3, 1, 2)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """A norm by its name in `ModelConfig`.

    instance, pixel: no learned values, no running statistics; batch: both; none, and spectral, which is one of weights:
    the identity.
    """
    if norm in ("none", "spectral"):
        return nn.Identity()
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "instance": InstanceNorm,
        "batch": nn.BatchNorm2d,
        "pixel": PixelNorm,
    }
    return kinds[norm](channels)


class SpectralConv2d(Conv2d):
    """A convolution whose weight is divided by its largest singular value, Miyato et al. 2018.

    `follow`, one power iteration, is to be called once a step, so that the value is that of the weights as they change.
    """

    u: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding)
        self.register_buffer("u", torch.ones(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight.flatten(1)
        # Detached, not under no_grad, which a graph of `Traced` would not know.
        v = F.normalize(matrix.detach().T @ self.u, dim=0)
        weight = self.weight / torch.linalg.vector_norm(matrix @ v)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, weight.to(x.dtype), bias)  # type: ignore[no-any-return]

    @torch.no_grad()
    def follow(self) -> None:
        """One power iteration."""
        matrix = self.weight.flatten(1)
        v = F.normalize(matrix.T @ self.u, dim=0)
        self.u.copy_(F.normalize(matrix @ v, dim=0))


def follow_weights(network: nn.Module) -> None:
    """`follow` for all spectral convolutions of a network."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.follow()


class SmoothConv2d(Conv2d):
    """A convolution behind the low-pass filter of Zhang 2019, [1 2 1] / 4 both ways: one step that does not alias.

    Its 3x3 weights, smeared to 5x5 by the filter, do both at once.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight = smear(self.weight)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, weight.to(x.dtype), bias, self.stride, int(self.padding[0]) + 1)

    def plain(self) -> nn.Conv2d:
        """The same as one ordinary convolution."""
        return _with_weights(
            Conv2d(
                self.in_channels, self.out_channels, self.kernel_size[0] + 2, self.stride[0], int(self.padding[0]) + 1
            ),
            self,
        )


class SmoothConvTranspose2d(ConvTranspose2d):
    """A transposed convolution before the same filter: no checkerboard is left. Like `SmoothConv2d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None, output_size
        weight, bias = smear(self.weight).to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        padding, more = int(self.padding[0]) + 1, self.output_padding[0]
        return F.conv_transpose2d(x, weight, bias, self.stride[0], padding, more)

    def plain(self) -> nn.ConvTranspose2d:
        """The same as one ordinary transposed convolution."""
        kernel, padding = self.kernel_size[0] + 2, int(self.padding[0]) + 1
        return _with_weights(
            ConvTranspose2d(
                self.in_channels, self.out_channels, kernel, self.stride[0], padding, self.output_padding[0]
            ),
            self,
        )


@torch.no_grad()
def _with_weights(plain: Conv, smooth: SmoothConv2d | SmoothConvTranspose2d) -> Conv:
    plain = plain.to(smooth.weight.device, smooth.weight.dtype).train(smooth.training)
    plain.weight.copy_(smear(smooth.weight))
    if smooth.bias is None:
        plain.bias = None
    else:
        assert plain.bias is not None
        plain.bias.copy_(smooth.bias)
    return plain.requires_grad_(smooth.weight.requires_grad)


def smear(weight: Tensor) -> Tensor:
    """Kernels filtered with [1 2 1] / 4 both ways: (O, I, 3, 3) -> (O, I, 5, 5)."""
    # Elsewhere made anew, because a copy from the CPU cannot be part of a CUDA graph.
    smearing = _SMEARING if weight.device.type == "cpu" else _smearing(weight.device)
    smeared = smearing.to(weight.dtype) @ weight.permute(0, 2, 3, 1).flatten(1, 2)
    return smeared.view(-1, 5, 5, smeared.shape[-1]).permute(0, 3, 1, 2)


def _smearing(device: torch.device) -> Tensor:
    """What a 3x3 kernel is multiplied by to become 5x5: (25, 9). Exact in 16 bits, too."""
    place, source = torch.arange(5.0, device=device), torch.arange(1.0, 4.0, device=device)
    along = (2 - (place[:, None] - source).abs()).clamp(min=0) / 4  # 1, 2, 1 around each of the three
    return torch.kron(along, along)


_SMEARING = _smearing(torch.device("cpu"))


def finish(change: Tensor, x: Tensor | None) -> Tensor:
    """The image that a generator gives, in [-1, 1]: tanh of its last convolution.

    change: (N, C, H, W), float32. x: the input of a generator with a global skip, (N, any channels, H, W): what the
    layers make is then added to it, before the tanh, so that they learn the change alone (Shen and Liu 2017). With
    another number of channels each output channel gets their mean. `change` has one channel more then, which says how
    much of the input stays: detail of full resolution is let go so, which layers that do not see it could not subtract.
    """
    if x is None:
        return change.tanh()
    x = x.float().clamp(-1, 1)  # noise on an image may lead out of the range
    change, gate = change[:, :-1], change[:, -1:]
    if x.shape[1] != change.shape[1]:
        x = x.mean(1, keepdim=True)
    return (change + (gate + _OPEN).sigmoid() * torch.atanh(_NEARLY * x)).tanh()


# The tanh reaches neither -1 nor 1, so an input with a global skip counts as so much of itself.
_NEARLY = 0.95

# Added to the channel that says how much of the input stays, so that networks begin with most of it: 0.88.
_OPEN = 2.0


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
