"""State dicts of single networks, between our keys and those of junyanz/pytorch-CycleGAN-and-pix2pix.

The reference numbers its layers by their place in nested `nn.Sequential`s; the tables here follow its networks.py.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from cyclegan.config import InputError

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def from_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one generator or discriminator of the reference under our keys. Tensors are shared, not copied.

    Running statistics without a scale are leftovers of old instance norms and are dropped.
    Raises InputError if the keys are not those of a network that we have.
    """
    if any("conv_block" in key for key in state):
        numbers = _numbers(state, r"model\.(\d+)\.conv_block")
        dropout = any(re.fullmatch(r"model\.\d+\.conv_block\.6\.weight", k) and t.ndim == 4 for k, t in state.items())
        table = _resnet_names(len(numbers), dropout)
    elif any(key.startswith("model.model.") for key in state):
        table = _unet_names(max(key.count("model.") for key in state) - 1)
    elif any(key.startswith("net.") for key in state):
        table = _pixel_names()
    else:
        convs = [key for key, tensor in state.items() if key.endswith(".weight") and tensor.ndim == 4]
        table = _patch_names(len(convs) - 2)

    ours = {theirs: name for name, theirs in table.items()}
    renamed = {}
    for key, tensor in state.items():
        module, _, entry = key.rpartition(".")
        if entry in _STATISTICS and f"{module}.weight" not in state:
            continue
        if module not in ours:
            raise InputError(
                f"{key!r} is not an entry of a network that cyclegan knows; expected one of {sorted(ours)}."
            )
        renamed[f"{ours[module]}.{entry}"] = tensor
    return renamed


def to_reference(state: Mapping[str, Tensor], *, dropout: bool = False) -> dict[str, Tensor]:
    """The inverse of `from_reference`. dropout: the resnet has dropout layers, which shift the numbers there."""
    if "up.0.weight" in state and "stem.weight" in state:
        table = _resnet_names(len(_numbers(state, r"blocks\.(\d+)\.")), dropout)
    elif "up.0.weight" in state:
        table = _unet_names(len(_numbers(state, r"up\.(\d+)\.")))
    elif "convs.0.weight" in state:
        table = _patch_names(len(_numbers(state, r"convs\.(\d+)\.")))
    else:
        table = _pixel_names()

    renamed = {}
    for key, tensor in state.items():
        module, _, entry = key.rpartition(".")
        if module not in table:
            raise InputError(f"{key!r} is not an entry of a cyclegan network; expected one of {sorted(table)}.")
        renamed[f"{table[module]}.{entry}"] = tensor
    return renamed


def _resnet_names(num_blocks: int, dropout: bool) -> dict[str, str]:
    names = {"stem": "model.1", "stem_norm": "model.2"}
    for i in range(2):
        names |= {f"down.{i}": f"model.{4 + 3 * i}", f"down_norm.{i}": f"model.{5 + 3 * i}"}
    second = 6 if dropout else 5
    for i in range(num_blocks):
        block = f"model.{10 + i}.conv_block"
        names |= {f"blocks.{i}.conv1": f"{block}.1", f"blocks.{i}.norm1": f"{block}.2"}
        names |= {f"blocks.{i}.conv2": f"{block}.{second}", f"blocks.{i}.norm2": f"{block}.{second + 1}"}
    for i in range(2):
        first = 10 + num_blocks + 3 * i
        names |= {f"up.{i}": f"model.{first}", f"up_norm.{i}": f"model.{first + 1}"}
    return names | {"head": f"model.{17 + num_blocks}"}


def _unet_names(depth: int) -> dict[str, str]:
    names = {"down.0": "model.model.0", "up.0": "model.model.3"}
    prefix = "model.model.1.model"
    for level in range(1, depth - 1):
        names |= {f"down.{level}": f"{prefix}.1", f"down_norm.{level}": f"{prefix}.2"}
        names |= {f"up.{level}": f"{prefix}.5", f"up_norm.{level}": f"{prefix}.6"}
        prefix += ".3.model"
    last = depth - 1
    return names | {f"down.{last}": f"{prefix}.1", f"up.{last}": f"{prefix}.3", f"up_norm.{last}": f"{prefix}.4"}


def _patch_names(num_layers: int) -> dict[str, str]:
    names = {"stem": "model.0"}
    for i in range(num_layers):
        names |= {f"convs.{i}": f"model.{2 + 3 * i}", f"norms.{i}": f"model.{3 + 3 * i}"}
    return names | {"head": f"model.{2 + 3 * num_layers}"}


def _pixel_names() -> dict[str, str]:
    return {"stem": "net.0", "conv": "net.2", "norm": "net.3", "head": "net.5"}


def _numbers(keys: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for key in keys if (match := re.match(pattern, key))}
