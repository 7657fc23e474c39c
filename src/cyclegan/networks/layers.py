"""Layers that all networks share: convolutions, norms, the output with its global skip, and checkpointing."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cyclegan.networks import fused
from cyclegan.networks.fused import Form

# The types that networks compute in, by their names in the configuration.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` in the type of its input: weights are rounded to it for a call, their gradients stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, None if self.bias is None else self.bias.to(x.dtype))

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with this bias, in the type of x, instead of its own."""
        pixels, weight = self.padding[0], self.weight.to(x.dtype)
        if self.padding_mode == "reflect" and isinstance(pixels, int) and self.padding[1] == pixels:
            # Faster than torch's own padding, see `fused`.
            return F.conv2d(fused.reflect(x, pixels), weight, bias, self.stride, 0, self.dilation, self.groups)
        return self._conv_forward(x, weight, bias)  # type: ignore[no-any-return]


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` in the type of its input, like `Conv2d`.

    Its attribute `padding_mode` may be set to reflect, for a stride of 2: what lies beyond the input is then reflected
    instead of zero.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None, output_size
        return self.convolve(x, None if self.bias is None else self.bias.to(x.dtype))

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with this bias, in the type of x, instead of its own."""
        return self._transposed(x, self.weight, bias, int(self.padding[0]))

    def _transposed(self, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        stride = self.stride[0]
        if self.padding_mode == "reflect":  # one pixel more on each side, whose outputs beyond the image are cut off
            x, padding = fused.reflect(x, 1), padding + stride
        return F.conv_transpose2d(x, weight.to(x.dtype), bias, stride, padding, self.output_padding[0])


Conv = TypeVar("Conv", Conv2d, ConvTranspose2d)
Result = TypeVar("Result")


class InstanceNorm(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` without learned values, fast for activations in the channels-last memory format.

    (N, C, H, W) -> the same, in the type and memory format of the input; statistics and arithmetic are float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        if (result := _fused_norm(x, self)) is not None:
            return result
        if x.is_contiguous() or torch.compiler.is_compiling():
            return super().forward(x)
        return fused.instance_norm(x, self.eps)


class LayerNorm(nn.Module):
    """Layer norm over the channels of each pixel, as in NAFNet (Chen et al. 2022) but without learned values.

    (N, C, H, W) -> the same. It is local: a result depends on the neighbourhood of a pixel, not on the whole image.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def forward(self, x: Tensor) -> Tensor:
        if (result := _fused_norm(x, self)) is not None:
            return result
        return fused.layer_norm(x, self.eps)


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


def norm_form(norm: nn.Module) -> Form | None:
    """What a norm computes, for `fused`; None for one that it does not know."""
    if type(norm) is InstanceNorm and not (norm.affine or norm.track_running_stats):
        return Form("instance", norm.eps)
    if type(norm) is LayerNorm:
        return Form("layer", norm.eps)
    return Form() if type(norm) is nn.Identity else None


def _fused_norm(x: Tensor, norm: nn.Module) -> Tensor | None:
    form = norm_form(norm) if fused.is_usable(x) else None
    return fused.fuse(x, form)[0] if form is not None and fused.can_fuse(x, form) else None


def _has_hooks(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    return any(hooks)


def conv_norm(
    x: Tensor, conv: nn.Module, norm: nn.Module, *, slope: float = 1.0, residual: Tensor | None = None, pad: int = 0
) -> Tensor:
    """activation(norm(conv(x))) + residual, padded by reflection.

    slope: of the activation for negative values: 0 is ReLU, 1 none. A residual has no activation.
    """
    plain, padded = _conv_norm(x, conv, norm, slope, residual, pad, plain=False)
    return cast(Tensor, plain if padded is None else padded)


def conv_norm_and_pad(
    x: Tensor, conv: nn.Module, norm: nn.Module, *, residual: Tensor, pad: int
) -> tuple[Tensor, Tensor | None]:
    """norm(conv(x)) + residual, as it is, and padded by reflection if `pad` is not 0."""
    plain, padded = _conv_norm(x, conv, norm, 1.0, residual, pad, plain=True)
    return cast(Tensor, plain), padded


def _conv_norm(
    x: Tensor, conv: nn.Module, norm: nn.Module, slope: float, residual: Tensor | None, pad: int, *, plain: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The result as it is, if `plain` or without padding, and padded, if there is padding."""
    known = None
    if fused.is_usable(x) and isinstance(conv, Conv2d | ConvTranspose2d) and not (_has_hooks(conv) or _has_hooks(norm)):
        known = norm_form(norm)
    if known is not None and fused.can_fuse(x, Form()):
        form = replace(known, slope=slope, pad=pad, plain=plain)
        # Instance norm removes a bias, which is an operation of its own on CUDA.
        bias = cast(Tensor | None, conv.bias)
        if bias is not None and known.norm == "instance" and not bias.requires_grad:
            bias = None
        h = cast(Conv2d, conv).convolve(x, None if bias is None else bias.to(x.dtype))
        if fused.can_fuse(h, form):
            return fused.fuse(h, form, residual)
    else:
        h = conv(x)
    h = norm(h)
    if slope != 1.0:
        h = F.relu_(h) if slope == 0.0 else F.leaky_relu_(h, slope)
    if residual is not None:
        h = residual + h
    return h if plain or not pad else None, fused.reflect(h, pad) if pad else None


class SpectralConv2d(Conv2d):
    """A convolution whose weight is divided by its largest singular value, Miyato et al. 2018.

    Call `power_iteration` once a step, so that the estimate of the singular value follows the weights.
    """

    u: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding)
        self.register_buffer("u", torch.ones(out_channels))

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        matrix = self._matrix()
        # The estimate of the singular vectors gets no gradient (Miyato et al. 2018, algorithm 1).
        v = F.normalize(matrix.detach().T @ self.u, dim=0)
        weight = self.weight / torch.linalg.vector_norm(matrix @ v)
        return self._conv_forward(x, weight.to(x.dtype), bias)  # type: ignore[no-any-return]

    def _matrix(self) -> Tensor:
        # The order of columns changes no singular value. On CUDA it is that of memory, where no copy is needed; on a
        # CPU sums in another order would round differently than those of earlier releases.
        return (self.weight.permute(0, 2, 3, 1) if self.weight.is_cuda else self.weight).flatten(1)

    @torch.no_grad()
    def power_iteration(self) -> None:
        """Update the estimate of the left singular vector."""
        matrix = self._matrix()
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

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        padding = int(self.padding[0]) + 1
        if self.padding_mode == "reflect":
            x, padding = fused.reflect(x, padding), 0
        return F.conv2d(x, blur_kernels(self.weight).to(x.dtype), bias, self.stride, padding)

    def to_plain(self) -> nn.Conv2d:
        """An ordinary 5x5 convolution with the same result."""
        kernel, padding = self.kernel_size[0] + 2, int(self.padding[0]) + 1
        return _with_weights(Conv2d(self.in_channels, self.out_channels, kernel, self.stride[0], padding), self)


class BlurConvTranspose2d(ConvTranspose2d):
    """A transposed 3x3 convolution before the same filter, against checkerboards. Computed like `BlurConv2d`."""

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return self._transposed(x, blur_kernels(self.weight), bias, int(self.padding[0]) + 1)

    def to_plain(self) -> nn.ConvTranspose2d:
        """An ordinary transposed 5x5 convolution with the same result."""
        kernel, padding, more = self.kernel_size[0] + 2, int(self.padding[0]) + 1, self.output_padding[0]
        plain = ConvTranspose2d(self.in_channels, self.out_channels, kernel, self.stride[0], padding, more)
        return _with_weights(plain, self)


@torch.no_grad()
def _with_weights(plain: Conv, blurred: BlurConv2d | BlurConvTranspose2d) -> Conv:
    plain = plain.to(blurred.weight.device, blurred.weight.dtype).train(blurred.training)
    plain.padding_mode = blurred.padding_mode
    plain.weight.copy_(blur_kernels(blurred.weight))
    if blurred.bias is None:
        plain.bias = None
    else:
        assert plain.bias is not None
        plain.bias.copy_(blurred.bias)
    return plain.requires_grad_(blurred.weight.requires_grad)


def blur_kernels(weight: Tensor) -> Tensor:
    """Kernels filtered with [1 2 1] / 4 both ways: (O, I, 3, 3) -> (O, I, 5, 5)."""
    blurred = _blur_matrix_for(weight.device, weight.dtype) @ weight.permute(0, 2, 3, 1).flatten(1, 2)
    return blurred.view(-1, 5, 5, blurred.shape[-1]).permute(0, 3, 1, 2)


def _blur_matrix(device: torch.device) -> Tensor:
    """The matrix that turns a flat 3x3 kernel into a filtered 5x5 one: (25, 9). Exact in 16 bits, too."""
    place, source = torch.arange(5.0, device=device), torch.arange(1.0, 4.0, device=device)
    along = (2 - (place[:, None] - source).abs()).clamp(min=0) / 4  # 1, 2, 1 around each of the three
    return torch.kron(along, along)


_BLUR_MATRIX = _blur_matrix(torch.device("cpu"))

# Of CUDA devices: made there, because a CUDA graph cannot contain a copy from the CPU, and once, because it takes ten
# kernels.
_BLUR_MATRICES: dict[tuple[torch.device, torch.dtype], Tensor] = {}


def _blur_matrix_for(device: torch.device, dtype: torch.dtype) -> Tensor:
    if device.type == "cpu":
        return _BLUR_MATRIX.to(dtype)
    if device.type != "cuda" or torch.compiler.is_compiling():
        return _blur_matrix(device).to(dtype)
    found = _BLUR_MATRICES.get((device, dtype))
    if found is None:
        with torch.inference_mode(False), torch.no_grad():
            found = _blur_matrix(device).to(dtype)
        if not torch.cuda.is_current_stream_capturing():  # what a graph makes has values only when it runs
            _BLUR_MATRICES[device, dtype] = found
    return found


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


def checkpointed(part: Callable[..., Result], *given: Tensor, enabled: bool, random: bool = False) -> Result:
    """part(*given). If enabled, its activations are computed again in the backward pass instead of kept.

    random: whether the part draws random numbers, which must then be the same again.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(part, *given, use_reentrant=False, preserve_rng_state=random)  # type: ignore[no-any-return]
    return part(*given)
