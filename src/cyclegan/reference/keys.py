"""Convert state dicts of single networks between our keys and those of junyanz/pytorch-CycleGAN-and-pix2pix.

The reference numbers its layers by their place in nested `nn.Sequential`s; the tables here follow its networks.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from cyclegan.config import ModelConfig
from cyclegan.errors import InputError
from cyclegan.networks import build_discriminator, build_generator
from cyclegan.system.json_files import describe_validation_error

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

# Prefixes that DataParallel and torch.compile add to every key, in any order.
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)+")

# Patterns of entries in networks that we do not have, and what those are. Searched in this order.
_FOREIGN = {
    r"filt$": "it resamples with anti-aliasing filters, as networks of CUT do by default, and ours do not",
    r"(^|\.)mlp_\d+\.": "it is a projection head of CUT (netF), which is no generator and no discriminator",
    r"modulation|to_rgb|noise\.weight": "it is a network of StyleGAN2",
    r"weight_(orig|u|v|bar)$|parametrizations\.": "it has spectral norm, which its convolutions do not show",
    r"^(layers|features|fc|classifier|encoder|decoder)\b": "its keys are those of another kind of network",
}


@dataclass(frozen=True)
class ReferenceNetwork:
    """One network of the reference under our keys, with the architecture that its tensors show.

    settings: fields of `ModelConfig`. channels: of its images, (in, out) of a generator, (in,) of a discriminator.
    """

    kind: Literal["generator", "discriminator"]
    settings: dict[str, Any]
    channels: tuple[int, ...]
    weights: dict[str, Tensor]

    def __str__(self) -> str:
        found = self.settings
        norm = {"instance": "instance norm", "batch": "batch norm", "none": "no norm"}[found["norm"]]
        text = f"{KINDS[found[self.kind]].describe(found)}, {norm}"
        if self.kind == "discriminator":
            return text
        dropout = {True: ", dropout", False: ", no dropout"}[found["dropout"]] if "dropout" in found else ""
        return f"{text}{dropout}, {self.channels[0]} -> {self.channels[1]} channels"


def recognise(state: Mapping[str, Tensor]) -> ReferenceNetwork:
    """Infer the architecture of one network of the reference from its tensors: kind, size, norm, dropout, channels.

    Dropout of a U-Net leaves no trace in the tensors and is taken to be off. Biases that the reference leaves out
    (without norm) and counters that old releases of torch did not save become zeros.
    Raises InputError, with the reason, for a network that ours cannot represent.
    """
    theirs = {_PREFIX.sub("", key): tensor for key, tensor in state.items()}
    _refuse_foreign(theirs)
    weights = from_reference(theirs)

    def shape(key: str) -> torch.Size:
        if key not in weights or weights[key].ndim != 4:
            raise InputError(f"This network cannot be represented: it lacks the convolution {key}.")
        return weights[key].shape

    batch = any(key.endswith("running_mean") for key in weights)
    # The reference gives a convolution before an instance norm a bias, and one without a norm none.
    biased = any(key in weights for key in ("down.1.bias", "convs.0.bias", "conv.bias"))
    name = _kind_of(weights)
    kind = KINDS[name].kind
    found, channels = KINDS[name].read(shape, weights, theirs)
    settings = {"norm": "batch" if batch else "instance" if biased else "none", kind: name, **found}

    # A network with these settings must have the same entries of the same shapes.
    absent, unlike = _absent_biases(weights, settings["norm"]), f"This {kind} cannot be represented"
    try:
        config = ModelConfig(**settings)
    except ValidationError as error:
        raise InputError(f"{unlike}: {describe_validation_error(error)}") from None
    if 0 in channels:
        raise InputError(f"{unlike}: it has no channels.")
    build = build_generator if kind == "generator" else build_discriminator
    expected = build(config, *channels).state_dict()
    for key, tensor in expected.items():
        if key not in weights and (key in absent or key.endswith("num_batches_tracked")):
            weights[key] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    # Errors use the names in the file.
    names = _names_of(theirs)
    file_keys = {key: f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in {*expected, *weights}}
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        what = f"it lacks {file_keys[missing[0]]}" if missing else f"ours has no place for {file_keys[extra[0]]}"
        raise InputError(f"{unlike}: {what}.")
    for key, tensor in expected.items():
        if weights[key].shape != tensor.shape:
            shapes = f"the shape {tuple(weights[key].shape)}, where a network of its kind has {tuple(tensor.shape)}"
            raise InputError(f"{unlike}: {file_keys[key]} has {shapes}.")
        if not weights[key].is_floating_point() and not key.endswith("num_batches_tracked"):
            raise InputError(f"{unlike}: {file_keys[key]} holds {weights[key].dtype}, not floats.")
        if not torch.isfinite(weights[key]).all():
            raise InputError(f"This {kind} is broken: {file_keys[key]} holds values that are NaN or infinite.")
    return ReferenceNetwork(kind, settings, channels, {key: weights[key].to(expected[key].dtype) for key in expected})


def _refuse_foreign(state: Mapping[str, Tensor]) -> None:
    for pattern, reason in _FOREIGN.items():
        found = next((key for key in state if re.search(pattern, key)), None)
        if found is not None:
            raise InputError(f"This network cannot be represented: {reason} (entry {found}).")
    for key in state:
        module, _, entry = key.rpartition(".")
        # A scale without statistics belongs to an instance norm that learns it; batch norm has both.
        if entry == "weight" and state[key].ndim == 1 and f"{module}.running_mean" not in state:
            raise InputError(f"This network cannot be represented: its instance norms have learned scales ({key}).")


def _absent_biases(weights: Mapping[str, Tensor], norm: str) -> set[str]:
    """Biases that ours have and the reference's networks lack: without norm, all but those at the ends."""
    if norm != "none":
        return set()
    kept = KINDS[_kind_of(weights)].biased_without_norm
    modules = {key.rpartition(".")[0] for key, tensor in weights.items() if key.endswith(".weight")}
    return {f"{module}.bias" for module in modules - kept}


def _has_dropout(state: Mapping[str, Tensor]) -> bool:
    """Whether the second convolution of a residual block stands one place further back, behind a dropout layer."""
    return any(re.fullmatch(r"model\.\d+\.conv_block\.6\.weight", k) and t.ndim == 4 for k, t in state.items())


def from_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of one generator or discriminator of the reference to our keys. Tensors are not copied.

    Drops the prefixes `module.` and `_orig_mod.`, and running statistics without a scale, which old instance norms
    left. Raises InputError if the keys are not those of a network that we have.
    """
    state = {_PREFIX.sub("", key): tensor for key, tensor in state.items()}
    ours = {theirs: name for name, theirs in _names_of(state).items()}
    renamed = {}
    for key, tensor in state.items():
        module, _, entry = key.rpartition(".")
        if entry in _STATISTICS and f"{module}.weight" not in state:
            continue
        if module not in ours:
            raise InputError(f"{key!r} is no entry of a generator or discriminator of the reference implementation.")
        renamed[f"{ours[module]}.{entry}"] = tensor
    return renamed


def _names_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The reference's names of a network's layers, by ours; which network it is shows in its keys."""
    return next(kind for kind in KINDS.values() if kind.is_theirs(state)).names_in(state)


def to_reference(state: Mapping[str, Tensor], *, dropout: bool = False, norm: str | None = None) -> dict[str, Tensor]:
    """The inverse of `from_reference`.

    dropout: the resnet has dropout layers, which shift the numbers there. norm: if it is none, biases that the
    reference's networks then lack are left out. Raises InputError if one of them is not zero.
    """
    absent = _absent_biases(state, norm) if norm is not None else set()
    for key in absent & state.keys():
        if state[key].any():
            raise InputError(
                f"The reference has no biases in networks without norm, and {key} is not zero, so it cannot hold this."
            )
    state = {key: tensor for key, tensor in state.items() if key not in absent}
    table = KINDS[_kind_of(state)].names_for(state, dropout)

    renamed = {}
    for key, tensor in state.items():
        module, _, entry = key.rpartition(".")
        if module not in table:
            raise InputError(f"{key!r} is not an entry of a cyclegan network; expected one of {sorted(table)}.")
        renamed[f"{table[module]}.{entry}"] = tensor
    return {key: renamed[key] for key in sorted(renamed, key=_layer_order)}


def _layer_order(key: str) -> list[int]:
    """Sorts keys as the reference's networks list them: by the numbers of their layers, the weight before the bias."""
    *layers, entry = key.split(".")
    numbers = [int(layer) for layer in layers if layer.isdigit()]
    return [*numbers, ("weight", "bias", *_STATISTICS).index(entry)]


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


_PIXEL_NAMES = {"stem": "net.0", "conv": "net.2", "norm": "net.3", "head": "net.5"}


def _numbers(keys: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for key in keys if (match := re.match(pattern, key))}


# ---- the kinds of networks that the reference has, too

Weights = Mapping[str, Tensor]
Shape = Callable[[str], torch.Size]


@dataclass(frozen=True)
class ReferenceKind:
    """A network class that the reference has too, and how its tensors are found and named there and here.

    is_theirs, is_ours: whether keys are those of the reference, or ours; asked in the order of `KINDS`. names_in: the
    reference's names of the layers by ours, from its own tensors; names_for: from ours, and whether it has dropout.
    read: settings and channels, from the shapes of convolutions by our keys, and the tensors under our and their keys.
    describe: for messages.
    biased_without_norm: the layers with a bias in a network without norm. dropout_shows: dropout layers shift the keys.
    options: flags with which the reference builds it. note: what its command line cannot express, if anything.
    """

    kind: Literal["generator", "discriminator"]
    is_theirs: Callable[[Weights], bool]
    is_ours: Callable[[Weights], bool]
    names_in: Callable[[Weights], dict[str, str]]
    names_for: Callable[[Weights, bool], dict[str, str]]
    read: Callable[[Shape, Weights, Weights], tuple[dict[str, Any], tuple[int, ...]]]
    describe: Callable[[Mapping[str, Any]], str]
    biased_without_norm: frozenset[str]
    options: Callable[[ModelConfig], list[str]]
    note: Callable[[ModelConfig], str | None] = lambda _config: None
    dropout_shows: bool = False


def _kind_of(weights: Weights) -> str:
    """The name of a network in KINDS, from tensors under our keys."""
    return next(name for name, kind in KINDS.items() if kind.is_ours(weights))


def _read_unet(shape: Shape, weights: Weights, _theirs: Weights) -> tuple[dict[str, Any], tuple[int, ...]]:
    depth = len(_numbers(weights, r"down\.(\d+)\."))
    if not 5 <= depth <= 12:
        raise InputError(f"This U-Net has {depth} levels; ours have 5 to 12.")
    width, channels = shape("down.0.weight")[:2]
    return {"width": width, "depth": depth}, (channels, shape("up.0.weight")[1])


def _read_patch(shape: Shape, weights: Weights, _theirs: Weights) -> tuple[dict[str, Any], tuple[int, ...]]:
    layers = len(_numbers(weights, r"convs\.(\d+)\."))
    if not 1 <= layers <= 8:
        raise InputError(f"This patch discriminator has {layers} layers; ours have 1 to 8.")
    width, channels = shape("stem.weight")[:2]
    return {"discriminator_width": width, "discriminator_layers": layers}, (channels,)


def _size_note(known: tuple[int, int], words: str, size: int, loader: str) -> str | None:
    note = (
        f"Its --netG offers {words}, and this model has {size}: {loader} loads it, and --netG needs a new name for it."
    )
    return None if size in known else note


# By the name in GENERATORS or DISCRIMINATORS.
KINDS: dict[str, ReferenceKind] = {
    "resnet": ReferenceKind(
        kind="generator",
        is_theirs=lambda state: "model.1.weight" in state,
        is_ours=lambda weights: "stem.weight" in weights and "down.0.weight" in weights,
        names_in=lambda state: _resnet_names(len(_numbers(state, r"model\.(\d+)\.conv_block")), _has_dropout(state)),
        names_for=lambda weights, dropout: _resnet_names(len(_numbers(weights, r"blocks\.(\d+)\.")), dropout),
        read=lambda shape, weights, theirs: (
            {
                "width": shape("stem.weight")[0],
                "blocks": len(_numbers(weights, r"blocks\.(\d+)\.")),
                "dropout": _has_dropout(theirs),
            },
            (shape("stem.weight")[1], shape("head.weight")[0]),
        ),
        describe=lambda found: f"ResNet generator, {found['blocks']} blocks, {found['width']} wide",
        biased_without_norm=frozenset({"head"}),
        options=lambda config: ["--netG", f"resnet_{config.blocks}blocks"],
        note=lambda config: _size_note(
            (6, 9), "6 and 9 residual blocks", config.blocks, "its class ResnetGenerator with n_blocks"
        ),
        dropout_shows=True,
    ),
    "unet": ReferenceKind(
        kind="generator",
        is_theirs=lambda state: any(key.startswith("model.model.") for key in state),
        is_ours=lambda weights: "down.0.weight" in weights,
        names_in=lambda state: _unet_names(max(key.count("model.") for key in state) - 1),
        names_for=lambda weights, _dropout: _unet_names(len(_numbers(weights, r"up\.(\d+)\."))),
        read=_read_unet,
        describe=lambda found: f"U-Net generator, {found['depth']} levels, {found['width']} wide",
        biased_without_norm=frozenset({"up.0"}),
        options=lambda config: ["--netG", f"unet_{2**config.depth}"],
        note=lambda config: _size_note(
            (7, 8), "U-Nets of 7 and 8 levels", config.depth, "its class UnetGenerator with num_downs"
        ),
    ),
    "pixel": ReferenceKind(
        kind="discriminator",
        is_theirs=lambda state: any(key.startswith("net.") for key in state),
        is_ours=lambda weights: "conv.weight" in weights,
        names_in=lambda _state: _PIXEL_NAMES,
        names_for=lambda _weights, _dropout: _PIXEL_NAMES,
        read=lambda shape, _weights, _theirs: (
            {"discriminator_width": shape("stem.weight")[0]},
            (shape("stem.weight")[1],),
        ),
        describe=lambda found: f"pixel discriminator, {found['discriminator_width']} wide",
        # The last convolution follows the others.
        biased_without_norm=frozenset({"stem"}),
        options=lambda _config: ["--netD", "pixel"],
    ),
    # Last, because every other set of keys is taken for one.
    "patch": ReferenceKind(
        kind="discriminator",
        is_theirs=lambda _state: True,
        is_ours=lambda _weights: True,
        names_in=lambda state: _patch_names(
            sum(key.endswith(".weight") and tensor.ndim == 4 for key, tensor in state.items()) - 2
        ),
        names_for=lambda weights, _dropout: _patch_names(len(_numbers(weights, r"convs\.(\d+)\."))),
        read=_read_patch,
        describe=lambda found: (
            f"patch discriminator, {found['discriminator_layers']} layers, {found['discriminator_width']} wide"
        ),
        biased_without_norm=frozenset({"stem", "head"}),
        options=lambda _config: ["--netD", "n_layers"],
    ),
}
