"""Configurations as TOML files."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclegan.config.settings import TrainConfig
from cyclegan.errors import InputError, reason_of
from cyclegan.system.json_files import cut

# Far above any configuration.
_MAX_BYTES = 2**18

# A dotted key of many parts, for which the parser takes time by the square of their number.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){50}""")


def read_config_file(path: Path) -> dict[str, Any]:
    """Settings from a TOML file, flat or with [model] and [data] tables. Raises InputError if it cannot be read."""
    try:
        num_bytes = path.stat().st_size
        if num_bytes > _MAX_BYTES:
            raise InputError(f"{path} has {num_bytes:,} bytes; expected a file of settings, at most {_MAX_BYTES:,}.")
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows write a mark at the beginning
    except FileNotFoundError:
        raise InputError(f"There is no configuration file {path}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not valid TOML: it is not text in UTF-8; save it in that encoding.") from None
    except OSError as error:
        raise InputError(f"The configuration file {path} cannot be read: {reason_of(error)}.") from None
    try:
        if _DEEP_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{path} is not a configuration: it is nested too deeply.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {cut(str(error), 200)}.") from None
    except ValueError:  # Python's limit
        raise InputError(f"{path} is not a configuration: it has a number of too many digits.") from None


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
        pairs = [f"{_toml_value(key)} = {_toml_value(item)}" for key, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which JSON allows, and TOML does not
