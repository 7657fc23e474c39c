"""The model directory and the training state on disk. Only safetensors and JSON; whole or not there at all."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cyclegan.config import Config, Direction, InputError, ModelConfig, Preprocess, describe_validation_error
from cyclegan.images.codecs import ImageFormat
from cyclegan.networks import build_generator, plain
from cyclegan.step.master_weights import lay_down
from cyclegan.storage.hub import fetch_address, is_address

if TYPE_CHECKING:  # what begins at a translator needs no training code
    from cyclegan.step.state import ImagePool, TrainState


class ModelInfo(Config):
    """model/config.json: all that a translator needs to know beside the weights."""

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
    # What is there: an imported model may have one direction alone, and has no averaged weights.
    directions: tuple[Direction, ...] = Field(("a2b", "b2a"), min_length=1)
    averages: bool = True
    origin: str | None = Field(None, description="what it was imported from, or trained further from")


@contextmanager
def _directory(target: Path) -> Iterator[Path]:
    """A directory to fill, which becomes `target` when the block ends well, and leaves no trace when it does not."""
    target = target.resolve()  # of a link, the folder behind it is replaced
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _fsync(path)
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        partial.rename(target)
        _fsync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot sync a directory
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_model(target: Path, info: ModelInfo, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a model directory: config.json, and a file for each network.

    weights: state dicts by name: a2b, b2a, a2b_average, b2a_average; discriminator_a, discriminator_b.
    """
    with _directory(target) as folder:
        _write_model(folder, info, weights)


def _write_model(folder: Path, info: ModelInfo, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    (folder / "config.json").write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for name, tensors in weights.items():
        _save(folder / f"{name}.safetensors", tensors)


def generator_weights(state: "TrainState") -> dict[str, dict[str, Tensor]]:
    """Both generators, the final and the averaged ones, as `save_model` takes them."""
    named = {"a2b": state.generator.a2b, "b2a": state.generator.b2a}
    named |= {"a2b_average": state.average.a2b, "b2a_average": state.average.b2a}
    return {name: network.state_dict() for name, network in named.items()}


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(f"{path.name}: {error}") from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets nobody else read it


def save_checkpoint(run: Path, info: ModelInfo, state: "TrainState", *, seconds: float, keep: int) -> Path:
    """Write checkpoints/step_N with everything needed to go on exactly, then remove all but the newest `keep`.

    seconds: training time so far. Raises OSError if the disk does not take it; older checkpoints are then untouched.
    """
    target = run / "checkpoints" / f"step_{state.step:07d}"
    with _directory(target) as folder:
        _write_checkpoint(folder, info, state, seconds)
    for old in list_checkpoints(run)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def save_best(run: Path, info: ModelInfo, state: "TrainState", *, seconds: float, scores: dict[str, Any]) -> None:
    """Write best/, a checkpoint with the validation scores that it was chosen by, in place of the one before it."""
    with _directory(run / "best") as folder:
        _write_checkpoint(folder, info, state, seconds)
        (folder / "validation.json").write_text(json.dumps(scores, indent=2) + "\n")


def read_best(run: Path) -> dict[str, Any] | None:
    """The validation scores of best/, or None if there is none, or none that can be read."""
    folder = run / "best"
    old = folder.with_name(".best.old")
    if old.is_dir() and not folder.exists():  # killed between the two renames that replace it
        old.rename(folder)
    try:
        scores = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    good = isinstance(scores, dict) and isinstance(scores.get("step"), int) and isinstance(scores.get("kid"), float)
    return scores if good else None


def _write_checkpoint(folder: Path, info: ModelInfo, state: "TrainState", seconds: float) -> None:
    (folder / "model").mkdir()
    _write_model(folder / "model", info, generator_weights(state))
    tensors = {f"discriminator.{name}": tensor for name, tensor in state.discriminator.state_dict().items()}
    if state.heads is not None:
        tensors |= {f"heads.{name}": tensor for name, tensor in state.heads.state_dict().items()}
    for name, optimizer in _optimizers(state).items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{moment}": tensor for moment, tensor in moments.items()}
    for name, pool in _pools(state).items():
        tensors |= {f"{name}.{index}": image for index, image in enumerate(pool.images)}
    if state.scaler.is_enabled():
        tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in state.scaler.state_dict().items()}
    _save(folder / "training.safetensors", tensors)
    about = {"step": state.step, "seconds": seconds, "precision": state.config.precision}
    (folder / "training.json").write_text(json.dumps(about) + "\n")


def read_precision(checkpoint: Path) -> str | None:
    """What a checkpoint was trained in, fp32, bf16 or fp16; None if it does not say."""
    try:
        precision = json.loads((checkpoint / "training.json").read_text()).get("precision")
    except (OSError, ValueError, AttributeError):
        return None
    return precision if precision in ("fp32", "bf16", "fp16") else None


def load_checkpoint(checkpoint: Path, state: "TrainState") -> float:
    """Put a checkpoint into a fresh state of the same configuration. Returns the training time so far, in seconds."""
    try:
        progress = json.loads((checkpoint / "training.json").read_text())
        tensors = load_file(checkpoint / "training.safetensors")
        for suffix, generators in (("", state.generator), ("_average", state.average)):
            generators.a2b.load_state_dict(load_file(checkpoint / "model" / f"a2b{suffix}.safetensors"))
            generators.b2a.load_state_dict(load_file(checkpoint / "model" / f"b2a{suffix}.safetensors"))
        state.discriminator.load_state_dict(_part(tensors, "discriminator."))
        if state.heads is not None:
            state.heads.load_state_dict(_part(tensors, "heads."))
        for name, optimizer in _optimizers(state).items():
            saved: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _part(tensors, f"{name}.").items():
                index, moment = key.split(".")
                saved.setdefault(int(index), {})[moment] = tensor
            if len(saved) > 1:  # before the weights lay in one piece, each had moments of its own
                parts = [saved[index] for index in sorted(saved)]
                names = ("exp_avg", "exp_avg_sq")
                whole = {name: lay_down([part[name] for part in parts]) for name in names}
                saved = {0: {"step": parts[0]["step"], **whole}}
            optimizer.load_state_dict({"state": saved, "param_groups": optimizer.state_dict()["param_groups"]})
        for name, pool in _pools(state).items():
            images = _part(tensors, f"{name}.")
            pool.images = [images[str(index)].to(state.device) for index in range(len(images))]
        if state.scaler.is_enabled() and (scaler := _part(tensors, "scaler.")):
            state.scaler.load_state_dict({name: value.item() for name, value in scaler.items()})
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError, RuntimeError) as error:
        raise InputError(f"The checkpoint {checkpoint} cannot be read: {error}") from error
    state.step = int(progress["step"])
    return float(progress["seconds"])


def _optimizers(state: "TrainState") -> dict[str, torch.optim.Adam]:
    found = {"generator_optimizer": state.generator_optimizer, "discriminator_optimizer": state.discriminator_optimizer}
    return found if state.head_optimizer is None else {**found, "head_optimizer": state.head_optimizer}


def _pools(state: "TrainState") -> "dict[str, ImagePool]":
    return {"pool_a": state.pool_a, "pool_b": state.pool_b}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def list_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run directory, newest first."""
    folder = run / "checkpoints"
    names = [path for path in folder.iterdir() if re.fullmatch(r"step_\d+", path.name)] if folder.is_dir() else []
    return sorted(names, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def find_model(path: Path) -> Path:
    """The model directory that belongs to a run directory, a checkpoint or a model directory.

    Of a run that went on after it was complete, it is that of the newest checkpoint until the run is complete again.
    `hf:user/name` is a model of the Hugging Face Hub, which is fetched. Raises InputError if there is none.
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
            f"{path} is a checkpoint of the reference implementation, as it seems; make a model of it first: "
            f"cyclegan import {shlex.quote(str(path))} --out {shlex.quote(f'models/{path.stem}')}"
        )
    raise InputError(f"{path} holds no model; expected a run directory, a checkpoint or a model directory.")


def read_info(model: Path) -> ModelInfo:
    """The config.json of a model directory. Raises InputError if it is damaged or of a newer release."""
    try:
        values: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
        if isinstance(values, dict) and "export_format" in values:
            raise InputError(f"{model} is an export, which only translates; use the run that it was made of for this.")
        return ModelInfo.model_validate(values)
    except ValidationError as error:
        raise InputError(
            f"{model / 'config.json'} is not a model of this release: {describe_validation_error(error)}"
        ) from None
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{model / 'config.json'} cannot be read: {error}") from None


def load_generator(model: Path, direction: Direction, weights: str | None = None) -> tuple[nn.Module, ModelInfo]:
    """One generator of a model directory on the CPU, made `plain` and ready to translate, and what is known of it.

    weights: final or average; default: what the model was configured for. Raises InputError if a file is damaged.
    """
    info = read_info(model)
    _check_known(model, info, direction, weights)
    channels = (info.model.channels_a, info.model.channels_b)
    network = build_generator(info.model, *(channels if direction == "a2b" else channels[::-1]))
    load_weights(network, _weights_file(model, direction, weights or info.translate_with))
    return plain(network).eval().requires_grad_(False), info


def read_weights(model: Path, direction: Direction, weights: str) -> dict[str, Tensor]:
    """The state dict of one generator as its file holds it; weights: final or average. Errors of `load_generator`."""
    info = read_info(model)
    _check_known(model, info, direction, weights)
    path = _weights_file(model, direction, weights)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _check_known(model: Path, info: ModelInfo, direction: Direction, weights: str | None) -> None:
    if direction not in info.directions:
        raise InputError(f"{model} has only the direction {info.directions[0]}; pass that, not {direction}.")
    if weights == "average" and not info.averages:
        raise InputError(f"{model} has no averaged weights; use the final ones.")


def _weights_file(model: Path, direction: Direction, weights: str) -> Path:
    return model / f"{direction}{'_average' if weights == 'average' else ''}.safetensors"


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the weights of a file of a model directory into a network. Raises InputError if they do not fit."""
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the weights that its config.json describes: {error}") from None


def read_discriminators(model: Path) -> dict[str, dict[str, Tensor]]:
    """State dicts of the discriminators that belong to a model directory, by domain: a, b, or those that there are.

    An imported model keeps them beside its generators; that of a run has them in the checkpoint of the same step.
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
                return {name: _part(tensors, f"discriminator.{name}.") for name in ("a", "b")}
    except (OSError, SafetensorError) as error:
        raise InputError(f"The discriminators of {model} cannot be read: {error}") from None
    return {}
