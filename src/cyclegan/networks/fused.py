"""Norm, activation, residual and reflection padding as one operation.

On CUDA this is two kernels of `cyclegan.networks.fused_kernels` forwards and two backwards, where torch has a dozen:
its reflection padding knows planes only, so each call converts the layout three times. Elsewhere, and where Triton is
missing or gives other results than torch on this device, it is torch's own operations, which are also the reference.
"""

import threading
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from types import ModuleType

NormKind: TypeAlias = Literal["none", "instance", "layer"]

# Types of devices on which the kernels are used. Benchmarks and tests change it.
DEVICE_TYPES = ["cuda"]

# The kernels count positions in 32 bits.
_MOST_VALUES = 2**31 - 1

# Channels that one program of a layer norm holds.
_MOST_CHANNELS = 1024


@dataclass(frozen=True)
class Form:
    """reflect(activation(norm(x)) + residual, pad).

    slope: of the activation for negative values: 0 is ReLU, 1 none. plain: return the unpadded result as well.
    A residual has no activation.
    """

    norm: NormKind = "none"
    eps: float = 1e-5
    slope: float = 1.0
    pad: int = 0
    plain: bool = False


# ---- torch's own operations


def reflect(x: Tensor, pixels: int) -> Tensor:
    """Pad each side with `pixels` mirrored rows and columns, without repeating the border."""
    if is_usable(x):
        form = Form(pad=pixels)
        if can_fuse(x, form):
            return cast(Tensor, fuse(x, form)[1])
    return _reflect(x, pixels)


def _reflect(x: Tensor, pixels: int) -> Tensor:
    padded = F.pad(x, (pixels, pixels, pixels, pixels), mode="reflect")
    if x.is_cuda and not x.is_contiguous():  # CUDA pads to planes, whatever the input
        return padded.contiguous(memory_format=torch.channels_last)
    return padded


def instance_norm(x: Tensor, eps: float) -> Tensor:
    """Instance norm of channels-last images: torch's own turns them into planes first, which takes far longer."""
    # Image by image, batch norm is instance norm. With weights in float32 its statistics are float32, too.
    dtype = torch.promote_types(x.dtype, torch.float32)
    ones, zeros = x.new_ones(x.shape[1], dtype=dtype), x.new_zeros(x.shape[1], dtype=dtype)
    images = [torch.batch_norm(image, ones, zeros, None, None, True, 0.0, eps, False) for image in torch.split(x, 1)]
    return images[0] if len(images) == 1 else torch.cat(images)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm over the channels of each pixel."""
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=eps).permute(0, 3, 1, 2)


def _eager(x: Tensor, form: Form, residual: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
    """The reference of `fuse`, for any derivative."""
    if form.norm == "instance":
        x = instance_norm(x, form.eps)
    elif form.norm == "layer":
        x = layer_norm(x, form.eps)
    if form.slope != 1.0:
        x = F.leaky_relu(x, form.slope)
    if residual is not None:
        x = x + residual
    return x if form.plain or not form.pad else None, _reflect(x, form.pad) if form.pad else None


# ---- the kernels


def is_usable(x: Tensor) -> bool:
    """Whether there are kernels for the device and the layout of x. Not while torch compiles: it fuses by itself."""
    if x.device.type not in DEVICE_TYPES or torch.compiler.is_compiling():
        return False
    return type(x) is Tensor and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def can_fuse(x: Tensor, form: Form) -> bool:
    """Whether `fuse` computes this form of x, and its kernels agree with torch on this device."""
    if not is_usable(x):
        return False
    images, channels, height, width = x.shape
    if form.norm == "layer" and channels > _MOST_CHANNELS:
        return False
    if images == 0 or min(height, width) <= form.pad or (form.norm == "instance" and height * width == 1):
        return False  # torch says what is wrong
    padded = images * channels * (height + 2 * form.pad) * (width + 2 * form.pad)
    return padded <= _MOST_VALUES and _agrees(x.device, x.dtype)


def fuse(x: Tensor, form: Form, residual: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
    """The result as it is, if `form.plain` or without padding, and padded, if `form.pad`; channels-last.

    x, residual: (N, C, H, W), for which `can_fuse` holds. Statistics and arithmetic are float32.
    """
    assert residual is None or form.slope == 1.0
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    return _Fused.apply(x, residual, form)  # type: ignore[no-any-return, no-untyped-call]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, form: Form) -> tuple[Tensor | None, Tensor | None]:
        ctx.set_materialize_grads(False)
        plain, padded, moments = _forward(x, form, residual)
        ctx.save_for_backward(x, *moments)
        ctx.form, ctx.has_residual = form, residual is not None
        return plain, padded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        grad_plain, grad_padded = grads
        x, *moments = ctx.saved_tensors
        if grad_plain is None and grad_padded is None:
            return None, None, None
        if torch.is_grad_enabled():
            # For second derivatives, the derivative of torch's own operations.
            return *_eager_grads(x, ctx.form, ctx.has_residual, grad_plain, grad_padded), None
        return *_backward(x, moments, ctx.form, ctx.has_residual, grad_plain, grad_padded), None


def _eager_grads(
    x: Tensor, form: Form, has_residual: bool, grad_plain: Tensor | None, grad_padded: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The gradients of x and of the residual, with a graph of their own."""
    # A residual is added, so its value has no part in derivatives.
    residual = torch.zeros_like(x, requires_grad=True) if has_residual else None
    inputs = [x if x.requires_grad else x.detach().requires_grad_(), *([] if residual is None else [residual])]
    pairs = zip(_eager(inputs[0], form, residual), (grad_plain, grad_padded), strict=True)
    outputs, grads = zip(*((y, g) for y, g in pairs if y is not None and g is not None), strict=True)
    found = torch.autograd.grad(outputs, inputs, grads, create_graph=True)
    return found[0], found[1] if has_residual else None


def _forward(x: Tensor, form: Form, residual: Tensor | None) -> tuple[Tensor | None, Tensor | None, tuple[Tensor, ...]]:
    """Both outputs, and the moments of an instance norm."""
    kernels = _kernels()
    images, channels, height, width = x.shape
    launch = _Launch.of(x, form)
    with _on(x):
        moments: tuple[Tensor, ...] = ()
        if form.norm == "instance":
            mean = x.new_empty(images, launch.splits, channels, dtype=torch.float32)
            moments = mean, torch.empty_like(mean)
            kernels.fused_moments[launch.splits, launch.channel_tiles, images](
                x, *moments, height * width, channels, launch.run, PIXELS=launch.pixels, CHANNELS=launch.channels,
                num_warps=launch.warps,
            )  # fmt: skip
        plain = torch.empty_like(x, memory_format=torch.channels_last) if form.plain or not form.pad else None
        padded = None
        if form.pad:
            sides = height + 2 * form.pad, width + 2 * form.pad
            padded = torch.empty(
                images, channels, *sides, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
            )
        num_pixels = (height + 2 * form.pad) * (width + 2 * form.pad)
        kernels.fused_forward[launch.tiles(num_pixels), launch.channel_tiles, images](
            x, x if residual is None else residual, x if plain is None else plain, x if padded is None else padded,
            *(moments or (x, x)), height, width, channels, launch.run, form.eps, NORM=_NORMS[form.norm],
            SLOPE=form.slope, RESIDUAL=residual is not None, PLAIN=plain is not None, PAD=form.pad,
            SPLITS=launch.splits, PIXELS=launch.pixels, CHANNELS=launch.channels, num_warps=launch.warps,
        )  # fmt: skip
    return plain, padded, moments


def _backward(
    x: Tensor,
    moments: list[Tensor],
    form: Form,
    has_residual: bool,
    grad_plain: Tensor | None,
    grad_padded: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of x and of the residual."""
    kernels = _kernels()
    images, channels, height, width = x.shape
    launch = _Launch.of(x, form)
    layout = torch.channels_last
    plain = None if grad_plain is None else grad_plain.contiguous(memory_format=layout)
    padded = None if grad_padded is None else grad_padded.contiguous(memory_format=layout)
    small = min(height, width) <= 2 * form.pad + 1
    with _on(x):
        grad_x, grad_residual = torch.empty_like(x, memory_format=layout), None
        slope, sums = form.slope, (x, x)
        if form.norm == "instance":
            # The sums need the gradient of every pixel. Gathered once, it is the residual's as well.
            gathered = plain if padded is None else torch.empty_like(x, memory_format=layout)
            total = x.new_empty(images, launch.splits, channels, dtype=torch.float32)
            sums = total, torch.empty_like(total)
            kernels.fused_reduce_grads[launch.splits, launch.channel_tiles, images](
                x, x if plain is None else plain, x if padded is None else padded, gathered, *moments, *sums,
                height, width, channels, launch.run, launch.run, form.eps, SLOPE=slope, PLAIN=plain is not None,
                PAD=0 if padded is None else form.pad, SMALL=small, WRITE=padded is not None, SPLITS=launch.splits,
                PIXELS=launch.pixels, CHANNELS=launch.channels, num_warps=launch.warps,
            )  # fmt: skip
            plain, padded = gathered, None
            grad_residual = gathered if has_residual else None
        elif has_residual:
            grad_residual = torch.empty_like(x, memory_format=layout)
        write = has_residual and form.norm != "instance"
        kernels.fused_backward[launch.tiles(height * width), launch.channel_tiles, images](
            x, x if plain is None else plain, x if padded is None else padded, grad_x,
            x if grad_residual is None else grad_residual, *(moments or (x, x)), *sums, height, width, channels,
            launch.run, form.eps, NORM=_NORMS[form.norm], SLOPE=slope, RESIDUAL=write, PLAIN=plain is not None,
            PAD=0 if padded is None else form.pad, SMALL=small, SPLITS=launch.splits, RUNS=launch.splits,
            PIXELS=launch.pixels, CHANNELS=launch.channels, num_warps=launch.warps,
        )  # fmt: skip
    return grad_x, grad_residual


_NORMS: dict[NormKind, int] = {"none": 0, "instance": 1, "layer": 2}


@dataclass(frozen=True)
class _Launch:
    """How a kernel is divided: tiles of pixels x channels, and for statistics runs of pixels."""

    pixels: int
    channels: int
    channel_tiles: int
    splits: int
    run: int
    warps: int

    @classmethod
    def of(cls, x: Tensor, form: Form) -> "_Launch":
        images, channels, height, width = x.shape
        num_pixels = height * width
        if form.norm == "layer":
            whole = _power_of_two(channels)
            return cls(max(1, 2048 // whole), whole, 1, 1, num_pixels, 4)
        # Larger tiles for large images, so that combining the splits stays a small part of the work.
        pixels, most_splits, warps = (256, 64, 8) if num_pixels >= 2**14 else (64, 32, 4)
        tile = min(32, _power_of_two(channels))
        tiles = -(-channels // tile)
        # Enough programs to fill a GPU, and no more splits than tiles of pixels.
        splits = min(most_splits, _power_of_two(1024 // (tiles * images) + 1), _power_of_two(-(-num_pixels // pixels)))
        return cls(pixels, tile, tiles, splits, -(-num_pixels // splits), warps)

    def tiles(self, num_pixels: int) -> int:
        return -(-num_pixels // self.pixels)


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def _kernels() -> "ModuleType":
    from cyclegan.networks import fused_kernels  # loads Triton

    return fused_kernels


def _on(x: Tensor) -> Any:
    """Triton launches on the current device."""
    return torch.cuda.device(x.device if x.is_cuda else -1)


# ---- whether they can be trusted here

_lock = threading.Lock()
_verdicts: dict[tuple[torch.device, torch.dtype], str] = {}


def why_not_fused(device: torch.device, dtype: torch.dtype) -> str:
    """Empty if the kernels are used for this type on this device, otherwise the reason. Tries them if need be."""
    if device.type not in DEVICE_TYPES:
        return "they are for CUDA"
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"they do not compute in {dtype}"
    key = device, dtype
    with _lock:
        if key not in _verdicts and find_spec("triton") is None:  # such as on Windows, where torch comes without it
            _verdicts[key] = "Triton is not installed"
        if key not in _verdicts:
            # A new thread has none of this one's modes: inference, saved tensors of checkpoints, streams.
            found: list[str] = []
            thread = threading.Thread(target=lambda: found.append(_trial(device, dtype)))
            thread.start()
            thread.join()
            _verdicts[key] = found[0] if found else "their trial ended without a result"
            if _verdicts[key]:
                from cyclegan.system.messages import Messages  # loads rich, which a translator does not need

                Messages("networks").warning(
                    f"The fused kernels are not used for {dtype} on {device}: {_verdicts[key]}; "
                    "torch's own operations give the same result, more slowly."
                )
        return _verdicts[key]


def _agrees(device: torch.device, dtype: torch.dtype) -> bool:
    verdict = _verdicts.get((device, dtype))
    if verdict is None:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return False  # a trial cannot be recorded
        verdict = why_not_fused(device, dtype)
    return verdict == ""


# Images, channels, height, width and form: each kernel, with the borders of tiles and of small images.
_TRIALS = [
    ((2, 40, 12, 11), Form("instance", slope=0.0, pad=1), False),
    ((1, 3, 129, 128), Form("instance"), False),
    ((2, 48, 3, 5), Form("instance", pad=1, plain=True), True),
    ((2, 64, 9, 14), Form("layer", slope=0.0, pad=1), False),
    ((1, 48, 2, 7), Form("layer", pad=1, plain=True), True),
    ((2, 3, 7, 16), Form(pad=3), False),
]


def _trial(device: torch.device, dtype: torch.dtype) -> str:
    """Compare both passes with torch's own. Returns what is wrong, or nothing."""
    try:
        for shape, form, has_residual in _TRIALS:
            error = _difference(shape, form, has_residual, device, dtype)
            # A few roundings of the type, and of float32 sums.
            allowed = max(8 * torch.finfo(dtype).eps, 1e-4)
            if not error <= allowed:
                return f"{form.norm} norm with padding {form.pad} differs by {error:.2g}, more than rounding"
    except Exception as error:  # of many kinds: compilers, drivers, memory
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def _difference(
    shape: tuple[int, ...], form: Form, has_residual: bool, device: torch.device, dtype: torch.dtype
) -> float:
    """The largest difference of outputs and gradients from those of torch in float32, relative to the largest value."""

    def wave(sides: tuple[int, ...], step: float) -> Tensor:
        places = torch.arange(torch.Size(sides).numel(), device=device, dtype=torch.float32)
        values = (places * step).sin().view(sides)
        # With a gap around 0, so that no rounding decides on which side of the activation a value lies.
        values = values + values.sign() / 2
        return values.to(dtype).contiguous(memory_format=torch.channels_last)

    def compare(found: Tensor, wanted: Tensor) -> float:
        wanted = wanted.detach()
        return float((found.detach().float() - wanted).abs().max() / wanted.abs().max().clamp(min=1))

    largest = 0.0
    inputs = [wave(shape, 0.7310), *([wave(shape, 0.3977)] if has_residual else [])]
    ours = [x.clone().requires_grad_() for x in inputs]
    exact = [x.float().requires_grad_() for x in inputs]
    outputs = fuse(ours[0], form, *ours[1:])
    for index, (found, wanted) in enumerate(zip(outputs, _eager(exact[0], form, *exact[1:]), strict=True)):
        if found is None or wanted is None:
            continue
        largest = max(largest, compare(found, wanted))
        grad = wave(tuple(found.shape), 0.5130 + index)
        last = index == 1 or outputs[1] is None
        torch.autograd.backward(found, grad, retain_graph=not last)
        torch.autograd.backward(wanted, grad.float(), retain_graph=not last)
    for found, wanted in zip(ours, exact, strict=True):
        assert found.grad is not None and wanted.grad is not None  # noqa: PT018
        largest = max(largest, compare(found.grad, wanted.grad))
    return largest
