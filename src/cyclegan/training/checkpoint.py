"""Checkpoints: everything that a run needs to resume exactly."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cyclegan.config import MAX_COUNT, Config
from cyclegan.errors import InputError, TrainingError, UnreadableError
from cyclegan.step.master_weights import concatenate
from cyclegan.step.state import TrainState
from cyclegan.storage.model import ModelInfo, save_tensors, with_prefix, write_model
from cyclegan.storage.run import list_checkpoints, step_of
from cyclegan.storage.weights import misfit, read_tensors
from cyclegan.system.atomic import atomic_path, remove_folder
from cyclegan.system.json_files import cut, read_json
from cyclegan.system.terminal import warn_once


def generator_weights(state: TrainState) -> dict[str, dict[str, Tensor]]:
    """State dicts of both generators, final and averaged, as `save_model` takes them."""
    named = {"a2b": state.generator.a2b, "b2a": state.generator.b2a}
    named |= {"a2b_average": state.average.a2b, "b2a_average": state.average.b2a}
    return {name: network.state_dict() for name, network in named.items()}


def save_checkpoint(run: Path, info: ModelInfo, state: TrainState, *, seconds: float, keep: int) -> Path:
    """Write checkpoints/step_N with everything needed to resume exactly, then remove all but the newest `keep`.

    seconds: training time so far. Raises OSError if it cannot be written; older checkpoints are then untouched.
    """
    target = run / "checkpoints" / f"step_{state.step:07d}"
    with atomic_path(target) as folder:
        folder.mkdir()
        _write_checkpoint(folder, info, state, seconds)
    remove_old_checkpoints(run, keep)
    return target


def remove_old_checkpoints(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, as far as that is allowed."""
    for old in list_checkpoints(run)[keep:]:
        with suppress(OSError):
            remove_folder(old)


def last_good_checkpoint(run: Path) -> str:
    """A sentence that names the newest checkpoint."""
    checkpoints = list_checkpoints(run)
    return f"The last good checkpoint is {checkpoints[0]}." if checkpoints else "No checkpoint was saved yet."


@contextmanager
def writing(run: Path, step: int) -> Iterator[None]:
    """Turn an OSError while the files of a step are written into a TrainingError with the remedy."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"Step {step} could not be written to {run}: {error.strerror or error}. {last_good_checkpoint(run)} "
            "Free some space or repair the disk, then continue from there with --resume."
        ) from error


def save_best(run: Path, info: ModelInfo, state: TrainState, *, seconds: float, scores: dict[str, Any]) -> None:
    """Replace best/ by a checkpoint of this state, with the validation scores that it was chosen by."""
    with atomic_path(run / "best") as folder:
        folder.mkdir()
        _write_checkpoint(folder, info, state, seconds)
        (folder / "validation.json").write_text(json.dumps(scores, indent=2) + "\n")


class BestScores(Config, extra="ignore", strict=True):
    """best/validation.json: the step of the best checkpoint, and the KID that it was chosen by."""

    step: int = Field(ge=0, le=MAX_COUNT)
    kid: float


def read_best(run: Path, warn: Callable[[str], object] = warn_once) -> BestScores | None:
    """The validation scores of best/, or None if there are none. `warn` gets a sentence if they are damaged."""
    folder = run / "best"
    file = folder / "validation.json"
    if not file.exists():
        return None
    try:
        return read_json(file, BestScores)
    except UnreadableError as error:
        warn(f"{error} The search for the best step starts again.")
        return None


def _write_checkpoint(folder: Path, info: ModelInfo, state: TrainState, seconds: float) -> None:
    (folder / "model").mkdir()
    write_model(folder / "model", info, generator_weights(state))
    tensors = {f"discriminator.{name}": tensor for name, tensor in state.discriminator.state_dict().items()}
    if state.heads is not None:
        tensors |= {f"heads.{name}": tensor for name, tensor in state.heads.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{moment}": tensor for moment, tensor in moments.items()}
    for name, pool in state.pools.items():
        tensors |= {f"{name}.{index}": image for index, image in enumerate(pool.images)}
        tensors |= {f"{name}_masks.{index}": mask for index, mask in enumerate(pool.masks)}
    if state.scaler.is_enabled():
        tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in state.scaler.state_dict().items()}
    save_tensors(folder / "training.safetensors", tensors)
    about: dict[str, Any] = {"step": state.step, "seconds": seconds, "precision": state.config.precision}
    if state.domains_with_holes:
        about["domains_with_holes"] = sorted(state.domains_with_holes)
    (folder / "training.json").write_text(json.dumps(about) + "\n")


class TrainingProgress(Config, extra="ignore", strict=True):
    """training.json of a checkpoint.

    seconds: training time so far. precision: of the networks, if it is recorded. domains_with_holes: as in the state.
    """

    step: int = Field(ge=0, le=MAX_COUNT)
    seconds: float = Field(ge=0)
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    domains_with_holes: tuple[Literal["a", "b"], ...] = ()


def read_progress(checkpoint: Path) -> TrainingProgress:
    """The training.json of a checkpoint. Raises UnreadableError if it is damaged, or of another step than its name."""
    file = checkpoint / "training.json"
    progress = read_json(file, TrainingProgress)
    if checkpoint.name.startswith("step_") and progress.step != step_of(checkpoint):
        raise UnreadableError(f"{file} is of step {progress.step}, and the name of its folder says otherwise.")
    return progress


def read_precision(run: Path) -> str | None:
    """The precision of the newest checkpoint that records it: fp32, bf16 or fp16; None without one."""
    for checkpoint in list_checkpoints(run):
        try:
            return read_progress(checkpoint).precision
        except UnreadableError:  # loading it says so
            continue
    return None


def load_checkpoint(checkpoint: Path, state: TrainState) -> float:
    """Load a checkpoint into a fresh state of the same configuration. Returns the training time so far, in seconds.

    Raises InputError if it is damaged or of other networks; the state is then as it was.
    """
    try:
        progress = read_progress(checkpoint)
        info = read_json(checkpoint / "model" / "config.json", ModelInfo)
        if info.step != progress.step:
            raise UnreadableError(f"Its model is of step {info.step}, and its training.json of step {progress.step}.")
        saved = _read_saved(checkpoint, state)
    except UnreadableError as error:
        raise InputError(f"The checkpoint {checkpoint} cannot be read: {error}") from None
    saved.load_into(state)
    state.step = progress.step
    state.domains_with_holes = set(progress.domains_with_holes)
    return progress.seconds


@dataclass(frozen=True)
class _Saved:
    """The tensors of a checkpoint, compared with a state. Those of a file are read from disk when they are used.

    networks: networks of the state and their weights. optimizers, pools, masks of pools: by their names in the state.
    """

    networks: list[tuple[nn.Module, dict[str, Tensor]]]
    optimizers: dict[str, dict[str, Tensor]]
    pools: dict[str, list[Tensor]]
    masks: dict[str, list[Tensor]]
    scaler: dict[str, float]

    def load_into(self, state: TrainState) -> None:
        for network, tensors in self.networks:
            network.load_state_dict(tensors)
        for name, optimizer in state.optimizers.items():
            moments = self.optimizers[name]
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": {0: moments} if moments else {}, "param_groups": groups})
        for name, pool in state.pools.items():
            pool.images = [image.to(state.device) for image in self.pools[name]]
            pool.masks = [mask.to(state.device) for mask in self.masks[name]]
        if self.scaler:
            state.scaler.load_state_dict(self.scaler)


def _read_saved(checkpoint: Path, state: TrainState) -> _Saved:
    """The tensors of a checkpoint. Raises UnreadableError unless all of them fit the state."""
    networks: list[tuple[nn.Module, dict[str, Tensor]]] = []
    for ending, generators in (("", state.generator), ("_average", state.average)):
        for direction, generator in (("a2b", generators.a2b), ("b2a", generators.b2a)):
            networks.append((generator, read_tensors(checkpoint / "model" / f"{direction}{ending}.safetensors")))
    training = read_tensors(checkpoint / "training.safetensors")
    networks.append((state.discriminator, with_prefix(training, "discriminator.")))
    # A run may switch the contrastive loss on when it is resumed; its heads then begin with fresh weights.
    if state.heads is not None and (heads := with_prefix(training, "heads.")):
        networks.append((state.heads, heads))
    for network, tensors in networks:
        if (reason := misfit(tensors, network.state_dict())) is not None:
            raise UnreadableError(f"The weights of {type(network).__name__} do not fit: {reason}.")
    optimizers = {
        name: _moments(name, with_prefix(training, f"{name}."), optimizer.param_groups[0]["params"][0])
        for name, optimizer in state.optimizers.items()
    }
    channels = {"pool_a": state.config.model.channels_a, "pool_b": state.config.model.channels_b}
    pools = {name: _pool(name, with_prefix(training, f"{name}."), count) for name, count in channels.items()}
    masks = {name: _pool(f"{name}_masks", with_prefix(training, f"{name}_masks."), 1) for name in channels}
    for name, found in masks.items():
        if found and [mask.shape[1:] for mask in found] != [image.shape[1:] for image in pools[name]]:
            raise UnreadableError(f"{name}_masks holds something else than the masks of {name}.")
    scaler = _scaler(with_prefix(training, "scaler."), state) if state.scaler.is_enabled() else {}
    return _Saved(networks, optimizers, pools, masks, scaler)


_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def _moments(name: str, saved: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
    """The moments of an optimiser of one tensor of weights; empty before its first step."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in saved.items():
        match = re.fullmatch(r"([0-9]{1,9})\.(step|exp_avg|exp_avg_sq)", key)
        if match is None:
            raise UnreadableError(f"{name} has the unknown entry {cut(key)}.")
        found.setdefault(int(match[1]), {})[match[2]] = tensor
    if not found:
        return {}
    parts = [found[index] for index in sorted(found)]
    if any(sorted(part) != sorted(_MOMENTS) or part["step"].numel() != 1 for part in parts):
        raise UnreadableError(f"{name} lacks moments of its weights.")
    if len(parts) == 1:
        whole = parts[0]
    else:  # early releases kept the moments of each weight by themselves
        whole = {moment: concatenate([part[moment] for part in parts]) for moment in ("exp_avg", "exp_avg_sq")}
        whole["step"] = parts[0]["step"]
    for moment in ("exp_avg", "exp_avg_sq"):
        if whole[moment].shape != weights.shape or whole[moment].dtype != weights.dtype:
            raise UnreadableError(f"{name} has moments of other weights.")
    return whole


def _pool(name: str, saved: Mapping[str, Tensor], channels: int) -> list[Tensor]:
    """The images of a pool, or their masks, in their order."""
    images = [saved.get(str(index)) for index in range(len(saved))]
    for image in images:
        if image is None or image.ndim != 3 or image.shape[0] != channels or not image.is_floating_point():
            raise UnreadableError(f"{name} holds something else than images with {channels} channels.")
    return [image for image in images if image is not None]


def _scaler(saved: Mapping[str, Tensor], state: TrainState) -> dict[str, float]:
    """The state of the gradient scaler; empty if the run began in another precision."""
    if saved and (saved.keys() != state.scaler.state_dict().keys() or any(x.numel() != 1 for x in saved.values())):
        raise UnreadableError("The state of the gradient scaler is incomplete.")
    return {name: value.item() for name, value in saved.items()}
