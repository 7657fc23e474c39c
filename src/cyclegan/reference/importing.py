"""Convert checkpoints of the reference implementation into model directories."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from cyclegan._version import __version__
from cyclegan.config import MAX_SIDE, DataConfig, Direction, ModelConfig, Preprocess
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.reference.keys import KINDS, ReferenceNetwork, recognise
from cyclegan.reference.options import OPTIONS
from cyclegan.reference.pickles import read_state_dict
from cyclegan.storage.model import ModelInfo, save_model
from cyclegan.system.arguments import check_path
from cyclegan.system.atomic import check_free
from cyclegan.system.json_files import cut, describe_validation_error

# Networks of the reference and ours. Its D_A is the discriminator of domain B, which sees the fakes of G_A.
ROLES = {"G_A": "a2b", "G_B": "b2a", "D_A": "discriminator_b", "D_B": "discriminator_a"}

# Characters of a list of options that are read; it has a few thousand.
_MAX_OPTIONS = 2**20

_FILE = re.compile(r"(?P<epoch>.+)_net_(?P<role>[A-Z]+(?:_[AB])?)\.pth")


@dataclass(frozen=True)
class ImportedModel:
    """A model directory. networks: the file and the architecture of each network. notes: sentences for the user."""

    path: Path
    networks: dict[str, tuple[Path, ReferenceNetwork]]
    notes: tuple[str, ...]


def import_reference(
    *paths: str | Path, out: str | Path, epoch: str | None = None, direction: Direction | None = None
) -> ImportedModel:
    """Convert checkpoints of the reference implementation into a model directory at `out`.

    paths: a folder checkpoints/NAME, or files. Names such as latest_net_G_A.pth say which network a file holds; of
    generators with other names the first is a2b and the second b2a. epoch: checkpoint of a folder, as in its file
    names: latest (the default), 200, iter_5000. direction: of a single generator whose name does not say it.
    Raises InputError if a file is damaged, would execute code, or holds a network that ours cannot represent. Nothing
    is written then.
    """
    place, given = check_path("out", out), [check_path("paths", path) for path in paths]
    check_free(place)
    options: dict[str, str] = {}
    notes: list[str] = []
    if any(path.is_dir() for path in given):
        if len(given) > 1:
            raise InputError("Give one folder of checkpoints, or files; not several folders, and not both.")
        options = _read_options(given[0])
        files = _files_of(given[0], epoch or "latest", notes)
    elif epoch is not None:
        raise InputError(f"--epoch {epoch} chooses among the files of a folder, and no folder was given.")
    else:
        files = [(path, match["role"] if (match := _FILE.fullmatch(path.name)) else None) for path in given]
    if options.get("model") == "colorization":
        raise InputError(
            f"{given[0]} is a colorization model, which translates lightness into colours of the Lab space."
        )
    if options.get("direction") == "BtoA":
        notes.append("It was trained with --direction BtoA: its domain A is that of trainB, B that of trainA.")

    networks = _read_networks(files, direction)
    model = _common_architecture(networks, options, notes)
    networks = {name: networks[name] for name in ROLES.values() if name in networks}
    digests = [f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()})" for path, _ in networks.values()]
    info = ModelInfo(
        cyclegan_version=__version__,
        model=model,
        a=ImageFormat(channels=model.channels_a),
        b=ImageFormat(channels=model.channels_b),
        **_preprocessing(options),
        step=0,
        translate_with="final",
        directions=tuple(name for name in get_args(Direction) if name in networks),
        averages=False,
        origin=f"imported from the reference implementation: {', '.join(digests)}",
    )
    save_model(place, info, {name: network.weights for name, (_, network) in networks.items()})
    return ImportedModel(place, networks, tuple(notes))


def _files_of(folder: Path, epoch: str, notes: list[str]) -> list[tuple[Path, str | None]]:
    """The networks of one epoch in a folder of the reference, with their roles."""
    found = {path: match for path in sorted(folder.iterdir()) if (match := _FILE.fullmatch(path.name))}
    if not found and any((folder / name).is_file() for name in ("config.toml", "config.json")):
        raise InputError(f"{folder} is a run or model of cyclegan itself; use it as it is.")
    if not found:
        inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob("*_net_G*.pth"))]
        hint = f" Its folders {', '.join(inner)} do; give one of them." if inner else ""
        raise InputError(f"{folder} holds no files such as latest_net_G_A.pth.{hint}")
    chosen = {path: match["role"] for path, match in found.items() if match["epoch"] == epoch}
    if not chosen:
        epochs = sorted({match["epoch"] for match in found.values()}, key=lambda name: (len(name), name))
        raise InputError(f"{folder} has nothing of epoch {epoch}; pass --epoch with one of: {', '.join(epochs)}.")
    for path, role in chosen.items():
        if role not in ("G", *ROLES):
            notes.append(f"{path.name} is left out: it is not part of a CycleGAN model.")
    return [(path, role) for path, role in chosen.items() if role in ("G", *ROLES)]


def _read_options(folder: Path) -> dict[str, str]:
    """The options that a run of the reference was started with, under their newest names; empty without a list."""
    newest = {older: option.name for option in OPTIONS for older in option.older}
    for name in ("train_opt.txt", "opt.txt"):
        if (folder / name).is_file():
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                lines = file.read(_MAX_OPTIONS).splitlines()
            found = [_option(line) for line in lines]
            return {newest.get(option[0], option[0]): option[1] for option in found if option is not None}
    return {}


def _option(line: str) -> tuple[str, str] | None:
    """Name and value in a line such as `load_size: 286    [default: 256]`."""
    name, mark, value = line.lstrip().partition(": ")
    if not mark or not re.fullmatch(r"\w+", name):
        return None
    value = value.strip()
    if value.endswith("]"):
        value = value.partition("[default: ")[0]
    return name, value.strip()


def _preprocessing(options: dict[str, str]) -> dict[str, Any]:
    """The preprocessing of the training images, where the options name it; otherwise `none`."""
    preprocess = options.get("preprocess", "").replace("_", "-")
    sizes = [options.get(name, "") for name in ("load_size", "crop_size")]
    load_size, crop_size = [_side(size) for size in sizes]
    usual = DataConfig()
    return {
        "preprocess": preprocess if preprocess in get_args(Preprocess) and load_size else "none",
        "load_size": load_size or usual.resolved_load_size,
        "crop_size": crop_size or usual.crop_size,
    }


def _side(text: str) -> int | None:
    """The side of an image, in pixels, that an option of the reference gives; None if it is none."""
    is_side = re.fullmatch(r"[0-9]{1,7}", text) and 1 <= int(text) <= MAX_SIDE
    return int(text) if is_side else None


def _read_networks(
    files: Sequence[tuple[Path, str | None]], direction: Direction | None
) -> dict[str, tuple[Path, ReferenceNetwork]]:
    """Read the files, and assign each one to a network."""
    networks: dict[str, tuple[Path, ReferenceNetwork]] = {}
    unnamed = [direction] if direction is not None else list(get_args(Direction))
    for path, role in files:
        state = read_state_dict(path)
        try:
            network = recognise(state)
        except InputError as error:
            raise InputError(f"{path}: {cut(str(error), 400)}") from None
        if role in ROLES:
            name = ROLES[role]
            if role[0] != network.kind[0].upper():
                raise InputError(f"{path} holds a {network}, which contradicts its name; rename it.")
        elif network.kind == "discriminator":
            raise InputError(
                f"{path} is a discriminator, and its name does not say of which domain; leave it out, or name it "
                "latest_net_D_A.pth (for images of B) or latest_net_D_B.pth (for images of A)."
            )
        else:
            name = next((name for name in unnamed if name not in networks), unnamed[0])
        if name in networks:
            raise InputError(f"{networks[name][0]} and {path} are both for {name}; a model has one of each.")
        networks[name] = (path, network)
    generators = [name for name in get_args(Direction) if name in networks]
    if not generators:
        raise InputError("There is no generator among these files; a translator needs one.")
    if direction is not None and generators != [direction]:
        found = " and ".join(f"{networks[name][0].name} is {name}" for name in generators)
        raise InputError(f"--direction {direction} contradicts the names of these files: {found}; leave it out.")
    return networks


def _common_architecture(
    networks: dict[str, tuple[Path, ReferenceNetwork]], options: dict[str, str], notes: list[str]
) -> ModelConfig:
    """The settings of all networks. Removes discriminators that do not fit from `networks`."""
    # The generators must be two of a kind, one for each direction.
    generators = [(name, *networks[name]) for name in get_args(Direction) if name in networks]
    settings = dict(generators[0][2].settings)
    pairs = {network.channels if name == "a2b" else network.channels[::-1] for name, _, network in generators}
    if len(pairs) > 1 or any(network.settings != settings for _, _, network in generators):
        kinds = " and ".join(f"{path} is a {network}" for _, path, network in generators)
        raise InputError(f"These generators do not belong to one model: {kinds}.")
    ((channels_a, channels_b),) = pairs
    if not KINDS[settings["generator"]].dropout_shows:
        settings["dropout"] = options.get("no_dropout") == "False"
        if "no_dropout" not in options:
            notes.append(
                "The tensors of a U-Net do not show dropout; to train it further with dropout, pass --dropout."
            )
    settings |= {"channels_a": channels_a, "channels_b": channels_b}
    if settings["norm"] == "batch":
        notes.append(
            "It has batch norm, which uses the statistics of its training here, as the reference does with --eval."
        )

    # The discriminators must be alike, with the norm of the generators.
    discriminators: dict[str, Any] = {}
    for name, channels in (("discriminator_a", channels_a), ("discriminator_b", channels_b)):
        if name not in networks:
            continue
        path, found = networks[name]
        if "batch" not in (settings["norm"], found.settings["norm"]):
            # Instance norm and none differ only in biases, and releases of the reference differ in these.
            found = replace(found, settings={**found.settings, "norm": settings["norm"]})
        alike = discriminators in ({}, found.settings) and found.settings["norm"] == settings["norm"]
        if alike and found.channels == (channels,):
            discriminators = found.settings
            networks[name] = (path, found)
        else:
            notes.append(f"{path.name} is left out: a {found}, {found.channels[0]} channels, does not fit the others.")
            del networks[name]
    try:
        return ModelConfig(**{**discriminators, **settings})
    except ValidationError as error:
        reason = describe_validation_error(error)
        raise InputError(f"{generators[0][1]} cannot be represented: {reason}") from None
