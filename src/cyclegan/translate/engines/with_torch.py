"""torch: the network as it was trained, or with its convolutions in 16 bits."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.errors import InputError
from cyclegan.networks.layers import DTYPES
from cyclegan.translate.engines import Engine

# torch's norm of pixels side by side adds up a channel in one go. Beyond this many pixels the sum of float32 values
# would be less exact than the 16-bit values are, so it is taken in strips of STRIP_PIXELS.
MOST_PIXELS = 1 << 20
STRIP_PIXELS = 1 << 16


def open_torch(network: nn.Module, precision: str, device: torch.device) -> Engine:
    """fp32: the network itself, so that results are those of training, bit by bit. bf16, fp16: its copy in 16 bits.

    On a CPU the images of a batch go through one by one: as fast, and none depends on its neighbours.
    """
    network = network.to(device)
    if precision != "fp32":
        network = SixteenBit(network, DTYPES[precision])
    elif device.type != "cpu":
        return Engine("torch", precision, device, network, network)

    def compute(images: Tensor) -> Tensor:
        if device.type != "cpu" or len(images) == 1 or precision == "fp32":
            return network(images)  # type: ignore[no-any-return]
        return torch.cat([network(image) for image in torch.split(images, 1)])

    return Engine("torch", precision, device, compute, network)


def open_exported_program(path: Path, precision: str, device: torch.device) -> Engine:
    """A file of torch.export. Raises InputError if it is damaged."""
    try:
        module = torch.export.load(path).module(check_guards=False).to(device)
    except Exception as error:  # of many kinds: zip, JSON, versions
        raise InputError(f"{path} is not a torch-export file that this torch reads: {error}") from None
    return Engine("torch", precision, device, module)


class SixteenBit(nn.Module):
    """A network with weights and activations in 16 bits: (N, C, H, W) float32 -> the same.

    Weights are converted once, not at each call as autocast does. Channels lie side by side in memory, which is how the
    chip's matrix units want them. Sums and norms are taken in float32. The network itself is not changed.
    for_other_programs: of plain operations alone, and with no wish about the order in memory.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, for_other_programs: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.network = copy.deepcopy(network)
        for module in list(self.network.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(dtype)
        on_cpu = not for_other_programs and all(weight.device.type == "cpu" for weight in network.parameters())
        for name, module in list(self.network.named_modules()):
            if isinstance(module, nn.InstanceNorm2d):
                parent, _, child = name.rpartition(".")
                norm = (StripNorm if on_cpu and dtype == torch.bfloat16 else FloatNorm)(
                    module.num_features, eps=module.eps, affine=module.affine
                )
                norm.load_state_dict(module.state_dict())
                setattr(self.network.get_submodule(parent), child, norm)
            elif isinstance(module, nn.BatchNorm2d) and for_other_programs:
                parent, _, child = name.rpartition(".")
                setattr(self.network.get_submodule(parent), child, InFloat(module))
        if on_cpu:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.memory_format = torch.channels_last if on_cpu else torch.contiguous_format
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.network(x.to(self.dtype).contiguous(memory_format=self.memory_format))
        return h.float().contiguous()  # type: ignore[no-any-return]


class FloatNorm(nn.InstanceNorm2d):
    """Instance norm that counts in float32 whatever it is given: squares of many values are too large for 16 bits."""

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x.float(), weight=self.weight, bias=self.bias, eps=self.eps).to(x.dtype)


class InFloat(nn.Module):
    """A layer that counts in float32 for one whose neighbours do not."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()).to(x.dtype)  # type: ignore[no-any-return]


class StripNorm(nn.InstanceNorm2d):
    """Instance norm of bfloat16 with channels side by side, several times faster than torch's own on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._norm(image) for image in torch.split(x, 1)]) if len(x) > 1 else self._norm(x)

    def _norm(self, x: Tensor) -> Tensor:
        # Of a single image, batch norm with the statistics of the batch is instance norm.
        if x.shape[-2] * x.shape[-1] <= MOST_PIXELS:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        shares, means, squares = [], [], []
        for strip in torch.split(x, max(1, STRIP_PIXELS // x.shape[-1]), dim=2):
            _, mean, scale = torch.native_batch_norm(strip, None, None, None, None, True, 0.0, self.eps)
            shares.append(strip.shape[2] / x.shape[2])
            means.append(mean.double())
            squares.append(scale.double().square().reciprocal() - self.eps + mean.double().square())
        share = torch.tensor(shares, dtype=torch.float64)[:, None]
        mean = (share * torch.stack(means)).sum(0)
        variance = (share * torch.stack(squares)).sum(0) - mean.square()
        return F.batch_norm(x, mean.float(), variance.float(), self.weight, self.bias, eps=self.eps)
