"""Layers that all networks share: convolutions, norms, the output with its global skip, and checkpointing."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# The types that networks compute in, by their names in the configuration.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` in the type of its input: weights are rounded to it for a call, their gradients stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.weight)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with another weight of the same shape."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, weight.to(x.dtype), bias)  # type: ignore[no-any-return]


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` in the type of its input, like `Conv2d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None, output_size
        return self._convolve(x, self.weight)

    def _convolve(self, x: Tensor, weight: Tensor, more_padding: int = 0) -> Tensor:
        """Convolve with another weight and wider padding."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        padding = int(self.padding[0]) + more_padding
        return F.conv_transpose2d(x, weight.to(x.dtype), bias, self.stride[0], padding, self.output_padding[0])


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


class LayerNorm(nn.Module):
    """Layer norm over the channels of each pixel, as in NAFNet (Chen et al. 2022) but without learned values.

    (N, C, H, W) -> the same. It is local: a result depends on the neighbourhood of a pixel, not on the whole image.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), eps=self.eps).permute(0, 3, 1, 2)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """The layer for a norm by its name in `ModelConfig`.

    instance, layer: without learned values and running statistics; batch: with both; none and spectral (which is a
    norm of weights): the identity.
    """
    if norm in ("none", "spectral"):
        return nn.Identity()
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "instance": InstanceNorm,
        "batch": nn.BatchNorm2d,
        "layer": LayerNorm,
    }
    return kinds[norm](channels)


class SpectralConv2d(Conv2d):
    """A convolution whose weight is divided by its largest singular value, Miyato et al. 2018.

    Call `power_iteration` once a step, so that the estimate of the singular value follows the weights.
    """

    u: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding)
        self.register_buffer("u", torch.ones(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight.flatten(1)
        # The estimate of the singular vectors gets no gradient (Miyato et al. 2018, algorithm 1).
        v = F.normalize(matrix.detach().T @ self.u, dim=0)
        return self._convolve(x, self.weight / torch.linalg.vector_norm(matrix @ v))

    @torch.no_grad()
    def power_iteration(self) -> None:
        """Update the estimate of the left singular vector."""
        matrix = self.weight.flatten(1)
        v = F.normalize(matrix.T @ self.u, dim=0)
        self.u.copy_(F.normalize(matrix @ v, dim=0))


def power_iteration(network: nn.Module) -> None:
    """One power iteration of the spectral convolutions of a network; frozen ones keep their estimate."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d) and module.weight.requires_grad:
            module.power_iteration()


class BlurConv2d(Conv2d):
    """A 3x3 convolution after the low-pass filter [1 2 1] / 4 both ways, against aliasing (Zhang 2019).

    Filter and convolution are computed at once, as one convolution with the 5x5 kernels of `blur_kernels`.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = blur_kernels(self.weight).to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, weight, bias, self.stride, int(self.padding[0]) + 1)

    def to_plain(self) -> nn.Conv2d:
        """An ordinary 5x5 convolution with the same result."""
        kernel, padding = self.kernel_size[0] + 2, int(self.padding[0]) + 1
        return _with_weights(Conv2d(self.in_channels, self.out_channels, kernel, self.stride[0], padding), self)


class BlurConvTranspose2d(ConvTranspose2d):
    """A transposed 3x3 convolution before the same filter, against checkerboards. Computed like `BlurConv2d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None, output_size
        return self._convolve(x, blur_kernels(self.weight), more_padding=1)

    def to_plain(self) -> nn.ConvTranspose2d:
        """An ordinary transposed 5x5 convolution with the same result."""
        kernel, padding, more = self.kernel_size[0] + 2, int(self.padding[0]) + 1, self.output_padding[0]
        plain = ConvTranspose2d(self.in_channels, self.out_channels, kernel, self.stride[0], padding, more)
        return _with_weights(plain, self)


@torch.no_grad()
def _with_weights(plain: Conv, blurred: BlurConv2d | BlurConvTranspose2d) -> Conv:
    plain = plain.to(blurred.weight.device, blurred.weight.dtype).train(blurred.training)
    plain.weight.copy_(blur_kernels(blurred.weight))
    if blurred.bias is None:
        plain.bias = None
    else:
        assert plain.bias is not None
        plain.bias.copy_(blurred.bias)
    return plain.requires_grad_(blurred.weight.requires_grad)


def blur_kernels(weight: Tensor) -> Tensor:
    """Kernels filtered with [1 2 1] / 4 both ways: (O, I, 3, 3) -> (O, I, 5, 5)."""
    # On a GPU the matrix is made anew each time: a CUDA graph cannot contain a copy from the CPU.
    matrix = _BLUR_MATRIX if weight.device.type == "cpu" else _blur_matrix(weight.device)
    blurred = matrix.to(weight.dtype) @ weight.permute(0, 2, 3, 1).flatten(1, 2)
    return blurred.view(-1, 5, 5, blurred.shape[-1]).permute(0, 3, 1, 2)


def _blur_matrix(device: torch.device) -> Tensor:
    """The matrix that turns a flat 3x3 kernel into a filtered 5x5 one: (25, 9). Exact in 16 bits, too."""
    place, source = torch.arange(5.0, device=device), torch.arange(1.0, 4.0, device=device)
    along = (2 - (place[:, None] - source).abs()).clamp(min=0) / 4  # 1, 2, 1 around each of the three
    return torch.kron(along, along)


_BLUR_MATRIX = _blur_matrix(torch.device("cpu"))


def to_image(change: Tensor, x: Tensor | None) -> Tensor:
    """The output image of a generator, in [-1, 1]: tanh of its last convolution.

    change: the last convolution, (N, C, H, W), float32. x: the input of the generator, (N, any channels, H, W), if it
    has a global skip: the input is added before the tanh, so that the layers learn only the change (Shen and Liu 2017).
    If the channels differ, the mean of the input's channels is added to each output channel. With a skip, `change` has
    one channel more, a gate that says how much of the input stays. It removes detail of full resolution, which the
    layers at lower resolution cannot see and so could not subtract.
    """
    if x is None:
        return change.tanh()
    x = x.float().clamp(-1, 1)  # noise on an image may leave the range
    change, gate = change[:, :-1], change[:, -1:]
    if x.shape[1] != change.shape[1]:
        x = x.mean(1, keepdim=True)
    return (change + (gate + _OPEN).sigmoid() * torch.atanh(_NEARLY * x)).tanh()


# The tanh reaches neither -1 nor 1, so the input is scaled by this before it is added.
_NEARLY = 0.95

# Added to the gate, so that networks begin with most of the input: sigmoid(2) = 0.88.
_OPEN = 2.0


def drop_or_freeze_bias(conv: Conv, norm: str) -> Conv:
    """A convolution prepared for the norm that follows it, whose bias would have no effect.

    Batch norm has a bias itself, so that of the convolution is dropped. Instance norm removes any bias. The
    reference nevertheless keeps one there, and so do we, so that parameter counts and checkpoints agree. It is frozen:
    its gradient is rounding noise, which Adam would amplify to a random walk at full speed.
    """
    assert conv.bias is not None
    if norm == "batch":
        conv.bias = None
    elif norm == "instance":
        conv.bias.requires_grad_(False)
    return conv


def checkpointed(part: Callable[[Tensor], Tensor], x: Tensor, *, enabled: bool, random: bool = False) -> Tensor:
    """part(x). If enabled, its activations are computed again in the backward pass instead of kept.

    random: whether the part draws random numbers, which must then be the same again.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(part, x, use_reentrant=False, preserve_rng_state=random)  # type: ignore[no-any-return]
    return part(x)
