"""Start a run from the networks of another model."""

from pathlib import Path
from typing import Any

from cyclegan.config import DEFAULT_PRESET, READING_SETTINGS, ModelConfig
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.step.state import TrainState
from cyclegan.storage.hub import is_address
from cyclegan.storage.model import ModelInfo, find_model, load_weights, read_discriminators, read_info
from cyclegan.storage.run import read_run_config, run_of

# Settings of the discriminators alone.
_DISCRIMINATOR = {name for name in ModelConfig.model_fields if name.startswith("discriminator")}


def _generator(model: ModelConfig) -> dict[str, Any]:
    """Settings of the architecture of the generators, which a start must not change. Dropout has no weights."""
    own = {name: value for name, value in model.generator_settings.items() if name != "dropout"}
    return {"generator": model.generator, **own, "channels_a": model.channels_a, "channels_b": model.channels_b}


def settings_of_start(path: Path, out: Path) -> dict[str, Any]:
    """Settings that a run at `out` takes over from the model `path`.

    These are the architecture, how files are read, the value ranges of images that are not 8-bit, and the preset: that
    of the model's run, or one whose losses suit its networks. A run that exists already keeps its own settings, so the
    model that it began with may have been removed. Raises InputError if there is no such model.
    """
    own = {"init", "init_gain"}
    try:
        model = find_model(path)
        info = read_info(model)
    except (InputError, ConnectionError):
        run = read_run_config(out)
        if run is None or run.init_from is None:
            raise
        reading = {name: value for name in READING_SETTINGS if (value := getattr(run.data, name)) is not None}
        return {**run.model.model_dump(exclude=own), **reading, "preset": run.preset}
    if not read_discriminators(model):  # then its configuration says nothing about them
        own |= _DISCRIMINATOR
    ranges = {"range_a": info.a, "range_b": info.b}
    deep = {name: (images.low, images.high) for name, images in ranges.items() if images.dtype != "uint8"}
    return {**info.model.model_dump(exclude=own), **_reading_of(info), **deep, "preset": _preset_of(path, info.model)}


def _reading_of(info: ModelInfo) -> dict[str, Any]:
    """The settings by which the files of a model's domains are read, as far as it has some."""
    found = {name: getattr(info.a, name) or getattr(info.b, name) for name in ("page", "axis")}
    for domain, images in (("a", info.a), ("b", info.b)):
        found |= {f"{name}_{domain}": getattr(images, name) for name in ("bands", "nodata", "background")}
    return {name: found[name] for name in READING_SETTINGS if found[name] is not None}


def _preset_of(path: Path, model: ModelConfig) -> str:
    run = None if is_address(path) else run_of(path)
    began = read_run_config(run) if run is not None else None
    if began is not None and began.preset in ("paper", "modern", "conservative"):  # the demo is only for ten minutes
        return began.preset
    # The loss weights of `modern` suit only networks that add their input to their output.
    return DEFAULT_PRESET if model.global_skip else "paper"


def check_formats(path: Path, a: ImageFormat, b: ImageFormat) -> list[str]:
    """Return a sentence for each domain whose images have another type than those that `path` was trained on.

    Raises InputError if their values would be scaled by the range of the other type.
    """
    info = read_info(find_model(path))
    notes = []
    for name, ours, theirs in (("a", a, info.a), ("b", b, info.b)):
        if ours.dtype == theirs.dtype:
            continue
        if (ours.low, ours.high) == (theirs.low, theirs.high):
            raise InputError(
                f"The images of domain {name.upper()} are {ours.dtype}; {path} was trained on {theirs}. "
                f"Pass --range-{name} LOW HIGH, the values that are to become -1 and 1."
            )
        notes.append(f"Domain {name.upper()} is {ours} here, and the model was trained on {theirs}.")
    return notes


def start_from(state: TrainState, path: Path) -> list[str]:
    """Load the networks of a run, checkpoint or model directory into a fresh state.

    The generators are those that a translator would use, and their averages start there too. Networks that the model
    lacks, and discriminators of another architecture, keep their random weights. Returns a sentence for each of these.
    Raises InputError if the generators are of another architecture, or a file is damaged.
    """
    model = find_model(path)
    info = read_info(model)
    freeze = state.config.freeze
    notes: list[str] = []

    def keep_random(reason: str, networks: str, *, frozen: bool) -> None:
        if frozen:
            raise InputError(f"{reason}, so --freeze {freeze} would keep random weights; leave it out.")
        notes.append(f"{reason}; {networks} from random weights.")

    ours, theirs = _generator(state.config.model), _generator(info.model)
    differences = [f"{name} {theirs[name]} -> {ours.get(name)}" for name in theirs if ours.get(name) != theirs[name]]
    if differences:
        raise InputError(
            f"The generators of {model} are of another architecture than this run's: {', '.join(differences)}. "
            "Leave these settings out, or start from a model that has them."
        )

    suffix = "_average" if info.translate_with == "average" else ""
    current, average = state.generator, state.average
    for direction, networks in (("a2b", (current.a2b, average.a2b)), ("b2a", (current.b2a, average.b2a))):
        if direction in info.directions:
            for network in networks:
                load_weights(network, model / f"{direction}{suffix}.safetensors")
        else:
            reason = f"{model} has no generator {direction}"
            keep_random(reason, "this one starts", frozen=freeze in ("encoder", "both"))

    found = read_discriminators(model)
    architectures = [
        (config.discriminator, config.discriminator_settings) for config in (state.config.model, info.model)
    ]
    frozen = freeze in ("discriminator", "both")
    if found and architectures[0] != architectures[1]:
        reason = "The discriminators are of another architecture than the model's"
        keep_random(reason, "they start", frozen=frozen)
        return notes
    for domain, discriminator in (("a", state.discriminator.a), ("b", state.discriminator.b)):
        if domain not in found:
            keep_random(f"{model} has no discriminator {domain}", "this one starts", frozen=frozen)
            continue
        try:
            discriminator.load_state_dict(found[domain])
        except RuntimeError:
            raise InputError(
                f"The discriminator {domain} of {model} does not fit the architecture in its config.json."
            ) from None
    return notes


def origin_of_start(path: Path) -> str:
    """Describe the origin of a run that starts from the model `path`, without the folders of the path."""
    origin = read_info(find_model(path)).origin
    name = str(path) if is_address(path) else path.name
    return f"trained further from {name}" + (f", {origin}" if origin else "")
