"""The settings of a network class: which it reads from the configuration, and which are its own."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from cyclegan.config import Config, ModelConfig, describe_validation_error
from cyclegan.networks.protocol import Network


def check_class(registry: str, name: str, network: Any, base: type[Network]) -> None:
    """Raises ValueError if a row of a registry is not a class that implements the protocol."""
    row = f"cyclegan.networks.{registry}[{name!r}]"
    if not (inspect.isclass(network) and issubclass(network, base)):
        raise ValueError(f"{row} is {network!r}; expected a subclass of cyclegan.networks.{base.__name__}")
    if missing := sorted(network.__abstractmethods__):
        raise ValueError(f"{row}, the class {network.__name__}, has no {' and no '.join(missing)}; define it")


@cache
def setting_names(network: type[Network]) -> tuple[str, ...]:
    """All settings of a class: the keyword-only arguments of its constructor."""
    parameters = inspect.signature(network).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


@cache
def _options_model(network: type[Network]) -> type[Config]:
    """The settings of a class that `ModelConfig` does not have."""
    hints = get_type_hints(network.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for name in setting_names(network):
        if name not in ModelConfig.model_fields:
            default = inspect.signature(network).parameters[name].default
            fields[name] = (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
    return create_model(f"{network.__name__}Options", __base__=Config, **fields)


def check_options(network: type[Network], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class as plain JSON values, complete with its defaults.

    Raises ValueError for an unknown or missing option, or a value of another type.
    """
    model = _options_model(network)
    unknown = [name for name in options if name not in model.model_fields]
    if unknown:
        known = f"it has {', '.join(model.model_fields)}" if model.model_fields else "it has none of its own"
        raise ValueError(f"{network.__name__} has no option {unknown[0]!r}; {known}")
    try:
        return model.model_validate(options).model_dump(mode="json")
    except ValidationError as error:
        raise ValueError(
            f"The options of {network.__name__}: {describe_validation_error(error).removesuffix('.')}"
        ) from None


def settings_of(network: type[Network], config: ModelConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all settings of a class, as its constructor takes them."""
    own = dict(_options_model(network).model_validate(options)) if options else {}
    values = {name: getattr(config, name) for name in ModelConfig.model_fields}
    values |= {"discriminator_norm": config.resolved_discriminator_norm, **own}
    return {name: values[name] for name in setting_names(network)}
