"""Model directories: config.json and safetensors, which is all that a translator needs."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from cyclegan.config import MAX_COUNT, MAX_SIDE, Config, Direction, ModelConfig, Preprocess
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import is_finite
from cyclegan.networks import build_generator, to_plain_convs
from cyclegan.storage.hub import fetch_address, is_address
from cyclegan.storage.run import list_checkpoints, step_of
from cyclegan.storage.weights import generator_misfit, misfit, read_tensors
from cyclegan.system.atomic import atomic_path, restore
from cyclegan.system.json_files import cut, read_json
from cyclegan.system.terminal import shell_quote, warn_once


class ModelInfo(Config):
    """model/config.json: what a translator needs besides the weights."""

    format_version: Literal[1] = 1
    cyclegan_version: str = Field(max_length=100)
    model: ModelConfig
    a: ImageFormat
    b: ImageFormat
    preprocess: Preprocess
    load_size: int = Field(ge=1, le=MAX_SIDE)
    crop_size: int = Field(ge=1, le=MAX_SIDE)
    step: int = Field(ge=0, le=MAX_COUNT)
    translate_with: Literal["final", "average"]
    # An imported model may have a single direction, and has no averaged weights.
    directions: tuple[Direction, ...] = Field(("a2b", "b2a"), min_length=1, max_length=2)
    averages: bool = True
    origin: str | None = Field(None, max_length=2**16, description="what it was imported or fine-tuned from")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, images, channels in (("a", self.a, self.model.channels_a), ("b", self.b, self.model.channels_b)):
            if images.channels != channels:
                raise ValueError(f"{name}.channels is {images.channels}, but model.channels_{name} is {channels}")
        return self

    def formats(self, direction: Direction) -> tuple[ImageFormat, ImageFormat]:
        """The formats of the images that a direction takes and gives."""
        return (self.a, self.b) if direction == "a2b" else (self.b, self.a)


def save_model(target: Path, info: ModelInfo, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a model directory: config.json and a file for each network. It is there whole or not at all.

    weights: state dicts by name: a2b, b2a, a2b_average, b2a_average; discriminator_a, discriminator_b.
    """
    with atomic_path(target) as folder:
        folder.mkdir()
        write_model(folder, info, weights)


def write_model(folder: Path, info: ModelInfo, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    (folder / "config.json").write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for name, tensors in weights.items():
        save_tensors(folder / f"{name}.safetensors", tensors)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # such as a full disk
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise OSError(f"{path.name}: {error}") from error
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes it readable for its owner alone


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def find_model(path: Path) -> Path:
    """The model directory of a run directory, a checkpoint or a model directory.

    If a complete run was resumed, this is the model of its newest checkpoint until the run is complete again. A damaged
    one is passed over for an older one, with a warning. `hf:user/name` is a model of the Hugging Face Hub, which is
    downloaded. Raises InputError if there is none.
    """
    path = Path(path)
    if is_address(path):
        return fetch_address(path)
    for replaced in (path, path / "model"):
        restore(replaced)
    if (path / "config.json").is_file():
        return path
    candidates = {path / "model": 0, **{place / "model": step_of(place) for place in list_checkpoints(path)}}
    candidates = {model: step for model, step in candidates.items() if model.is_dir()}
    if any((model / "config.json").is_file() for model in candidates):
        return _newest_whole(candidates)
    if not path.exists() and path.name == "best" and path.parent.is_dir():
        raise InputError(f"{path.parent} has no best checkpoint, because no step of it was scored; use {path.parent}.")
    if not path.exists():
        raise InputError(f"There is no {path}; expected a run directory, a checkpoint or a model directory.")
    if path.suffix in (".pth", ".pt") or any(path.glob("*_net_G*.pth")):
        raise InputError(
            f"{path} looks like a checkpoint of the reference implementation; convert it first: "
            f"cyclegan import {shell_quote(path)} --out {shell_quote(f'models/{path.stem}')}"
        )
    raise InputError(f"{path} holds no model; expected a run directory, a checkpoint or a model directory.")


def _newest_whole(models: Mapping[Path, int]) -> Path:
    """The model of the most steps that is not damaged; the first one if all are, whose error is then reported.

    models: model/ of a run, if it is there, then those of checkpoints with their steps, newest first.
    """
    if len(models) == 1:
        return next(iter(models))
    best, best_step = None, -1
    damaged: list[InputError] = []
    for model, named_step in models.items():
        if best is not None and named_step <= best_step:
            break
        try:
            step = check_model(model).step
        except InputError as error:
            damaged.append(error)
            continue
        if step > best_step:
            best, best_step = model, step
    if best is None:
        return next(iter(models))
    for reason in damaged:
        warn_once(f"{reason} {best} of step {best_step} is used instead.")
    return best


def check_model(model: Path) -> ModelInfo:
    """The ModelInfo of a model directory. Raises InputError unless each generator that it has is whole.

    Those that are not there were removed on purpose, as folders are written completely or not at all.
    """
    info = read_info(model)
    names = [(direction, ending) for direction in info.directions for ending in ("", "_average")]
    found = [name for name in names if (model / f"{''.join(name)}.safetensors").is_file()]
    if not found:
        raise InputError(f"{model} holds no weights of a generator.")
    for direction, ending in found:
        _read_generator(info, model / f"{direction}{ending}.safetensors", direction)
    return info


def read_info(model: Path) -> ModelInfo:
    """Read the config.json of a model directory. Raises InputError if it is damaged or from another release."""
    file = model / "config.json"
    try:
        return read_json(file, ModelInfo)
    except UnreadableError as error:
        if "export_format" in _keys(file):
            raise InputError(
                f"{model} is an export, which can only translate; give the run it was exported from."
            ) from None
        raise InputError(str(error)) from None


def _keys(file: Path) -> set[str]:
    try:
        return set(read_json(file, dict[str, Any]))
    except UnreadableError:
        return set()


def load_generator(model: Path, direction: Direction, weights: str | None = None) -> tuple[nn.Module, ModelInfo]:
    """Load one generator of a model directory on the CPU, in evaluation mode, and its ModelInfo.

    Convolutions are ordinary ones, see `to_plain_convs`.

    weights: final or average; default: those that the model was configured for. Raises InputError if a file is damaged.
    """
    info, path = find_weights(model, direction, weights)
    tensors = _read_generator(info, path, direction)
    channels = (info.model.channels_a, info.model.channels_b)
    network = build_generator(info.model, *(channels if direction == "a2b" else channels[::-1]))
    _load(network, tensors, path)
    return to_plain_convs(network).eval().requires_grad_(False), info


def read_weights(model: Path, direction: Direction, weights: str) -> dict[str, Tensor]:
    """The state dict of one generator as stored. weights: final or average. Errors as in `load_generator`."""
    info, path = find_weights(model, direction, weights)
    return _read_generator(info, path, direction)


def _read_generator(info: ModelInfo, path: Path, direction: Direction) -> dict[str, Tensor]:
    """The state dict of one generator as stored. Raises InputError if it does not fit the model."""
    try:
        tensors = read_tensors(path)
        reason = generator_misfit(info.model, direction, tensors)
    except UnreadableError as error:
        raise _unfit(path, str(error).removeprefix(f"{path} cannot be read: ").removesuffix(".")) from None
    if reason is not None:
        raise _unfit(path, reason)
    return tensors


def _unfit(path: Path, reason: str) -> InputError:
    return InputError(f"{path} does not hold the weights that its config.json describes: {reason}.")


def find_weights(model: Path, direction: Direction, weights: str | None) -> tuple[ModelInfo, Path]:
    """The ModelInfo, and the file of one generator. Raises InputError if the model has no such weights."""
    info = read_info(model)
    if direction not in info.directions:
        raise InputError(f"{model} has only the direction {info.directions[0]}; pass that, not {direction}.")
    if weights == "average" and not info.averages:
        raise InputError(f"{model} has no averaged weights; use the final ones.")
    ending = "_average" if (weights or info.translate_with) == "average" else ""
    return info, model / f"{direction}{ending}.safetensors"


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a file of a model directory into a network.

    Raises InputError if the weights do not fit, or if one is not finite: then every translation would be black.
    """
    try:
        tensors = read_tensors(path)
    except UnreadableError as error:
        raise InputError(str(error)) from None
    if (reason := misfit(tensors, network.state_dict())) is not None:
        raise _unfit(path, reason)
    _load(network, tensors, path)


def _load(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(f"{path} holds NaN or infinity in {name}; use another checkpoint of the run.")
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:  # of a class that loads in its own way
        raise _unfit(path, cut(" ".join(str(error).split()), 200)) from None


def read_discriminators(model: Path) -> dict[str, dict[str, Tensor]]:
    """State dicts of the discriminators of a model directory by domain, a and b; empty if it has none.

    An imported model keeps them beside its generators; a run keeps them in the checkpoint of the same step.
    Raises InputError if a file is damaged.
    """
    try:
        kept = {name: model / f"discriminator_{name}.safetensors" for name in ("a", "b")}
        found = {name: read_tensors(path) for name, path in kept.items() if path.is_file()}
        if found:
            return found
        step = read_info(model).step
        for checkpoint in (model.parent, *list_checkpoints(model.parent)):
            training = checkpoint / "training.safetensors"
            if training.is_file() and _step_of(checkpoint / "model") == step:
                tensors = read_tensors(training)
                return {name: with_prefix(tensors, f"discriminator.{name}.") for name in ("a", "b")}
    except UnreadableError as error:
        raise InputError(f"The discriminators of {model} are damaged: {error}") from None
    return {}


def _step_of(model: Path) -> int | None:
    """The step of a model directory, or None if its config.json cannot be read."""
    try:
        return read_info(model).step
    except InputError:
        return None
