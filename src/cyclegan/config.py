"""Configuration: what a run is, resolved from preset < file < command line, validated when made, changed by copy."""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cyclegan.errors import InputError

Direction = Literal["a2b", "b2a"]


Preprocess = Literal[
    "resize-and-crop",
    "crop",
    "scale-width",
    "scale-width-and-crop",
    "scale-short-side",
    "scale-short-side-and-crop",
    "none",
]


# Fewest held-out images of a domain that scores in training come from; noise would choose the best step among fewer.
MIN_VALIDATION = 10


class Config(BaseModel):
    """Frozen, validated, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with these fields changed."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


class ModelConfig(Config):
    """Architecture of the four networks. Defaults are those of the paper (section 7.2 of its appendix)."""

    generator: Literal["resnet", "unet"] = Field("resnet", description="Kind of generator.")
    blocks: int = Field(
        9, ge=0, description="Residual blocks of a resnet generator; the paper: 6 at 128 px, 9 at 256 px."
    )
    depth: int = Field(8, ge=5, le=12, description="Down-samplings of a unet generator; 7 for 128 px, 8 for 256 px.")
    width: int = Field(64, ge=1, description="Channels after the generator's first convolution.")
    norm: Literal["instance", "batch", "pixel", "none"] = Field(
        "instance",
        description="Normalisation; pixel: of the channels of each pixel, so that a result depends on its "
        "neighbourhood alone.",
    )
    discriminator_norm: Literal["instance", "batch", "pixel", "spectral", "none"] | None = Field(
        None, description="Normalisation in the discriminators; spectral: of their weights; default: that of norm."
    )
    resampling: Literal["strided", "smooth"] = Field(
        "strided", description="How a resnet generator changes resolution; smooth: with a low-pass filter."
    )
    global_skip: bool = Field(
        False, description="Generators add as much of their input as they choose to what they make."
    )
    dropout: bool = Field(False, description="Dropout of 0.5 inside the generator while training.")
    channels_a: int = Field(3, ge=1, description="Channels of the images of domain A.")
    channels_b: int = Field(3, ge=1, description="Channels of the images of domain B.")
    init: Literal["normal", "xavier", "kaiming", "orthogonal"] = Field("normal", description="Weight initialisation.")
    init_gain: float = Field(0.02, gt=0, description="Its gain; the standard deviation for normal (kaiming has none).")
    discriminator: Literal["patch", "pixel"] = Field("patch", description="Kind of discriminator.")
    discriminator_layers: int = Field(3, ge=1, le=8, description="Down-samplings of a patch discriminator; 3 is 70x70.")
    discriminator_width: int = Field(64, ge=1, description="Channels after the discriminator's first convolution.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.generator == "unet" and self.resampling == "smooth":
            raise ValueError("resampling 'smooth' is for resnet generators, not for a unet; leave it out")
        return self

    @property
    def resolved_discriminator_norm(self) -> str:
        """`discriminator_norm`, or that of the generators."""
        return self.discriminator_norm or self.norm

    @property
    def uses_batch_norm(self) -> bool:
        """Whether images of a batch influence each other, and networks keep running statistics."""
        return "batch" in (self.norm, self.discriminator_norm)

    @property
    def beyond_reference(self) -> list[str]:
        """What these networks have that those of the reference implementation cannot have, as `name value`."""
        judges = self.resolved_discriminator_norm
        found = {
            f"norm {self.norm}": self.norm == "pixel",
            f"discriminator_norm {judges}": judges != self.norm,
            f"resampling {self.resampling}": self.resampling != "strided",
            "global_skip": self.global_skip,
        }
        return [name for name, is_so in found.items() if is_so]

    @property
    def multiple(self) -> int:
        """Height and width of a generator's input must be multiples of this, in pixels."""
        return 4 if self.generator == "resnet" else 2**self.depth

    @property
    def smallest_side(self) -> int:
        """Smallest height and width that a generator takes, in pixels."""
        # A resnet's reflection padding needs 2x2 at a quarter of the size.
        return 8 if self.generator == "resnet" else self.multiple

    @property
    def smallest_crop(self) -> int:
        """Smallest height and width, in pixels, on which the four networks can be trained."""
        # Instance norm needs more than one value a channel: 2x2 at the last normalised layer of a unet and of a patch
        # discriminator.
        discriminator = 1 if self.discriminator == "pixel" else 3 * 2**self.discriminator_layers
        return max(self.smallest_side, discriminator)


class DataConfig(Config):
    """From a file to a training item."""

    preprocess: Preprocess = Field("resize-and-crop", description="How a training image is brought to size.")
    load_size: int | None = Field(
        None, ge=1, description="Pixels to resize or scale to before cropping; default: 286/256 of the crop size."
    )
    crop_size: int = Field(256, ge=1, description="Side of the square training crop, in pixels.")
    flip: bool = Field(True, description="Mirror training images left-right at random.")
    shuffle: bool = Field(
        True, description="Take images in a new random order in each pass; off: by name, so that pairs stay."
    )
    max_images: int | None = Field(
        None, ge=1, description="Training images of each domain to use at most, the first by name; default: all."
    )
    range_a: tuple[float, float] | None = Field(
        None, description="Values of domain A that become -1 and 1; default: 0 255 for 8-bit, else the data's extremes."
    )
    range_b: tuple[float, float] | None = Field(None, description="The same for domain B.")
    cache_gib: float = Field(2.0, ge=0, description="Memory for decoded images, in GiB; 0 decodes every time.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preprocess.endswith("crop") and self.preprocess != "crop" and self.resolved_load_size < self.crop_size:
            raise ValueError(
                f"load_size {self.load_size} is smaller than crop_size {self.crop_size}; "
                f"pass a load size of at least {self.crop_size}, or a smaller crop size"
            )
        for name in ("range_a", "range_b"):
            value = getattr(self, name)
            if value is not None and not value[0] < value[1]:
                raise ValueError(f"{name} is {value[0]} {value[1]}; give the lower value first, then a higher one")
        return self

    @property
    def resolved_load_size(self) -> int:
        """`load_size`, or the reference's 286 for 256 in proportion, in pixels."""
        return self.load_size if self.load_size is not None else math.ceil(self.crop_size * 286 / 256)

    @property
    def crops(self) -> bool:
        """Whether every training image has the same size."""
        return self.preprocess.endswith("crop")


class TrainConfig(Config):
    """One run, all of it. Weights of loss terms are factors; a term of weight 0 is neither computed nor trained."""

    # What is learned from, and where the result goes.
    a: Path | None = Field(None, description="Folder of images of domain A, or one root that holds trainA and trainB.")
    b: Path | None = Field(None, description="Folder of images of domain B.")
    test_a: Path | None = Field(None, description="Test images of domain A: never trained on, shown in sample grids.")
    test_b: Path | None = Field(None, description="Test images of domain B.")
    out: Path = Field(Path("runs/cyclegan"), description="The run directory.")
    preset: str = Field(
        "paper", description="Where the values that are not given come from: paper, modern, conservative or demo."
    )

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()

    # Where the networks start.
    init_from: Path | None = Field(
        None, description="Run, checkpoint or model directory whose networks to start from instead of random weights."
    )
    freeze: Literal["none", "encoder", "discriminator", "both"] = Field(
        "none",
        description="What stays as --init-from gives it: the layers of the generators before their residual blocks (of "
        "a unet: on its way down), the layers of the discriminators but the last two, both, or none.",
    )

    # Losses.
    adversarial: Literal["lsgan", "vanilla", "hinge", "wgan-gp"] = Field(
        "lsgan", description="Adversarial loss; vanilla is the negative log form."
    )
    adversarial_weight: float = Field(1.0, ge=0, description="Weight of both adversarial terms; 0: cycle alone.")
    cycle_weight_a: float = Field(10.0, ge=0, description="Weight of the forward cycle loss, A -> B -> A.")
    cycle_weight_b: float = Field(10.0, ge=0, description="Weight of the backward cycle loss, B -> A -> B.")
    identity_weight: float = Field(0.5, ge=0, description="Weight of the identity loss, relative to the cycle weights.")
    gradient_penalty_weight: float = Field(10.0, ge=0, description="Weight of the gradient penalty of wgan-gp.")
    r1_weight: float = Field(
        0.0, ge=0, description="Weight of the zero-centred gradient penalty on real images, taken every 16th step."
    )
    contrastive_weight: float = Field(
        0.0, ge=0, description="Weight of the patch-contrastive loss between input and translation; DCLGAN: 2."
    )
    structure_weight: float = Field(
        0.0, ge=0, description="Weight of the loss that keeps edges of an image where they are in its translation."
    )
    cycle_end: float = Field(
        1.0,
        ge=0,
        description="What is left of the cycle weights at the end of the run, towards which they fall evenly; the "
        "identity term keeps its own.",
    )
    cycle_noise: float = Field(
        0.0, ge=0, description="Standard deviation of noise on a translation on its way back, in [-1, 1]."
    )
    pool_size: int = Field(50, ge=0, description="Earlier fakes kept for each discriminator; 0 uses only fresh ones.")

    # Optimisation.
    learning_rate: float = Field(2e-4, gt=0, description="Step size of both Adam optimisers at the start.")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's decay of the mean gradient.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's decay of the mean squared gradient.")
    batch_size: int = Field(1, ge=1, description="Images of each domain in a step.")
    schedule: Literal["linear", "cosine", "step", "constant"] = Field(
        "linear", description="Learning rate over the run; linear falls to zero over the last part, decay_share."
    )
    decay_share: float = Field(0.5, ge=0, le=1, description="Share of the run over which the linear schedule decays.")
    drop_share: float = Field(
        0.25, gt=0, le=1, description="Share of the run between drops of the step schedule, each to a tenth."
    )
    steps: int | None = Field(None, ge=1, description="Length of the run in optimisation steps.")
    epochs: float | None = Field(
        None, gt=0, description="Length in passes over the larger folder (200 if none is given)."
    )
    minutes: float | None = Field(None, gt=0, description="Length in minutes; the schedule follows the clock's share.")
    seed: int = Field(0, ge=0, description="Seed of everything random: weights, order, crops, pools, dropout.")
    average_decay: float = Field(0.999, ge=0, lt=1, description="Decay per step of the averaged generators' weights.")
    translate_with: Literal["final", "average"] = Field(
        "final", description="Which weights a translator uses by itself: the last ones or their running average."
    )

    # The machine.
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps or auto.")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="Arithmetic inside the networks; auto takes bf16 where it is faster here. Losses, penalties and "
        "the statistics of norms stay in fp32.",
    )
    checkpoint_activations: bool = Field(
        False, description="Compute activations of the generators again in the backward pass: half the memory, slower."
    )
    compile: bool = Field(
        False, description="torch.compile the networks: minutes at the start, for a GPU; on a CPU it has not paid."
    )
    cuda_graphs: bool = Field(True, description="On CUDA record the step once and replay it, where sizes are fixed.")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: torch's own choice.")
    workers: int = Field(0, ge=0, description="Processes that load images; 0 loads in the training process.")

    # What is written, and when.
    log_steps: int = Field(50, ge=1, description="Steps between lines of log.jsonl.")
    sample_steps: int = Field(1000, ge=1, description="Steps between snapshots: sample grids and scores.")
    num_samples: int = Field(4, ge=0, description="Held-out images of each domain in a sample grid.")
    num_validation: int = Field(
        50, ge=0, description="Images of each domain, at most a tenth, held out for scores in training; 0: no scores."
    )
    checkpoint_steps: int = Field(5000, ge=1, description="Steps between checkpoints.")
    checkpoint_minutes: float = Field(10.0, gt=0, description="Minutes between checkpoints, whichever comes first.")
    keep_checkpoints: int = Field(3, ge=1, description="Newest checkpoints that are kept.")
    model_epochs: int | None = Field(
        None, ge=1, description="Epochs between models that are kept for good, in models/; default: none are."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard files, if the extra `log` is installed.")
    wandb: str | None = Field(
        None, min_length=1, description="Weights & Biases project that gets this run too; needs the extra `wandb`."
    )
    mlflow: str | None = Field(
        None, min_length=1, description="MLflow experiment that gets this run too; needs the extra `mlflow`."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        lengths = {name: getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}
        if len(lengths) > 1:
            given = ", ".join(f"{name} {value}" for name, value in lengths.items())
            raise ValueError(
                f"the length of the run is given more than once ({given}); give one of steps, epochs, minutes"
            )
        if not lengths:
            object.__setattr__(self, "epochs", 200.0)
        if 0 < self.num_validation < MIN_VALIDATION:
            raise ValueError(
                f"num_validation is {self.num_validation}; scores of so few images are noise, "
                f"give at least {MIN_VALIDATION}, or 0 for no scores"
            )
        if self.freeze != "none" and self.init_from is None:
            raise ValueError(
                f"freeze is {self.freeze!r}, which would keep random weights; give init_from, the model to start from"
            )
        if self.checkpoint_activations and self.model.uses_batch_norm:
            raise ValueError(
                "checkpoint_activations computes activations twice, and norm 'batch' would count each batch twice in "
                "its running statistics; use norm 'instance' or leave it out"
            )
        if self.adversarial_weight == 0 and self.cycle_weight_a == 0 and self.cycle_weight_b == 0:
            raise ValueError("adversarial_weight and both cycle weights are 0, so nothing would be learned; raise one")
        if self.batch_size > 1 and not self.data.crops:
            raise ValueError(
                f"batch_size {self.batch_size} needs images of one size, which preprocess {self.data.preprocess!r} "
                "does not give; use batch_size 1 or a preprocess that ends in crop"
            )
        if self.adversarial == "wgan-gp" and not self.data.crops:
            raise ValueError(
                f"wgan-gp mixes real and fake images, which need one size, and preprocess {self.data.preprocess!r} "
                "does not give it; use a preprocess that ends in crop"
            )
        if self.data.crops and self.data.crop_size < self.model.smallest_crop:
            raise ValueError(
                f"crop_size {self.data.crop_size} is too small for these networks; they need at least "
                f"{self.model.smallest_crop} pixels (fewer discriminator_layers or a smaller depth need less)"
            )
        return self

    def replace(self, **changes: Any) -> Self:
        """A validated copy with these fields changed; a length of one kind replaces one of another."""
        if LENGTHS & changes.keys():
            changes = {**dict.fromkeys(LENGTHS), **changes}
        return super().replace(**changes)

    @property
    def uses_identity(self) -> bool:
        """Whether there is an identity term: it needs domains with the same number of channels."""
        return self.identity_weight > 0 and self.model.channels_a == self.model.channels_b


LENGTHS = frozenset(("steps", "epochs", "minutes"))


# Settings that may differ when a run resumes: they change where and how fast it trains and what it writes, never what
# it learns.
CHANGEABLE_ON_RESUME = frozenset(
    (
        *("preset", "out", "translate_with", "device", "threads", "workers", "cache_gib"),
        *("checkpoint_activations", "compile", "cuda_graphs"),
        *("log_steps", "sample_steps", "checkpoint_steps", "checkpoint_minutes", "keep_checkpoints"),
        *("model_epochs", "tensorboard", "wandb", "mlflow"),
    )
)


# What `modern` and `conservative` share. The input is added to the output, so there is no identity term to teach that,
# and the cycle weights are small: with those of the paper a network stays at its input.
_BEYOND: dict[str, Any] = {
    "global_skip": True,
    "identity_weight": 0.0,
    "norm": "pixel",
    "discriminator_norm": "spectral",
    "resampling": "smooth",
}


# Where values come from that nobody gives. A TrainConfig that is made by itself has those of the paper.
DEFAULT_PRESET = "modern"


_MODERN: dict[str, Any] = {**_BEYOND, "cycle_weight_a": 1.0, "cycle_weight_b": 1.0, "contrastive_weight": 0.5}


# A preset is a flat dict of the values in which it differs from the defaults above.
PRESETS: dict[str, dict[str, Any]] = {
    # The recipe of the paper as its authors' code runs it: 256 px, 100 + 100 epochs, batch 1, identity weight 0.5.
    "paper": {},
    # Meant to give better translations in the same time; benchmarks/quality.py compares it.
    "modern": _MODERN,
    # For those who must not change shapes: three times the cycle of `modern`, edges held in place, no contrastive term.
    "conservative": {
        **_BEYOND,
        "cycle_weight_a": 3.0,
        "cycle_weight_b": 3.0,
        "structure_weight": 5.0,
    },
    # What `cyclegan demo` runs on two CPU cores; how its sizes were found is in docs/demo.md.
    "demo": {
        **_MODERN,
        "minutes": 10.0,
        "width": 16,
        "blocks": 4,
        "discriminator_layers": 2,
        "discriminator_width": 16,
        "crop_size": 96,
        "translate_with": "average",
        "precision": "auto",
        "checkpoint_minutes": 2.0,
    },
}


def field_sections() -> dict[str, type[Config]]:
    """Every configurable name, flat, and the section that holds it. Names are unique over the sections."""
    sections: dict[str, type[Config]] = {}
    for section in (TrainConfig, ModelConfig, DataConfig):
        for name in section.model_fields:
            if name not in ("model", "data"):
                assert name not in sections, name
                sections[name] = section
    return sections


def make_config(*layers: Mapping[str, Any], preset: str | None = None) -> TrainConfig:
    """Resolve `preset` < `layers`, each a flat or sectioned dict of values; the last one wins.

    An explicit `preset` counts before one that a layer names; without any it is DEFAULT_PRESET. A layer that sets a
    crop size without a load size sets the load size in proportion. A preset's resampling, which is for resnets, is left
    out of it where the layers ask for a unet.
    Raises InputError for an unknown preset, an unknown key (with the nearest valid one) or a bad value.
    """
    named = [preset, *(layer["preset"] for layer in reversed(layers) if layer.get("preset"))]
    name = next((name for name in named if name), DEFAULT_PRESET)
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; choose one of: {', '.join(PRESETS)}.")

    flat_layers = [_flatten(layer) for layer in layers]
    asked = {key: value for flat in flat_layers for key, value in flat.items()}
    values = dict(PRESETS[name])
    if asked.get("generator") == "unet":
        values.pop("resampling", None)
    for flat in flat_layers:
        if any(flat.get(length) is not None for length in LENGTHS):
            values = {key: value for key, value in values.items() if key not in LENGTHS}
        if "crop_size" in flat:
            values.pop("load_size", None)
        values |= flat
    values["preset"] = name
    return _validated(values)


def saved_config(*layers: Mapping[str, Any]) -> TrainConfig:
    """A configuration as a run keeps it: what the layers do not say has the value of a TrainConfig, not of a preset.

    A file has no settings without a value, which a preset would fill in. Raises InputError as `make_config`.
    """
    return _validated({key: value for layer in layers for key, value in _flatten(layer).items()})


def _validated(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of flat values."""
    sections = field_sections()
    nested: dict[str, Any] = {"model": {}, "data": {}}
    for key, value in values.items():
        section = sections[key]
        place = nested["model"] if section is ModelConfig else nested["data"] if section is DataConfig else nested
        place[key] = value
    try:
        return TrainConfig.model_validate(nested)
    except ValidationError as error:
        raise InputError(describe_validation_error(error)) from None


def _flatten(layer: Mapping[str, Any]) -> dict[str, Any]:
    sections = field_sections()
    flat: dict[str, Any] = {}
    for key, value in layer.items():
        if key in ("model", "data"):
            if not isinstance(value, Mapping | Config):
                raise InputError(f"{key} is {value!r}; expected a table of settings.")
            items = (
                value.items()
                if isinstance(value, Mapping)
                else [(n, getattr(value, n)) for n in type(value).model_fields]
            )
            flat |= _flatten(dict(items))
        elif key == "cycle_weight":  # both directions at once
            flat |= {"cycle_weight_a": value, "cycle_weight_b": value}
        elif key not in sections:
            nearest = difflib.get_close_matches(key, [*sections, "cycle_weight"], n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise InputError(f"There is no setting {key!r}.{hint}")
        else:
            flat[key] = value
    return flat


def describe_validation_error(error: ValidationError) -> str:
    """One sentence for each mistake: the setting, the value and what was expected."""
    sentences = []
    for mistake in error.errors():
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["loc"] and mistake["loc"] not in (("model",), ("data",)):
            name = str(mistake["loc"][-1] if len(mistake["loc"]) < 2 else mistake["loc"][1])
            name = name if mistake["loc"][0] in ("model", "data") else str(mistake["loc"][0])
            sentences.append(f"{name} is {mistake['input']!r}: {message[0].lower()}{message[1:]}.")
        else:
            sentences.append(f"{message}.")
    return " ".join(sentences)


def flat_values(config: TrainConfig) -> dict[str, Any]:
    """Every setting by its flat name, as plain JSON values."""
    dumped = config.model_dump(mode="json")
    model, data = dumped.pop("model"), dumped.pop("data")
    return {**dumped, **model, **data}


def read_config_file(path: Path) -> dict[str, Any]:
    """Settings from a TOML file, flat or with [model] and [data] tables."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration file {path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None


def to_toml(config: TrainConfig) -> str:
    """The whole configuration as TOML; `read_config_file` reads it back. Settings without a value are left out."""
    dumped = config.model_dump(mode="json")
    sections = {"model": dumped.pop("model"), "data": dumped.pop("data")}

    def lines(values: Mapping[str, Any]) -> list[str]:
        # JSON strings, numbers, booleans and arrays are valid TOML.
        return [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None
        ]

    text = lines(dumped)
    for name, values in sections.items():
        text += ["", f"[{name}]", *lines(values)]
    return "\n".join(text) + "\n"


def choices(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal annotation, or nothing."""
    return tuple(arg for arg in get_args(annotation) if isinstance(arg, str))
