"""Configuration of a run: resolved from preset < file < command line, validated, frozen and changed by copy."""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cyclegan.errors import InputError

if TYPE_CHECKING:  # loads torch, which configurations must not do before they are made
    from cyclegan.networks.protocol import Discriminator, Generator

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


# Fewest validation images of a domain; with fewer, noise would choose the best step.
MIN_VALIDATION = 10


# Length of a run that no length is given for, in epochs: that of the paper.
DEFAULT_EPOCHS = 200.0


class Config(BaseModel):
    """Frozen, validated, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with these fields changed."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


# Words of earlier releases that saved configurations and old command lines still have, by setting.
OLD_WORDS = {name: {"pixel": "layer"} for name in ("norm", "discriminator_norm")}

# Networks that junyanz/pytorch-CycleGAN-and-pix2pix has, too; `cyclegan.reference.keys` has their layout there.
_IN_REFERENCE = ("resnet", "unet", "patch", "pixel")

# Settings of generators that not every class has. The values of a preset are left out for a class without them.
_OPTIONAL = ("resampling", "global_skip", "dropout")


class ModelConfig(Config):
    """Architecture of the four networks. Defaults are those of the paper (section 7.2 of its appendix).

    What the settings of a network mean and allow is declared by its class, in `cyclegan.networks`. Making a
    configuration asks the class, and so loads torch.
    """

    generator: str = Field("resnet", description="Kind of generator.")
    generator_options: dict[str, Any] = Field(
        default_factory=dict, description="A setting that only this kind of generator has; once for each."
    )
    blocks: int = Field(9, ge=0, description="Residual blocks of a resnet; the paper has 6 at 128 px, 9 at 256 px.")
    depth: int = Field(8, ge=5, le=12, description="Down-samplings of a unet; 7 for 128 px, 8 for 256 px.")
    width: int = Field(64, ge=1, description="Channels of the generator's first layer.")
    norm: Literal["instance", "batch", "layer", "none"] = Field(
        "instance",
        description="Normalisation; layer: over the channels of each pixel, so that a result depends only on its "
        "neighbourhood.",
    )
    discriminator_norm: Literal["instance", "batch", "layer", "spectral", "none"] | None = Field(
        None, description="Normalisation in the discriminators; spectral: of their weights; default: the same as norm."
    )
    resampling: Literal["strided", "smooth"] = Field(
        "strided", description="How a resnet changes resolution; smooth: with a low-pass filter."
    )
    global_skip: bool = Field(
        False, description="Add the input to the output; a learned gate says how much of it stays."
    )
    dropout: bool = Field(False, description="Dropout of 0.5 inside the generator, in training only.")
    channels_a: int = Field(3, ge=1, description="Channels of the images of domain A.")
    channels_b: int = Field(3, ge=1, description="Channels of the images of domain B.")
    init: Literal["normal", "xavier", "kaiming", "orthogonal"] = Field("normal", description="Weight initialisation.")
    init_gain: float = Field(
        0.02, gt=0, description="Gain of the initialisation; standard deviation for normal; unused by kaiming."
    )
    discriminator: str = Field("patch", description="Kind of discriminator.")
    discriminator_options: dict[str, Any] = Field(
        default_factory=dict, description="A setting that only this kind of discriminator has; once for each."
    )
    discriminator_layers: int = Field(
        3, ge=1, le=8, description="Down-samplings of a patch discriminator; 3 sees patches of 70x70."
    )
    discriminator_width: int = Field(64, ge=1, description="Channels of the discriminator's first layer.")

    # What the classes say of sizes, kept for processes that load images and do not know a class of a script.
    _multiple: int = PrivateAttr(1)
    _smallest_side: int = PrivateAttr(1)
    _smallest_discriminated: int = PrivateAttr(1)

    @field_validator("norm", "discriminator_norm", mode="before")
    @classmethod
    def _current_norm(cls, value: Any) -> Any:
        return OLD_WORDS["norm"].get(value, value) if isinstance(value, str) else value

    @field_validator("generator", "discriminator")
    @classmethod
    def _registered(cls, value: str, info: ValidationInfo) -> str:
        names = network_names(str(info.field_name))
        if value not in names:
            nearest = difflib.get_close_matches(value, names, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise ValueError(
                f"expected {' or '.join(map(repr, names))}{hint}; a class of your own must be added to "
                f"cyclegan.networks.{str(info.field_name).upper()}S first"
            )
        return value

    @field_validator("generator_options", "discriminator_options", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """A command line gives a list of NAME=VALUE."""
        if isinstance(value, list | tuple) and all(isinstance(pair, str) and "=" in pair for pair in value):
            return {name: word for name, _, word in (pair.partition("=") for pair in value)}
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        from cyclegan.networks.protocol import Discriminator, Generator
        from cyclegan.networks.settings import check_class, check_options, setting_names

        check_class("GENERATORS", self.generator, self.generator_class, Generator)
        check_class("DISCRIMINATORS", self.discriminator, self.discriminator_class, Discriminator)
        # Complete with the defaults of the class, so that a saved model does not depend on them.
        options = {
            "generator_options": check_options(self.generator_class, self.generator_options),
            "discriminator_options": check_options(self.discriminator_class, self.discriminator_options),
        }
        for name, value in options.items():
            object.__setattr__(self, name, value)
        for name in _OPTIONAL:
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and name not in setting_names(self.generator_class):
                raise ValueError(f"{name} is {value!r}, which a {self.generator} generator does not have; leave it out")
        self._multiple, self._smallest_side = self.generator_class.sizes(self.generator_settings)
        self._smallest_discriminated = self.discriminator_class.smallest_side(self.discriminator_settings)
        return self

    @property
    def generator_class(self) -> "type[Generator]":
        """The class of the generators, from `cyclegan.networks.GENERATORS`."""
        from cyclegan.networks import GENERATORS

        return GENERATORS[self.generator]

    @property
    def discriminator_class(self) -> "type[Discriminator]":
        """The class of the discriminators, from `cyclegan.networks.DISCRIMINATORS`."""
        from cyclegan.networks import DISCRIMINATORS

        return DISCRIMINATORS[self.discriminator]

    @property
    def generator_settings(self) -> dict[str, Any]:
        """The settings that the generators have, by name, their own included."""
        from cyclegan.networks.settings import settings_of

        return settings_of(self.generator_class, self, self.generator_options)

    @property
    def discriminator_settings(self) -> dict[str, Any]:
        """The settings that the discriminators have, by name, their own included."""
        from cyclegan.networks.settings import settings_of

        return settings_of(self.discriminator_class, self, self.discriminator_options)

    @property
    def generator_summary(self) -> str:
        """Kind and size of the generators, such as `resnet, 9 residual blocks, width 64`."""
        return ", ".join(filter(None, [self.generator, self.generator_class.summary(self.generator_settings)]))

    @property
    def discriminator_summary(self) -> str:
        """Kind and size of the discriminators, such as `patch, 3 layers, width 64`."""
        about = self.discriminator_class.summary(self.discriminator_settings)
        return ", ".join(filter(None, [self.discriminator, about]))

    @property
    def resolved_discriminator_norm(self) -> str:
        """`discriminator_norm`, or that of the generators."""
        return self.discriminator_norm or self.norm

    @property
    def uses_batch_norm(self) -> bool:
        """Whether images of a batch influence each other, and networks keep running statistics."""
        return "batch" in (self.norm, self.discriminator_norm)

    @property
    def reference_incompatibilities(self) -> list[str]:
        """What these networks have that those of the reference implementation cannot have, as `name value`."""
        resolved = self.resolved_discriminator_norm
        found = {
            f"generator {self.generator}": self.generator not in _IN_REFERENCE,
            f"discriminator {self.discriminator}": self.discriminator not in _IN_REFERENCE,
            f"norm {self.norm}": self.norm == "layer",
            f"discriminator_norm {resolved}": resolved != self.norm,
            f"resampling {self.resampling}": self.resampling != "strided",
            "global_skip": self.global_skip,
        }
        return [name for name, is_so in found.items() if is_so]

    @property
    def multiple(self) -> int:
        """Height and width of a generator's input must be multiples of this, in pixels."""
        return self._multiple

    @property
    def smallest_side(self) -> int:
        """Smallest height and width that a generator takes, in pixels."""
        return self._smallest_side

    @property
    def smallest_crop(self) -> int:
        """Smallest height and width, in pixels, on which the four networks can be trained."""
        return max(self._smallest_side, self._smallest_discriminated)


class DataConfig(Config):
    """From a file to a training item."""

    preprocess: Preprocess = Field("resize-and-crop", description="How to bring training images to size.")
    load_size: int | None = Field(
        None, ge=1, description="Size in pixels before cropping; by default 286/256 of the crop size."
    )
    crop_size: int = Field(256, ge=1, description="Side of the square training crop, in pixels.")
    flip: bool = Field(True, description="Mirror training images left to right at random.")
    shuffle: bool = Field(
        True, description="Shuffle images in every pass; off: in the order of their names, so that pairs stay."
    )
    max_images: int | None = Field(
        None, ge=1, description="Largest number of training images of each domain, the first by name; by default all."
    )
    range_a: tuple[float, float] | None = Field(
        None,
        description="Values of domain A that become -1 and 1; by default 0 255 for 8-bit images, else the extremes.",
    )
    range_b: tuple[float, float] | None = Field(None, description="Values of domain B that become -1 and 1.")
    cache_gib: float = Field(2.0, ge=0, description="Memory for decoded images in GiB; 0 decodes them every time.")

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


# The classes from here to TrainConfig are its parts; `cyclegan train --help` shows them in groups.


class FolderSettings(Config):
    """What a run learns from, and where its results go."""

    a: Path | None = Field(None, description="Folder of images of domain A, or a root that holds trainA and trainB.")
    b: Path | None = Field(None, description="Folder of images of domain B.")
    test_a: Path | None = Field(
        None, description="Folder of test images of domain A, which are shown in sample grids and never trained on."
    )
    test_b: Path | None = Field(None, description="Folder of test images of domain B.")
    out: Path = Field(Path("runs/cyclegan"), description="Run directory to write.")
    preset: str = Field(
        "paper", description="Values of all settings that are not given: paper, modern, conservative or demo."
    )

    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = DataConfig()


class StartSettings(Config):
    """Where the networks start."""

    init_from: Path | None = Field(
        None, description="Run, checkpoint or model directory to start the networks from, instead of random weights."
    )
    freeze: Literal["none", "encoder", "discriminator", "both"] = Field(
        "none",
        description="Layers that keep the weights of --init-from: the encoder of the generators (of a resnet all "
        "before its residual blocks, of a unet its way down), all but the last two layers of the discriminators, both.",
    )


class LossSettings(Config):
    """Loss terms. A weight is a factor; a term of weight 0 is neither computed nor trained."""

    adversarial: Literal["lsgan", "vanilla", "hinge", "wgan-gp"] = Field(
        "lsgan", description="Adversarial loss; vanilla: the negative log form."
    )
    adversarial_weight: float = Field(
        1.0, ge=0, description="Weight of both adversarial losses; 0 trains with the cycle alone."
    )
    cycle_weight_a: float = Field(10.0, ge=0, description="Weight of the cycle loss A -> B -> A.")
    cycle_weight_b: float = Field(10.0, ge=0, description="Weight of the cycle loss B -> A -> B.")
    identity_weight: float = Field(0.5, ge=0, description="Weight of the identity loss, relative to the cycle weights.")
    gradient_penalty_weight: float = Field(10.0, ge=0, description="Weight of the gradient penalty of wgan-gp.")
    r1_weight: float = Field(
        0.0, ge=0, description="Weight of the R1 gradient penalty on real images, computed every 16th step."
    )
    contrastive_weight: float = Field(
        0.0, ge=0, description="Weight of the patch-contrastive loss between input and translation; DCLGAN uses 2."
    )
    structure_weight: float = Field(
        0.0, ge=0, description="Weight of the structure loss, which keeps the edges of an image in place."
    )
    cycle_end: float = Field(
        1.0,
        ge=0,
        description="Share of the cycle weights that is left at the end of the run; they fall evenly, the identity "
        "weight stays.",
    )
    cycle_noise: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of the noise on translations before they are translated back, in [-1, 1].",
    )
    pool_size: int = Field(
        50, ge=0, description="Number of earlier fakes kept for each discriminator; 0 uses only new ones."
    )


class OptimisationSettings(Config):
    """The optimisers, the length of the run, and the averaged weights."""

    learning_rate: float = Field(2e-4, gt=0, description="Learning rate of both Adam optimisers at the start.")
    beta1: float = Field(0.5, ge=0, lt=1, description="Decay of Adam's mean gradient.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of Adam's mean squared gradient.")
    batch_size: int = Field(1, ge=1, description="Images of each domain per step.")
    schedule: Literal["linear", "cosine", "step", "constant"] = Field(
        "linear",
        description="Course of the learning rate; linear: falls to zero over the last part of the run, --decay-share.",
    )
    decay_share: float = Field(0.5, ge=0, le=1, description="Share of the run over which the linear schedule falls.")
    drop_share: float = Field(
        0.25, gt=0, le=1, description="Share of the run between two drops of the step schedule, each to a tenth."
    )
    steps: int | None = Field(None, ge=1, description="Length of the run in steps.")
    epochs: float | None = Field(
        None, gt=0, description="Length of the run in passes over the larger folder; 200 if no length is given."
    )
    minutes: float | None = Field(
        None, gt=0, description="Length of the run in minutes; the schedule follows the clock."
    )
    seed: int = Field(0, ge=0, description="Seed of everything random: weights, order, crops, image pools, dropout.")
    average_decay: float = Field(
        0.999, ge=0, lt=1, description="Decay per step of the running average of the generators."
    )
    translate_with: Literal["final", "average"] = Field(
        "final", description="Weights that a translator uses: the last ones or their running average."
    )


class MachineSettings(Config):
    """Where and how fast a run computes."""

    device: str = Field("auto", description="Device: cpu, cuda, cuda:1, mps or auto.")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="Arithmetic of the networks; auto: bf16 if this machine is faster with it. Losses, penalties and "
        "norm statistics stay in fp32.",
    )
    checkpoint_activations: bool = Field(
        False,
        description="Compute the generators' activations again in the backward pass: half the memory, but slower.",
    )
    compile: bool = Field(
        False,
        description="Compile the networks by torch.compile, minutes at the start; for GPUs, on CPUs it gained nothing.",
    )
    cuda_graphs: bool = Field(True, description="On CUDA, record one step and replay it if all images have one size.")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; by default its own choice.")
    workers: int = Field(0, ge=0, description="Processes that load images; 0 loads them in the training process.")


class OutputSettings(Config):
    """What a run writes, and when."""

    log_steps: int = Field(50, ge=1, description="Steps between two lines of log.jsonl.")
    sample_steps: int = Field(1000, ge=1, description="Steps between two snapshots: sample grids and scores.")
    num_samples: int = Field(4, ge=0, description="Images of each domain in a sample grid.")
    num_validation: int = Field(
        50, ge=0, description="Images of each domain, at most a tenth, held out to score snapshots; 0: no scores."
    )
    checkpoint_steps: int = Field(5000, ge=1, description="Steps between two checkpoints.")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="Minutes between two checkpoints; the first of both limits counts."
    )
    keep_checkpoints: int = Field(3, ge=1, description="Number of newest checkpoints to keep.")
    model_epochs: int | None = Field(
        None, ge=1, description="Epochs between two models that are kept for good in models/; by default none are."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard files if the extra `log` is installed.")
    wandb: str | None = Field(
        None, min_length=1, description="Weights & Biases project that also logs this run; needs the extra `wandb`."
    )
    mlflow: str | None = Field(
        None, min_length=1, description="MLflow experiment that also logs this run; needs the extra `mlflow`."
    )


class TrainConfig(
    OutputSettings, MachineSettings, OptimisationSettings, LossSettings, StartSettings, FolderSettings
):  # the last base comes first in config.toml
    """One run, all of it: folders, networks, losses, optimisation, machine and what is written."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        lengths = {name: getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}
        if len(lengths) > 1:
            given = ", ".join(f"{name} {value}" for name, value in lengths.items())
            raise ValueError(
                f"the length of the run is given more than once ({given}); give one of steps, epochs, minutes"
            )
        if not lengths:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)
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
        generator = self.model.generator_class
        if self.checkpoint_activations and not generator.can_checkpoint:
            raise ValueError(
                f"checkpoint_activations is on, and a {self.model.generator} generator has no checkpointing; "
                "leave it out"
            )
        if self.contrastive_weight > 0 and not generator.has_features():
            raise ValueError(
                f"contrastive_weight is {self.contrastive_weight:g}, and a {self.model.generator} generator has no "
                "features to compare; set contrastive_weight 0, or another preset"
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
    "norm": "layer",
    "discriminator_norm": "spectral",
    "resampling": "smooth",
}


# The preset of values that are not given. A TrainConfig made directly has those of the paper.
DEFAULT_PRESET = "modern"


_MODERN: dict[str, Any] = {**_BEYOND, "cycle_weight_a": 1.0, "cycle_weight_b": 1.0, "contrastive_weight": 0.5}


# A preset is a flat dict of the values in which it differs from the defaults above.
PRESETS: dict[str, dict[str, Any]] = {
    # The recipe of the paper as its authors' code runs it: 256 px, 100 + 100 epochs, batch 1, identity weight 0.5.
    "paper": {},
    # Better translations in the same time; benchmarks/quality.py compares the presets.
    "modern": _MODERN,
    # For images whose shapes must not change: three times the cycle of `modern`, a structure term, no contrastive term.
    "conservative": {
        **_BEYOND,
        "cycle_weight_a": 3.0,
        "cycle_weight_b": 3.0,
        "structure_weight": 5.0,
    },
    # What `cyclegan demo` runs on two CPU cores; how its sizes were found is in docs/research/demo.md.
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
    crop size without a load size sets the load size in proportion. A value of the preset for a setting that the chosen
    generator does not have, as the resampling of a unet, is left out.
    Raises InputError for an unknown preset, an unknown key (with the nearest valid one) or a bad value.
    """
    return _validated(_resolve(*layers, preset=preset))


def resolved_values(*layers: Mapping[str, Any], preset: str | None = None) -> dict[str, Any]:
    """The flat values of `make_config` before they are checked, with the defaults of all settings.

    Does not load torch, unless a layer names a generator.
    """
    fields = {name: section.model_fields[name] for name, section in field_sections().items()}
    values = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    values |= _resolve(*layers, preset=preset)
    if all(values[length] is None for length in LENGTHS):
        values["epochs"] = DEFAULT_EPOCHS
    return values


def _resolve(*layers: Mapping[str, Any], preset: str | None) -> dict[str, Any]:
    """The flat values that the preset and the layers give."""
    named = [preset, *(layer["preset"] for layer in reversed(layers) if layer.get("preset"))]
    name = next((name for name in named if name), DEFAULT_PRESET)
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; choose one of: {', '.join(PRESETS)}.")

    flat_layers = [_flatten(layer) for layer in layers]
    asked = {key: value for flat in flat_layers for key, value in flat.items()}
    values = dict(PRESETS[name])
    if asked.get("generator") in network_names("generator"):  # an unknown one is refused later
        from cyclegan.networks import GENERATORS
        from cyclegan.networks.settings import setting_names

        has = setting_names(GENERATORS[asked["generator"]])
        values = {key: value for key, value in values.items() if key not in _OPTIONAL or key in has}
    for flat in flat_layers:
        if any(flat.get(length) is not None for length in LENGTHS):
            values = {key: value for key, value in values.items() if key not in LENGTHS}
        if "crop_size" in flat:
            values.pop("load_size", None)
        values |= flat
    values["preset"] = name
    return values


def saved_config(*layers: Mapping[str, Any]) -> TrainConfig:
    """A configuration as a run saves it: values that the layers lack are those of TrainConfig, not of a preset.

    A saved file leaves out settings that are None, which a preset would fill in. Raises InputError as `make_config`.
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
        return [f"{key} = {_toml_value(value)}" for key, value in values.items() if value is not None and value != {}]

    text = lines(dumped)
    for name, values in sections.items():
        text += ["", f"[{name}]", *lines(values)]
    return "\n".join(text) + "\n"


def _toml_value(value: Any) -> str:
    """JSON strings, numbers, booleans and arrays are valid TOML; a dict becomes an inline table."""
    if isinstance(value, Mapping):
        pairs = [f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def network_names(setting: str) -> tuple[str, ...]:
    """The values that the setting `generator` or `discriminator` can have; none for others. Does not load torch."""
    from cyclegan.networks import registered_names

    return registered_names(f"{setting.upper()}S") if setting in ("generator", "discriminator") else ()


def choices(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal annotation, also of one that may be None; nothing for others."""
    return tuple(word for arg in get_args(annotation) for word in ([arg] if isinstance(arg, str) else choices(arg)))
