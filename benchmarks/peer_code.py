"""CUT and DCLGAN, trained by their authors' code in a checkout of it, for benchmarks/peers.py. Not a command.

Their options, networks, losses, optimisers, learning rates and data loading are used unchanged. What is ours: the loop
of train.py, which counts steps here where it counts epochs there, checkpoints to resume from, and `peer_transforms` for
torchvision. Images come from the process that trains, and a model on one GPU is not wrapped in DataParallel. A trained
generator becomes a model of this package, so that it is scored as all others: in eval mode, rounded to 8 bits.
"""

import importlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_transforms
import torch
from PIL import Image
from recipes import CHECKOUTS, PEERS, Peer
from torch import Tensor

from cyclegan import Translator, __version__
from cyclegan.config import Direction, make_config
from cyclegan.errors import InputError
from cyclegan.images.file_list import list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import GENERATORS
from cyclegan.networks.protocol import Generator, Settings, Sizes
from cyclegan.storage.model import ModelInfo, save_model
from cyclegan.system.atomic import atomic_path
from cyclegan.system.signals import stop_signals

# Layers of their generators before the first residual block.
BEFORE_BLOCKS = 12

CHECKPOINT_MINUTES = 5.0
PRINT_STEPS = 100


def load_checkout(checkout: Path) -> None:
    """Make the modules of a checkout importable, of one in each process, and register its generator as `peer`."""
    if not all((checkout / name).is_dir() for name in ("models", "options", "data")):
        raise InputError(f"{checkout} is no checkout of {' or '.join(CHECKOUTS.values())}: it has no models/.")
    sys.path.insert(0, str(checkout))
    with peer_transforms.as_torchvision():
        networks, *_ = map(importlib.import_module, ("models.networks", "options.train_options", "data"))
    if not Path(str(networks.__file__)).is_relative_to(checkout):
        raise RuntimeError(f"{networks.__file__} is loaded already.")
    # DCLGAN has its contrastive loss twice: from cosines, and as the matrix product of CUT, which its comment calls
    # identical and offers as a choice. The second takes a small part of the time and memory.
    losses = importlib.import_module("models.patchnce")
    losses.PatchNCELoss = getattr(losses, "PatchNCELoss2", losses.PatchNCELoss)

    class PeerGenerator(Generator):
        def __init__(self, in_channels: int, out_channels: int, *, width: int, blocks: int) -> None:
            super().__init__()
            self.network = networks.define_G(in_channels, out_channels, width, f"resnet_{blocks}blocks", "instance")

        @classmethod
        def sizes(cls, _settings: Settings) -> Sizes:
            return Sizes(multiple=4, smallest=16)

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

    GENERATORS["peer"] = PeerGenerator


def code_of(checkout: Path) -> str:
    """The commit of a checkout, and whether its code was changed."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False)

    commit = git("rev-parse", "--short=10", "HEAD")
    if commit.returncode:
        return "of unknown commit"
    changed = git("diff", "--quiet", "HEAD", "--", "*.py").returncode
    return commit.stdout.strip() + (", changed" if changed else "")


def parse_options(peer: Peer, settings: dict[str, Any], device: str, direction: str, data: Path, folder: Path) -> Any:
    """The options of their train.py: defaults, except for sizes of images and networks. It notes them in `folder`."""
    config = make_config(settings, preset="paper")
    model = config.model
    if model.blocks not in (4, 6, 9):
        raise InputError(f"blocks is {model.blocks}; the code of the peers has generators of 4, 6 or 9.")
    arguments = [*peer.arguments, "--direction", direction, "--gpu_ids", gpu_of(device), "--num_threads", "0"]
    arguments += ["--dataroot", str(data), "--checkpoints_dir", str(folder), "--name", direction]
    arguments += ["--load_size", str(config.data.resolved_load_size), "--crop_size", str(config.data.crop_size)]
    arguments += ["--ngf", str(model.width), "--ndf", str(model.discriminator_width)]
    arguments += ["--netD", "n_layers", "--n_layers_D", str(model.discriminator_layers)]
    before, sys.argv = sys.argv, ["train.py", *arguments]  # their options read the command line in several places
    try:
        options = importlib.import_module("options.train_options").TrainOptions().parse()
    finally:
        sys.argv = before
    options.netG = f"resnet_{model.blocks}blocks"  # the command line does not offer 4
    # With few blocks the last layer of the contrastive loss would be one of the decoder.
    last = BEFORE_BLOCKS + model.blocks - 1
    options.nce_layers = ",".join(str(min(int(layer), last)) for layer in options.nce_layers.split(","))
    return options


def gpu_of(device: str) -> str:
    """The number of a GPU, as their options name it; -1 for the CPU."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise InputError(f"device is {device}; the code of the peers runs on cpu and cuda.")
    return "-1" if kind == "cpu" else number or "0"


def create_models(options: list[Any], batch: dict[str, Any]) -> list[Any]:
    """Their models with optimisers and schedules; some layers get their sizes from the first batch."""
    create = importlib.import_module("models").create_model
    models = [create(each) for each in options]
    for model, each in zip(models, options, strict=True):
        model.data_dependent_initialize(batch)
        model.setup(each)
    return models


def update(models: list[Any], batch: dict[str, Any]) -> Tensor:
    """One step of all models."""
    for model in models:
        model.set_input(batch)
        model.optimize_parameters()
    return models[-1].loss_G


def timed_step(recipe: str, settings: dict[str, Any], device: str, checkout: Path) -> Callable[[], Tensor]:
    """A step on random images, for timing; of one direction where its time is that of one."""
    peer, before = PEERS[recipe], torch.backends.cudnn.benchmark
    load_checkout(checkout)
    size = make_config(settings, preset="paper").data.crop_size
    images = {domain: torch.rand(1, 3, size, size, device=device) * 2 - 1 for domain in "AB"}
    batch = {**images, "A_paths": [""], "B_paths": [""]}
    with tempfile.TemporaryDirectory() as folder:
        directions = ("AtoB",) if peer.both_ways or peer.each else ("AtoB", "BtoA")
        options = [parse_options(peer, settings, device, name, Path(folder), Path(folder)) for name in directions]
        models = create_models(options, batch)
    # Their models turn on cuDNN's choice of algorithms for the process; the recipe that takes turns has its own value.
    theirs, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, before

    def step() -> Tensor:
        torch.backends.cudnn.benchmark = theirs
        loss = update(models, batch)
        torch.backends.cudnn.benchmark = before
        return loss

    return step


def train(job: dict[str, Any]) -> None:
    """Train or resume a job of benchmarks/quality.py: models go to OUT/model, translations to OUT/translations."""
    peer, out, data, steps = PEERS[job["recipe"]], Path(job["out"]), Path(job["data"]), job["steps"]
    load_checkout(Path(job["checkout"]))
    checkpoint = out / "checkpoint.pt"
    out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(checkpoint, weights_only=True) if checkpoint.is_file() else {"step": 0}
    first = saved["step"]
    # A resumed run draws other images than one that was never stopped.
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(job["seed"] + first)

    directions = ("AtoB",) if peer.both_ways else ("AtoB", "BtoA")
    options = [parse_options(peer, job["settings"], job["device"], name, data, out / "peer") for name in directions]
    dataset = importlib.import_module("data").create_dataset(options[0])
    batches = endless(dataset)
    models = create_models(options, next(batches))
    if first:
        print(f"Resuming after step {first}", flush=True)
        set_state(models, saved)

    # Their schedule has so many epochs at the first learning rate, and so many of decay; here each is as many steps.
    epochs = options[0].n_epochs + options[0].n_epochs_decay
    last_saved = time.monotonic()
    with stop_signals() as stopping:
        for step in range(first, steps):
            epoch = step * epochs // steps
            for _ in range(epoch - max(0, step - 1) * epochs // steps):
                for model in models:
                    model.update_learning_rate()
            dataset.set_epoch(epoch + 1)
            update(models, next(batches))
            if (step + 1) % PRINT_STEPS == 0 or step + 1 == steps:
                losses = [f"{name} {value:.3f}" for each in models for name, value in each.get_current_losses().items()]
                print(f"step {step + 1} of {steps}: {', '.join(losses)}", flush=True)
            late = time.monotonic() - last_saved > 60 * CHECKPOINT_MINUTES
            if late or stopping() or step + 1 == steps:
                with atomic_path(checkpoint) as partial:
                    torch.save({"step": step + 1, "models": state_of(models)}, partial)
                last_saved = time.monotonic()
            if stopping() and step + 1 < steps:
                raise SystemExit(143)

    generators = {"a2b": models[0].netG_A, "b2a": models[0].netG_B} if peer.both_ways else {}
    generators = generators or dict(zip(("a2b", "b2a"), (model.netG for model in models), strict=True))
    config = make_config(job["settings"], preset="paper")
    info = ModelInfo(
        cyclegan_version=__version__,
        model=config.model.replace(generator="peer"),
        a=ImageFormat(),
        b=ImageFormat(),
        preprocess=config.data.preprocess,
        load_size=config.data.resolved_load_size,
        crop_size=config.data.crop_size,
        step=steps,
        translate_with="final",
        averages=False,
        origin=f"{job['recipe']}, {CHECKOUTS[peer.checkout]} {job['code']}",
    )
    weights = {
        direction: {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for direction, network in generators.items()
    }
    save_model(out / "model", info, weights)
    save_translations(out, data, job["split"], job["device"])


def endless(dataset: Any) -> Iterator[dict[str, Any]]:
    """Batches of their data set, shuffled anew in each pass."""
    while True:
        yield from dataset


def state_of(models: list[Any]) -> list[dict[str, Any]]:
    """What a checkpoint holds of each model."""
    return [
        {
            "networks": {name: getattr(model, f"net{name}").state_dict() for name in model.model_names},
            "optimizers": [optimizer.state_dict() for optimizer in model.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in model.schedulers],
        }
        for model in models
    ]


def set_state(models: list[Any], saved: dict[str, Any]) -> None:
    """Continue from a checkpoint."""
    for model, state in zip(models, saved["models"], strict=True):
        for name, tensors in state["networks"].items():
            getattr(model, f"net{name}").load_state_dict(tensors)
        for kind in ("optimizers", "schedulers"):
            for each, values in zip(getattr(model, kind), state[kind], strict=True):
                each.load_state_dict(values)


def save_translations(out: Path, data: Path, split: str, device: str) -> None:
    """Save the translations of the scored images under their names, to be looked at without a checkout."""
    sides: list[tuple[Direction, str]] = [("a2b", "A"), ("b2a", "B")]
    for direction, domain in sides:
        translator = Translator.load(out, direction=direction, device=device)
        folder = out / "translations" / direction
        folder.mkdir(parents=True, exist_ok=True)
        for path in list_images(data / f"{split}{domain}"):
            with Image.open(path) as image:
                translator(image).save(folder / f"{path.stem}.png")
