"""`cyclegan train`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from cyclegan.config import (
    DEFAULT_PRESET,
    LENGTHS,
    OLD_WORDS,
    PRESETS,
    choices,
    field_sections,
    network_names,
    read_config_file,
    resolved_values,
)
from cyclegan.errors import InputError

SUMMARY = "Train two translators from two folders of unpaired images."

EXAMPLES = """examples:
  cyclegan train photos/ maps/ --out runs/maps
  cyclegan train data/horse2zebra --out runs/h2z --epochs 100 --crop-size 128 --blocks 6
  cyclegan train photos/ maps/ --out runs/small --minutes 30 --width 32
  cyclegan train scans/ --channels-a 1 --channels-b 1      (scans/trainA and scans/trainB)
  cyclegan train new_photos/ maps/ --out runs/fine --init-from runs/maps --freeze encoder --learning-rate 5e-5

The same command again goes on where a run stopped.

From junyanz/pytorch-CycleGAN-and-pix2pix? docs/from-the-reference.md has all its options, and this prints a whole
command of its train.py or test.py as one of ours:
  cyclegan train --from-reference 'python train.py --dataroot ./datasets/maps --name maps_cyclegan'"""

# Settings that have a place of their own on the command line.
_OWN_PLACE = {"a", "b", "preset"}


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    parser.usage = "cyclegan train A B [--out DIR] [settings]\n       cyclegan train ROOT [--out DIR] [settings]"
    parser.add_argument(
        "paths",
        metavar="A [B]",
        type=Path,
        nargs="*",
        help="folder of images of domain A and of domain B, or one root that holds trainA and trainB",
    )
    default = f"default: {DEFAULT_PRESET}; with --init-from that of its run, or paper"
    parser.add_argument("--preset", help=f"values to start from: {', '.join(PRESETS)} ({default})")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings, over those of the preset")
    parser.add_argument(
        "--from-reference",
        metavar="COMMAND",
        help="print what a command of the reference is here, and do nothing else (COMMAND in quotes)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="there must be a run to go on with; takes changed settings"
    )
    again.add_argument("--fresh", action="store_true", help="move the run that is in --out aside and start anew")
    group = parser.add_argument_group(
        "settings (the defaults shown are those of the preset and the file that are given)"
    )
    group.add_argument(
        "--cycle-weight", type=float, default=argparse.SUPPRESS, metavar="FLOAT", help="both cycle weights at once"
    )
    defaults = _defaults(arguments)
    for name, section in field_sections().items():
        if name not in _OWN_PLACE:
            _add_setting(group, name, section.model_fields[name], defaults.get(name))


def _defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """The values that hold when no flag changes them, for the help text."""
    if "train" not in arguments or not {"-h", "--help"} & set(arguments):
        return {}
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--preset")
    known.add_argument("--config", type=Path)
    given, _ = known.parse_known_args(list(arguments))
    return resolved_values(*([read_config_file(given.config)] if given.config else []), preset=given.preset)


def _add_setting(group: Any, name: str, info: FieldInfo, default: Any) -> None:
    """One flag for one setting. Values stay text: the configuration itself checks and converts them."""
    flag = "--" + name.replace("_", "-")
    types = [kind for kind in get_args(info.annotation) if kind is not type(None)] or [info.annotation]
    shown = (
        "none" if default in (None, {}) else " ".join(map(str, default)) if isinstance(default, list) else str(default)
    )
    text = f"{info.description or ''} (default: {shown})".replace("%", "%%")
    words = network_names(name) or choices(info.annotation) or choices(types[0])
    if info.annotation is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
    elif words:
        old = OLD_WORDS.get(name, {})
        group.add_argument(
            flag, choices=words, type=lambda word: old.get(word, word), default=argparse.SUPPRESS, help=text
        )
    elif str(info.annotation).startswith("dict"):
        group.add_argument(flag, action="append", metavar="NAME=VALUE", default=argparse.SUPPRESS, help=text)
    elif str(types[0]).startswith("tuple"):
        group.add_argument(flag, nargs=2, type=float, metavar=("LOW", "HIGH"), default=argparse.SUPPRESS, help=text)
    else:
        kind = getattr(types[0], "__name__", "VALUE").upper()
        group.add_argument(flag, metavar=kind, default=argparse.SUPPRESS, help=text)


def _print_equivalent(command: str) -> None:
    """The commands to stdout, so that a shell can take them; what differs to stderr."""
    from cyclegan.reference.equivalent import translate_reference

    found = translate_reference(command)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print(found)


def run(parsed: argparse.Namespace) -> None:
    own = {"run", "command_parser", "paths", "preset", "config", "resume", "fresh", "from_reference"}
    settings = {name: value for name, value in vars(parsed).items() if name not in own}
    if parsed.from_reference is not None:
        if settings or any((parsed.paths, parsed.preset, parsed.config, parsed.resume, parsed.fresh)):
            raise InputError("--from-reference stands alone; add what you like to the command that it prints.")
        _print_equivalent(parsed.from_reference)
        return
    lengths = sorted(LENGTHS & settings.keys())
    if len(lengths) > 1:
        raise InputError(f"Give one length of the run, not {' and '.join('--' + name for name in lengths)}.")
    if len(parsed.paths) > 2:
        raise InputError(
            f"Give two folders, or one root; these are {len(parsed.paths)}: {' '.join(map(str, parsed.paths))}."
        )
    from cyclegan.system.devices import keep_freed_memory
    from cyclegan.training.loop import train

    keep_freed_memory()
    a, b = (*parsed.paths, None, None)[:2]
    run = train(
        a,
        b,
        preset=parsed.preset,
        config_file=parsed.config,
        resume=parsed.resume,
        fresh=parsed.fresh,
        **settings,
    )
    print(run)
