"""torch: the network as it was trained, or with its convolutions in 16 bits."""

import copy
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.errors import InputError
from cyclegan.networks.layers import DTYPES, InstanceNorm
from cyclegan.system.devices import why_slow
from cyclegan.system.json_files import cut
from cyclegan.system.zip_files import harm_in
from cyclegan.translate.engines import Engine

# torch sums a channel of a channels-last tensor in one go. Beyond this many pixels a float32 sum would be less exact
# than the 16-bit values are, so it is taken in strips of STRIP_PIXELS.
MOST_PIXELS = 1 << 20
STRIP_PIXELS = 1 << 16


def open_torch(network: nn.Module, precision: str, device: torch.device) -> Engine:
    """fp32: the network itself, so that results equal those of training bit for bit. bf16, fp16: its 16-bit copy.

    On a CPU the 16-bit copy computes the images of a batch one by one: as fast, and independent of their neighbours.
    """
    network = network.to(device)
    if precision != "fp32":
        network = SixteenBit(network, DTYPES[precision])
    elif device.type not in ("cpu", "cuda"):
        return Engine("torch", precision, device, network, network)

    def compute(images: Tensor) -> Tensor:
        if device.type == "cuda":  # as in training, with the kernels of `cyclegan.networks.fused`
            images = images.contiguous(memory_format=torch.channels_last)
        if device.type != "cpu" or len(images) == 1 or precision == "fp32":
            return network(images)  # type: ignore[no-any-return]
        return torch.cat([network(image) for image in torch.split(images, 1)])

    return Engine("torch", precision, device, compute, network, reason=why_slow(precision, device))


def open_exported_program(path: Path, precision: str, device: torch.device) -> Engine:
    """The engine of a torch.export file. Raises InputError for damage."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (harm := harm_in(archive, path.stat().st_size)) is not None:
                raise ValueError(harm)
        program = torch.export.load(path)
        source, target = _channels(program)
        module = program.module(check_guards=False).to(device)
    except Exception as error:  # of many kinds: zip, JSON, versions
        reason = cut(" ".join(str(error).split()), 250)
        raise InputError(f"{path} is not a torch-export file that this torch reads: {reason}") from None
    return Engine("torch", precision, device, module, reason=why_slow(precision, device), channels=(source, target))


def _channels(program: torch.export.ExportedProgram) -> tuple[int | None, int | None]:
    """The channels of the input and the output of a program, None where they are not fixed."""
    signature, nodes = program.graph_signature, {node.name: node for node in program.graph.nodes}
    found = [nodes[str(names[0])].meta["val"].shape[1] for names in (signature.user_inputs, signature.user_outputs)]
    source, target = (count if isinstance(count, int) else None for count in found)
    return source, target


class SixteenBit(nn.Module):
    """A copy of a network with weights and activations in 16 bits: (N, C, H, W) float32 -> float32.

    Weights are converted once, while autocast converts them at each call. On CPUs and CUDA tensors are channels-last,
    as matrix units need them. Sums and norms are computed in float32.
    for_export: use plain operations only, and leave the memory layout to the program that runs the graph.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, for_export: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.network = copy.deepcopy(network)
        for module in list(self.network.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(dtype)
        devices = {weight.device.type for weight in network.parameters()}
        on_cpu, on_cuda = not for_export and devices <= {"cpu"}, not for_export and devices == {"cuda"}
        for name, module in list(self.network.named_modules()):
            if isinstance(module, nn.InstanceNorm2d) and on_cpu and dtype == torch.bfloat16:
                norm = StripNorm(module.num_features, eps=module.eps, affine=module.affine)
                norm.load_state_dict(module.state_dict())
                self.network.set_submodule(name, norm)
            elif on_cuda and type(module) is InstanceNorm:
                pass  # channels-last it computes in float32 by itself
            elif isinstance(module, nn.InstanceNorm2d) or (isinstance(module, nn.BatchNorm2d) and for_export):
                self.network.set_submodule(name, InFloat(module))
        if on_cpu or on_cuda:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.memory_format = torch.channels_last if on_cpu or on_cuda else torch.contiguous_format
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.network(x.to(self.dtype).contiguous(memory_format=self.memory_format))
        return h.float().contiguous()  # type: ignore[no-any-return]


class InFloat(nn.Module):
    """A norm computed in float32 between 16-bit layers, because sums of squares overflow 16 bits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()).to(x.dtype)  # type: ignore[no-any-return]


class StripNorm(nn.InstanceNorm2d):
    """Instance norm of channels-last bfloat16, several times faster than torch's own on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._norm(image) for image in torch.split(x, 1)]) if len(x) > 1 else self._norm(x)

    def _norm(self, x: Tensor) -> Tensor:
        # For a single image, batch norm with batch statistics is instance norm.
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
