"""The settings of data and runs, as frozen, validated classes."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cyclegan.config.base import Config
from cyclegan.config.model import ModelConfig
from cyclegan.config.reading import Axis, Bands, Colour, NoData, Reading
from cyclegan.system.arguments import expand_home

Direction = Literal["a2b", "b2a"]

# Views of an image whose translations are averaged, see `cyclegan.translate.self_ensemble`.
SelfEnsemble = Literal["none", "mirror", "mirror-and-shift", "turns"]

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

# Settings that give the length of a run, of which only one may be given, and the length without any: that of the paper.
LENGTHS = frozenset(("steps", "epochs", "minutes"))
DEFAULT_EPOCHS = 200.0


# Limits that no run comes near, so that a damaged or hostile file is refused before the work: counts and lengths, sides
# of images in pixels, weights and other factors, and learning rates and image values, which are float32.
MAX_COUNT = 10**12
MAX_SIDE = 2**20
MAX_VALUE = 1e12
MAX_FLOAT32 = 3.4028235e38


def check_range(name: str, low: float, high: float) -> None:
    """Raise ValueError unless these can be the lower and the upper end of a range of image values."""
    if not low < high:
        raise ValueError(f"{name} is {low:g} {high:g}; give the lower value first, then a higher one")
    if max(abs(low), abs(high)) > MAX_FLOAT32 or high - low < 1 / MAX_FLOAT32:
        raise ValueError(f"{name} is {low:g} {high:g}; expected values that float32 can tell apart")


def _check_path(path: Path) -> Path:
    text = str(path)
    if "\0" in text or len(text) > 4096 or any(len(part) > 255 for part in path.parts):
        raise ValueError("no file system has such a path")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it is not text in UTF-8, as config.toml is; rename it, or make a link")
    return expand_home(path)


def _check_not_empty(value: Any) -> Any:
    if value == "":  # as of an unset variable; as a path it would be the folder that the process is in
        raise ValueError("is empty; expected a path. The folder that you are in is '.'")
    return value


SettingPath = Annotated[Path, BeforeValidator(_check_not_empty), AfterValidator(_check_path)]


class DataConfig(Config):
    """From a file to a training item."""

    preprocess: Preprocess = Field("resize-and-crop", description="How to bring training images to size.")
    load_size: int | None = Field(
        None, ge=1, le=MAX_SIDE, description="Size in pixels before cropping; by default 286/256 of the crop size."
    )
    crop_size: int = Field(256, ge=1, le=MAX_SIDE, description="Side of the square training crop, in pixels.")
    flip: bool = Field(True, description="Mirror training images left to right at random.")
    shuffle: bool = Field(
        True, description="Shuffle images in every pass; off: in the order of their names, so that pairs stay."
    )
    max_images: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Largest number of training images of each domain, the first by name; by default all.",
    )
    max_pixels: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Largest number of pixels of an image; larger ones are left out. By default 1,073,741,824 (2^30).",
    )
    range_a: tuple[float, float] | None = Field(
        None,
        description="Values of domain A that become -1 and 1; by default 0 255 for 8-bit images, else the extremes.",
    )
    range_b: tuple[float, float] | None = Field(None, description="Values of domain B that become -1 and 1.")
    bands_a: Bands | None = Field(
        None, description="Bands to take from files of domain A, such as 4,3,2: numbers from 1 on, or names."
    )
    bands_b: Bands | None = Field(None, description="Bands to take from files of domain B.")
    nodata_a: NoData | None = Field(
        None,
        description="Value of holes in domain A, where images have no data; nan, or none for no holes; by default what "
        "each file names.",
    )
    nodata_b: NoData | None = Field(None, description="Value of holes in domain B.")
    background_a: Colour | None = Field(
        None,
        description="Colour to put behind transparent pixels of domain A, such as white; by default they are holes.",
    )
    background_b: Colour | None = Field(None, description="Colour to put behind transparent pixels of domain B.")
    page: int | None = Field(None, ge=1, le=MAX_COUNT, description="Page to take from files with several, from 1 on.")
    axis: Axis | None = Field(
        None, description="Slices that volumes (NIfTI, MGH) are read in, as they lie in the patient; by default axial."
    )
    cache_gib: float = Field(
        2.0, ge=0, le=MAX_VALUE, description="Memory for decoded images in GiB; 0 decodes them every time."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preprocess.endswith("crop") and self.preprocess != "crop" and self.resolved_load_size < self.crop_size:
            raise ValueError(
                f"load_size {self.load_size} is smaller than crop_size {self.crop_size}; "
                f"pass a load size of at least {self.crop_size}, or a smaller crop size"
            )
        for name in ("range_a", "range_b"):
            value = getattr(self, name)
            if value is not None:
                check_range(name, *value)
        return self

    def reading(self, domain: str) -> Reading:
        """How the files of domain A or B are read."""
        suffix = domain.lower()
        return Reading(
            bands=getattr(self, f"bands_{suffix}"),
            nodata=getattr(self, f"nodata_{suffix}"),
            background=getattr(self, f"background_{suffix}"),
            page=self.page,
            axis=self.axis,
        )

    @property
    def resolved_load_size(self) -> int:
        """`load_size`, or the reference's 286 for 256 in proportion, in pixels."""
        return self.load_size if self.load_size is not None else math.ceil(self.crop_size * 286 / 256)

    @property
    def crops(self) -> bool:
        """Whether every training image has the same size."""
        return self.preprocess.endswith("crop")


class FolderSettings(Config):
    """Folders of images and of results, networks and data."""

    a: SettingPath | None = Field(
        None,
        description="Folder or zip of images of domain A, an address of one such as s3://bucket/photos, or a root that "
        "holds trainA and trainB.",
    )
    b: SettingPath | None = Field(None, description="Folder or zip of images of domain B.")
    test_a: SettingPath | None = Field(
        None, description="Folder of test images of domain A, which are shown in sample grids and never trained on."
    )
    test_b: SettingPath | None = Field(None, description="Folder of test images of domain B.")
    out: SettingPath = Field(Path("runs/cyclegan"), description="Run directory to write.")
    preset: str = Field(
        "paper",
        max_length=100,
        description="Values of all settings that are not given: paper, modern, conservative or demo.",
    )

    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = DataConfig()


class StartSettings(Config):
    """The model that the networks start from."""

    init_from: SettingPath | None = Field(
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
        1.0, ge=0, le=MAX_VALUE, description="Weight of both adversarial losses; 0 trains with the cycle alone."
    )
    cycle_weight_a: float = Field(10.0, ge=0, le=MAX_VALUE, description="Weight of the cycle loss A -> B -> A.")
    cycle_weight_b: float = Field(10.0, ge=0, le=MAX_VALUE, description="Weight of the cycle loss B -> A -> B.")
    identity_weight: float = Field(
        0.5, ge=0, le=MAX_VALUE, description="Weight of the identity loss, relative to the cycle weights."
    )
    gradient_penalty_weight: float = Field(
        10.0, ge=0, le=MAX_VALUE, description="Weight of the gradient penalty of wgan-gp."
    )
    r1_weight: float = Field(
        0.0,
        ge=0,
        le=MAX_VALUE,
        description="Weight of the R1 gradient penalty on real images, computed every 16th step.",
    )
    contrastive_weight: float = Field(
        0.0,
        ge=0,
        le=MAX_VALUE,
        description="Weight of the patch-contrastive loss between input and translation; DCLGAN uses 2.",
    )
    structure_weight: float = Field(
        0.0, ge=0, le=MAX_VALUE, description="Weight of the structure loss, which keeps the edges of an image in place."
    )
    cycle_end: float = Field(
        1.0,
        ge=0,
        le=MAX_VALUE,
        description="Share of the cycle weights that is left at the end of the run; they fall evenly, the identity "
        "weight stays.",
    )
    cycle_noise: float = Field(
        0.0,
        ge=0,
        le=MAX_VALUE,
        description="Standard deviation of the noise on translations before they are translated back, in [-1, 1].",
    )
    pool_size: int = Field(
        50, ge=0, le=MAX_COUNT, description="Number of earlier fakes kept for each discriminator; 0 uses only new ones."
    )


class OptimisationSettings(Config):
    """The optimisers, the length of the run, and the averaged weights."""

    learning_rate: float = Field(
        2e-4, gt=0, le=MAX_FLOAT32, description="Learning rate of both Adam optimisers at the start."
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="Decay of Adam's mean gradient.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of Adam's mean squared gradient.")
    batch_size: int = Field(1, ge=1, le=2**20, description="Images of each domain per step.")
    schedule: Literal["linear", "cosine", "step", "constant"] = Field(
        "linear",
        description="Course of the learning rate; linear: falls to zero over the last part of the run, --decay-share.",
    )
    decay_share: float = Field(0.5, ge=0, le=1, description="Share of the run over which the linear schedule falls.")
    drop_share: float = Field(
        0.25, gt=0, le=1, description="Share of the run between two drops of the step schedule, each to a tenth."
    )
    steps: int | None = Field(None, ge=1, le=MAX_COUNT, description="Length of the run in steps.")
    epochs: float | None = Field(
        None,
        gt=0,
        le=MAX_COUNT,
        description="Length of the run in passes over the larger folder, unless steps or minutes are given.",
    )
    minutes: float | None = Field(
        None, gt=0, le=MAX_COUNT, description="Length of the run in minutes; the schedule follows the clock."
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of everything random: weights, order, crops, image pools, dropout."
    )
    average_decay: float = Field(
        0.999, ge=0, lt=1, description="Decay per step of the running average of the generators."
    )
    translate_with: Literal["final", "average"] = Field(
        "final", description="Weights that a translator uses: the last ones or their running average."
    )


class MachineSettings(Config):
    """The device, its arithmetic and its speed."""

    device: str = Field("auto", max_length=100, description="Device: cpu, cuda, cuda:1, mps or auto.")
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
    share_by: Literal["auto", "images", "directions"] = Field(
        "auto",
        description="How processes that torchrun starts share a step: by the images of a batch, or A to B to A in one "
        "and B to A to B in another; auto: by images if their number is a multiple of the processes.",
    )
    cuda_graphs: bool = Field(True, description="On CUDA, record one step and replay it if all images have one size.")
    threads: int | None = Field(None, ge=1, le=2**16, description="CPU threads of torch; by default its own choice.")
    workers: int = Field(
        0, ge=0, le=2**16, description="Processes that load images; 0 loads them in the training process."
    )


class OutputSettings(Config):
    """The files of a run, and when they are written."""

    log_steps: int = Field(50, ge=1, le=MAX_COUNT, description="Steps between two lines of log.jsonl.")
    sample_steps: int = Field(
        1000, ge=1, le=MAX_COUNT, description="Steps between two snapshots: sample grids and scores."
    )
    num_samples: int = Field(4, ge=0, le=MAX_COUNT, description="Images of each domain in a sample grid.")
    num_validation: int = Field(
        50,
        ge=0,
        le=MAX_COUNT,
        description="Images of each domain, at most a tenth, held out to score snapshots; 0: no scores.",
    )
    checkpoint_steps: int = Field(5000, ge=1, le=MAX_COUNT, description="Steps between two checkpoints.")
    checkpoint_minutes: float = Field(
        10.0, gt=0, le=MAX_COUNT, description="Minutes between two checkpoints; the first of both limits counts."
    )
    keep_checkpoints: int = Field(3, ge=1, le=MAX_COUNT, description="Number of newest checkpoints to keep.")
    model_epochs: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Epochs between two models that are kept for good in models/; by default none are.",
    )
    tensorboard: bool = Field(True, description="Write TensorBoard files if the extra `log` is installed.")
    wandb: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Weights & Biases project that also logs this run; needs the extra `wandb`.",
    )
    mlflow: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="MLflow experiment that also logs this run; needs the extra `mlflow`.",
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
        if self.compile and (self.adversarial == "wgan-gp" or self.r1_weight > 0):
            penalty = "adversarial wgan-gp" if self.adversarial == "wgan-gp" else f"r1_weight {self.r1_weight:g}"
            raise ValueError(
                f"compile is on, and {penalty} differentiates twice, which compiled networks cannot; leave one out"
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


# Settings that may differ when a run resumes: they change where and how fast it trains and what it writes, never what
# it learns.
CHANGEABLE_ON_RESUME = frozenset(
    (
        *("preset", "out", "translate_with", "device", "threads", "workers", "cache_gib", "max_pixels"),
        *("checkpoint_activations", "compile", "cuda_graphs", "share_by"),
        *("log_steps", "sample_steps", "checkpoint_steps", "checkpoint_minutes", "keep_checkpoints"),
        *("model_epochs", "tensorboard", "wandb", "mlflow"),
    )
)

# How files are read, see `DataConfig.reading`. Another value makes other images of the same files.
READING_SETTINGS = (
    *("bands_a", "bands_b", "nodata_a", "nodata_b", "background_a", "background_b"),
    *("page", "axis"),
)

# The settings by which `cyclegan inspect` reads files as training does.
INSPECTED_SETTINGS = ("channels_a", "channels_b", "range_a", "range_b", *READING_SETTINGS, "max_pixels")
