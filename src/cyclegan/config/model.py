"""The architecture of the networks: their settings, and which of them the class of a network reads."""

import difflib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self, get_type_hints

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from cyclegan.config.base import Config, FlagText, check_no_text
from cyclegan.system.json_files import describe_validation_error, shown

if TYPE_CHECKING:  # it loads torch, which is needed only when a configuration is made
    from cyclegan.networks.protocol import Discriminator, Generator, Network

# Limits that only a damaged or hostile file exceeds. Networks that fit no machine are refused when they are built.
MAX_WIDTH, MAX_CHANNELS = 2**14, 2**14
_MAX_OPTIONS = 2**16

# Words of earlier releases that saved configurations and old command lines still have, by setting.
OLD_WORDS = {name: {"pixel": "layer"} for name in ("norm", "discriminator_norm")}

# Networks that junyanz/pytorch-CycleGAN-and-pix2pix has, too; `cyclegan.reference.keys` has their layout there.
_IN_REFERENCE = ("resnet", "unet", "patch", "pixel")

# Settings of generators that not every class has. The values of a preset are left out for a class without them.
OPTIONAL_SETTINGS = ("resampling", "padding", "skips", "global_skip", "dropout")


class ModelConfig(Config):
    """Architecture of the four networks. Defaults are those of the paper (section 7.2 of its appendix).

    The class of a network, in `cyclegan.networks`, declares which settings it has and which sizes they allow. Making a
    configuration loads the class, and so torch.
    """

    generator: str = Field("resnet", description="Kind of generator.")
    generator_options: dict[str, Any] = Field(
        default_factory=dict, description="A setting that only this kind of generator has; once for each."
    )
    blocks: int = Field(
        9, ge=0, le=1000, description="Residual blocks of a resnet; the paper has 6 at 128 px, 9 at 256 px."
    )
    depth: int = Field(8, ge=5, le=12, description="Down-samplings of a unet; 7 for 128 px, 8 for 256 px.")
    width: int = Field(64, ge=1, le=MAX_WIDTH, description="Channels of the generator's first layer.")
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
    padding: Literal["zeros", "reflect"] = Field(
        "zeros",
        description="How the layers of a resnet that change resolution pad; reflect: as all others; zeros may grow to "
        "stripes.",
    )
    skips: bool = Field(
        False,
        description="Pass detail at full and half resolution from the encoder of a resnet to its decoder; without them "
        "it is invented.",
    )
    global_skip: bool = Field(
        False, description="Add the input to the output; a learned gate says how much of it stays."
    )
    dropout: bool = Field(False, description="Dropout of 0.5 inside the generator, in training only.")
    channels_a: int = Field(3, ge=1, le=MAX_CHANNELS, description="Channels of the images of domain A.")
    channels_b: int = Field(3, ge=1, le=MAX_CHANNELS, description="Channels of the images of domain B.")
    init: Literal["normal", "xavier", "kaiming", "orthogonal"] = Field("normal", description="Weight initialisation.")
    init_gain: float = Field(
        0.02, gt=0, le=1e6, description="Gain of the initialisation; standard deviation for normal; unused by kaiming."
    )
    discriminator: str = Field(
        "patch", description="Kind of discriminator; pyramid: a patch one that sees coarse and fine detail alike."
    )
    discriminator_options: dict[str, Any] = Field(
        default_factory=dict, description="A setting that only this kind of discriminator has; once for each."
    )
    discriminator_layers: int = Field(
        3, ge=1, le=8, description="Down-samplings of a patch or pyramid discriminator; 3 sees patches of 70x70."
    )
    discriminator_width: int = Field(64, ge=1, le=MAX_WIDTH, description="Channels of the discriminator's first layer.")

    # The sizes that the classes declare, for processes that load images and do not know a class of a script.
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
            nearest = difflib.get_close_matches(value[:100], names, n=1)
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
            return {name: FlagText(word) for name, _, word in (pair.partition("=") for pair in value)}
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        from cyclegan.networks.protocol import Discriminator, Generator

        _check_class("GENERATORS", self.generator, self.generator_class, Generator)
        _check_class("DISCRIMINATORS", self.discriminator, self.discriminator_class, Discriminator)
        # Complete with the defaults of the class, so that a saved model does not depend on them.
        options = {
            "generator_options": _check_options(self.generator_class, self.generator_options),
            "discriminator_options": _check_options(self.discriminator_class, self.discriminator_options),
        }
        for name, value in options.items():
            object.__setattr__(self, name, value)
        for name in OPTIONAL_SETTINGS:
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and name not in setting_names(self.generator_class):
                raise ValueError(
                    f"{name} is {shown(value)}, which a {self.generator} generator does not have; leave it out"
                )
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
        return _settings_of(self.generator_class, self, self.generator_options)

    @property
    def discriminator_settings(self) -> dict[str, Any]:
        """The settings that the discriminators have, by name, their own included."""
        return _settings_of(self.discriminator_class, self, self.discriminator_options)

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
    def settings_without_effect(self) -> list[str]:
        """Changed settings that only networks of another kind read, as `name value`."""
        from cyclegan.networks import DISCRIMINATORS, GENERATORS

        known = {name for kind in (*GENERATORS.values(), *DISCRIMINATORS.values()) for name in setting_names(kind)}
        unread = known - {*setting_names(self.generator_class), *setting_names(self.discriminator_class)}
        changed = {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name in unread and getattr(self, name) != field.default
        }
        return [f"{name} {value}" for name, value in changed.items()]

    @property
    def reference_incompatibilities(self) -> list[str]:
        """Settings that the networks of the reference implementation cannot have, as `name value`."""
        resolved = self.resolved_discriminator_norm
        found = {
            f"generator {self.generator}": self.generator not in _IN_REFERENCE,
            f"discriminator {self.discriminator}": self.discriminator not in _IN_REFERENCE,
            f"norm {self.norm}": self.norm == "layer",
            f"discriminator_norm {resolved}": resolved != self.norm,
            f"resampling {self.resampling}": self.resampling != "strided",
            f"padding {self.padding}": self.padding != "zeros",
            "skips": self.skips,
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


def network_names(setting: str) -> tuple[str, ...]:
    """The values that the setting `generator` or `discriminator` can have; none for others. Does not load torch."""
    from cyclegan.networks import registered_names

    return registered_names(f"{setting.upper()}S") if setting in ("generator", "discriminator") else ()


# ---- what the class of a network reads


def _check_class(registry: str, name: str, network: Any, base: "type[Network]") -> None:
    """Raises ValueError if a row of a registry is not a class that implements the protocol."""
    row = f"cyclegan.networks.{registry}[{name!r}]"
    if not (inspect.isclass(network) and issubclass(network, base)):
        raise ValueError(f"{row} is {network!r}; expected a subclass of cyclegan.networks.{base.__name__}")
    if missing := sorted(network.__abstractmethods__):
        raise ValueError(f"{row}, the class {network.__name__}, has no {' and no '.join(missing)}; define it")


@cache
def setting_names(network: "type[Network]") -> tuple[str, ...]:
    """All settings of a class: the keyword-only arguments of its constructor."""
    parameters = inspect.signature(network).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


@cache
def _options_model(network: "type[Network]") -> type[Config]:
    """The settings of a class that `ModelConfig` does not have."""
    hints = get_type_hints(network.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for name in setting_names(network):
        if name not in ModelConfig.model_fields:
            default = inspect.signature(network).parameters[name].default
            fields[name] = (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
    return create_model(f"{network.__name__}Options", __base__=Config, **fields)


def _check_options(network: "type[Network]", options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class as plain JSON values, complete with its defaults.

    Raises ValueError for an unknown or missing option, or a value of another type.
    """
    model = _options_model(network)
    unknown = [name for name in options if name not in model.model_fields]
    if unknown:
        known = f"it has {', '.join(model.model_fields)}" if model.model_fields else "it has none of its own"
        raise ValueError(f"{network.__name__} has no option {shown(unknown[0])}; {known}")
    check_no_text(model, options)
    try:
        found = model.model_validate(options).model_dump(mode="json")
        if sum(len(repr(value)) for value in found.values()) > _MAX_OPTIONS:
            raise ValueError(f"The options of {network.__name__} are longer than {_MAX_OPTIONS:,} characters")
        return found
    except ValidationError as error:
        raise ValueError(
            f"The options of {network.__name__}: {describe_validation_error(error).removesuffix('.')}"
        ) from None


def _settings_of(network: "type[Network]", config: ModelConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all settings of a class, as its constructor takes them."""
    own = dict(_options_model(network).model_validate(options)) if options else {}
    values = {name: getattr(config, name) for name in ModelConfig.model_fields}
    values |= {"discriminator_norm": config.resolved_discriminator_norm, **own}
    return {name: values[name] for name in setting_names(network)}
