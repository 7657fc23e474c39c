"""Resolve preset < file < command line into one validated configuration, and read its values back."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from cyclegan.config.base import Config, check_no_text
from cyclegan.config.model import OPTIONAL_SETTINGS, ModelConfig, network_names, setting_names
from cyclegan.config.presets import DEFAULT_PRESET, PRESETS
from cyclegan.config.settings import DEFAULT_EPOCHS, LENGTHS, DataConfig, TrainConfig
from cyclegan.errors import InputError
from cyclegan.system.json_files import describe_validation_error, shown


def field_sections() -> dict[str, type[Config]]:
    """Every configurable name, flat, and the section that holds it. Names are unique over the sections."""
    sections: dict[str, type[Config]] = {}
    for section in (TrainConfig, ModelConfig, DataConfig):
        for name in section.model_fields:
            if name not in ("model", "data"):
                assert name not in sections, name
                sections[name] = section
    return sections


def make_config(*layers: Mapping[str, Any], preset: str | None = None, **settings: Any) -> TrainConfig:
    """Resolve `preset` < `layers` < `settings`; the last one wins: `make_config(preset="modern", steps=1000)`.

    layers: flat or sectioned dicts of values, as `read_config_file` returns them. settings: any setting of TrainConfig,
    ModelConfig or DataConfig by its name.
    An explicit `preset` counts before one that a layer names; without any it is DEFAULT_PRESET. A layer that sets a
    crop size without a load size sets the load size in proportion. A value of the preset for a setting that the chosen
    generator does not have, as the resampling of a unet, is left out.
    Raises InputError for an unknown preset, an unknown key (with the nearest valid one) or a bad value.
    """
    return _validated(_resolve(*layers, settings, preset=preset))


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
    if preset is not None and not isinstance(preset, str):
        raise InputError(f"There is no preset {shown(preset)}; choose one of: {', '.join(PRESETS)}.")
    named = [preset, *(layer["preset"] for layer in reversed(layers) if layer.get("preset"))]
    name = next((name for name in named if name), DEFAULT_PRESET)
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError(f"There is no preset {shown(name)}; choose one of: {', '.join(PRESETS)}.")

    flat_layers = [_flatten(layer) for layer in layers]
    asked = {key: value for flat in flat_layers for key, value in flat.items()}
    values = dict(PRESETS[name])
    if asked.get("generator") in network_names("generator"):  # an unknown one is refused later
        from cyclegan.networks import GENERATORS

        has = setting_names(GENERATORS[asked["generator"]])
        values = {key: value for key, value in values.items() if key not in OPTIONAL_SETTINGS or key in has}
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


def resumed_config(saved: TrainConfig, *layers: Mapping[str, Any], preset: str | None = None) -> TrainConfig:
    """Resolve `saved` < `preset` < `layers`: the configuration of a run that is resumed with other settings.

    A length of one kind replaces the saved one of another, and a root for both domains replaces two folders. Another
    preset than the saved one brings its values for all settings that differ between the two. Raises InputError as
    `make_config`.
    """
    flat_layers = [_flatten(layer) for layer in layers]
    flat_layers = [{"b": None, **flat} if flat.get("a") is not None else flat for flat in flat_layers]
    named = [preset, *(flat.get("preset") for flat in reversed(flat_layers))]
    name = next((name for name in named if name), saved.preset)
    if name != saved.preset and name in PRESETS:  # an unknown one is refused below
        flat_layers.insert(0, _preset_changes(saved, name))
    config = _validated(_resolve(_flatten(saved.model_dump()), *flat_layers, preset=name))
    if config.data.crop_size == saved.data.crop_size and not any("load_size" in flat for flat in flat_layers):
        config = config.replace(data=config.data.replace(load_size=saved.data.load_size))
    return config


def _preset_changes(saved: TrainConfig, name: str) -> dict[str, Any]:
    """The values of the preset `name` for the settings in which it and the saved preset differ from the defaults."""
    has, sections = setting_names(saved.model.generator_class), field_sections()
    changes: dict[str, Any] = {}
    for key in {**PRESETS.get(saved.preset, {}), **PRESETS[name]}:
        value = PRESETS[name].get(key, sections[key].model_fields[key].default)
        if key == "precision":  # a run keeps that with which it began
            continue
        if not (key in LENGTHS and value is None) and not (key in OPTIONAL_SETTINGS and key not in has):
            changes[key] = value
    return changes


def _validated(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of flat values."""
    sections = field_sections()
    nested: dict[str, Any] = {"model": {}, "data": {}}
    for key, value in values.items():
        section = sections[key]
        place = nested["model"] if section is ModelConfig else nested["data"] if section is DataConfig else nested
        check_no_text(section, {key: value})
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
                raise InputError(f"{key} is {shown(value)}; expected a table of settings.")
            if any(name in value for name in ("model", "data")):
                raise InputError(f"The table {key} holds another table; expected settings.")
            flat |= _flatten(dict(value))
        elif key == "cycle_weight":  # both directions at once
            flat |= {"cycle_weight_a": value, "cycle_weight_b": value}
        elif key not in sections:
            nearest = difflib.get_close_matches(str(key)[:100], [*sections, "cycle_weight"], n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise InputError(f"There is no setting {shown(key)}.{hint}")
        else:
            flat[key] = value
    return flat


def flat_values(config: TrainConfig) -> dict[str, Any]:
    """Every setting by its flat name, as plain JSON values."""
    dumped = config.model_dump(mode="json")
    model, data = dumped.pop("model"), dumped.pop("data")
    return {**dumped, **model, **data}


def choices(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal annotation, also of one that may be None; nothing for others."""
    return tuple(word for arg in get_args(annotation) for word in ([arg] if isinstance(arg, str) else choices(arg)))
