"""Model directories: config.json and safetensors, which is all that a translator needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cyclegan.config import Config, Direction, ModelConfig, Preprocess
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator, to_plain_convs
from cyclegan.storage.hub import fetch_address, is_address
from cyclegan.storage.run import list_checkpoints
from cyclegan.system.atomic import atomic_path
from cyclegan.system.json_files import read_json
from cyclegan.system.terminal import shell_quote


class ModelInfo(Config):
    """model/config.json: what a translator needs besides the weights."""

    format_version: Literal[1] = 1
    cyclegan_version: str
    model: ModelConfig
    a: ImageFormat
    b: ImageFormat
    preprocess: Preprocess
    load_size: int
    crop_size: int
    step: int
    translate_with: Literal["final", "average"]
    # An imported model may have a single direction, and has no averaged weights.
    directions: tuple[Direction, ...] = Field(("a2b", "b2a"), min_length=1)
    averages: bool = True
    origin: str | None = Field(None, description="what it was imported or fine-tuned from")

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
        raise OSError(f"{path.name}: {error}") from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes it readable for its owner alone


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def find_model(path: Path) -> Path:
    """The model directory of a run directory, a checkpoint or a model directory.

    If a complete run was resumed, this is the model of its newest checkpoint until the run is complete again.
    `hf:user/name` is a model of the Hugging Face Hub, which is downloaded. Raises InputError if there is none.
    """
    path = Path(path)
    if is_address(path):
        return fetch_address(path)
    if (path / "config.json").is_file():
        return path
    candidates = [path / "model", *(checkpoint / "model" for checkpoint in list_checkpoints(path))]
    found = [candidate for candidate in candidates if (candidate / "config.json").is_file()]
    if found:
        return max(found[:2], key=lambda candidate: read_info(candidate).step) if len(found) > 1 else found[0]
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
    info, path = _find_weights(model, direction, weights)
    channels = (info.model.channels_a, info.model.channels_b)
    network = build_generator(info.model, *(channels if direction == "a2b" else channels[::-1]))
    load_weights(network, path)
    return to_plain_convs(network).eval().requires_grad_(False), info


def read_weights(model: Path, direction: Direction, weights: str) -> dict[str, Tensor]:
    """The state dict of one generator as stored. weights: final or average. Errors as in `load_generator`."""
    _, path = _find_weights(model, direction, weights)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _find_weights(model: Path, direction: Direction, weights: str | None) -> tuple[ModelInfo, Path]:
    """The ModelInfo, and the file of one generator. Raises InputError if the model has no such weights."""
    info = read_info(model)
    if direction not in info.directions:
        raise InputError(f"{model} has only the direction {info.directions[0]}; pass that, not {direction}.")
    if weights == "average" and not info.averages:
        raise InputError(f"{model} has no averaged weights; use the final ones.")
    ending = "_average" if (weights or info.translate_with) == "average" else ""
    return info, model / f"{direction}{ending}.safetensors"


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a file of a model directory into a network. Raises InputError if the weights do not fit."""
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the weights that its config.json describes: {error}") from None


def read_discriminators(model: Path) -> dict[str, dict[str, Tensor]]:
    """State dicts of the discriminators of a model directory by domain, a and b; empty if it has none.

    An imported model keeps them beside its generators; a run keeps them in the checkpoint of the same step.
    Raises InputError if a file is damaged.
    """
    try:
        kept = {name: model / f"discriminator_{name}.safetensors" for name in ("a", "b")}
        found = {name: load_file(path) for name, path in kept.items() if path.is_file()}
        if found:
            return found
        for checkpoint in (model.parent, *list_checkpoints(model.parent)):
            training = checkpoint / "training.safetensors"
            if training.is_file() and read_info(checkpoint / "model").step == read_info(model).step:
                tensors = load_file(training)
                return {name: with_prefix(tensors, f"discriminator.{name}.") for name in ("a", "b")}
    except (OSError, SafetensorError) as error:
        raise InputError(f"The discriminators of {model} cannot be read: {error}") from None
    return {}
