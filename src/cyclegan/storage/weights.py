"""Files of weights: read what may be damaged or made to do harm, and compare it with the networks that it is for."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from cyclegan.config import Direction, ModelConfig
from cyclegan.errors import UnreadableError, reason_of
from cyclegan.networks.building import built_on_meta
from cyclegan.system.json_files import cut


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, on the CPU and read when they are used.

    Raises UnreadableError, in one short sentence, if it is missing, cut off or damaged.
    """
    if not path.is_file():
        raise UnreadableError(f"{path} cannot be read: there is no such file.")
    try:
        return load_file(path)
    except Exception as error:  # besides its own errors, torch's for types and shapes that it does not have
        reason = cut(" ".join(reason_of(error).split()), 200)
        raise UnreadableError(f"{path} cannot be read: it is cut off or damaged ({reason}).") from None


def misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first way in which tensors differ from those of a network, in words; None if they fit."""
    for name, ours in expected.items():
        if name not in tensors:
            return f"{cut(name)} is missing"
        theirs = tensors[name]
        if theirs.shape != ours.shape:
            return f"{cut(name)} has the shape {_shape(theirs)}, and the network takes {_shape(ours)}"
        if theirs.is_floating_point() != ours.is_floating_point() or theirs.is_complex():
            return f"{cut(name)} holds {theirs.dtype}, and the network takes {ours.dtype}"
    extra = next((name for name in tensors if name not in expected), None)
    return None if extra is None else f"{cut(extra)} is not in the network"


def _shape(tensor: Tensor) -> str:
    return cut(str(tuple(tensor.shape)))


def generator_misfit(config: ModelConfig, direction: Direction, tensors: Mapping[str, Tensor]) -> str | None:
    """Like `misfit` for a generator of a model. Channels that contradict the weights are named. Takes no memory."""
    channels = (config.channels_a, config.channels_b)
    if direction == "b2a":
        channels = channels[::-1]
    expected = _shapes(config, channels)
    reason = None if expected is None else misfit(tensors, expected)
    if expected is None or reason is None:
        return None  # the constructor computes with values; `load_state_dict` compares then
    for other in _other_channels(channels, tensors, expected):
        shapes = _shapes(config, other)
        if shapes is not None and misfit(tensors, shapes) is None:
            names = ("channels_a", "channels_b") if direction == "a2b" else ("channels_b", "channels_a")
            pairs = zip(names, channels, other, strict=True)
            return " and ".join(f"{name} is {ours}, but the weights take {x}" for name, ours, x in pairs if x != ours)
    return reason


def _shapes(config: ModelConfig, channels: tuple[int, int]) -> Mapping[str, Tensor] | None:
    """The state dict of a generator without memory; None if its constructor computes with values."""
    settings = config.generator_settings
    key = (config.generator_class, channels, repr(settings))
    if key not in _KNOWN:
        if len(_KNOWN) >= _MAX_KNOWN:
            _KNOWN.clear()
        network = built_on_meta(lambda: config.generator_class(*channels, **settings))
        _KNOWN[key] = None if network is None else network.state_dict()
    return _KNOWN[key]


# The networks of a model are alike, and building one takes as long as reading a file.
_KNOWN: dict[tuple[type, tuple[int, int], str], Mapping[str, Tensor] | None] = {}
_MAX_KNOWN = 8


def _other_channels(
    channels: tuple[int, int], tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[tuple[int, int]]:
    """Channels of input and output that the differences of the shapes suggest, at most a few."""
    differences = {0}
    for name, ours in expected.items():
        if name in tensors and tensors[name].ndim == ours.ndim and len(differences) < 6:
            differences |= {x - y for x, y in zip(tensors[name].shape, ours.shape, strict=True) if x != y}
    for one, other in product(sorted(differences, key=abs), repeat=2):
        if (one or other) and channels[0] + one > 0 and channels[1] + other > 0:
            yield channels[0] + one, channels[1] + other
