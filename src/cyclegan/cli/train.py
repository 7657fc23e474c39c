"""`cyclegan train`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclegan.cli.arguments import add_argument, home_path, keywords
from cyclegan.cli.settings import add_setting
from cyclegan.config import (
    DEFAULT_PRESET,
    LENGTHS,
    PRESETS,
    Config,
    DataConfig,
    FolderSettings,
    LossSettings,
    MachineSettings,
    ModelConfig,
    OptimisationSettings,
    OutputSettings,
    StartSettings,
    field_sections,
    read_config_file,
    resolved_values,
)
from cyclegan.errors import InputError
from cyclegan.system.terminal import print_result, say

SUMMARY = "Train two translators from two folders of unpaired images."

EXAMPLES = """examples:
  cyclegan train photos/ maps/ --out runs/maps
  cyclegan train data/horse2zebra --out runs/h2z --epochs 100 --crop-size 128 --blocks 6
  cyclegan train photos/ maps/ --out runs/small --minutes 30 --width 32
  cyclegan train scans/ --channels-a 1 --channels-b 1      (scans/trainA and scans/trainB)
  cyclegan train --out runs/maps --resume --epochs 300
  cyclegan train new_photos/ maps/ --out runs/fine --init-from runs/maps --freeze encoder --learning-rate 5e-5

The same command resumes a run that was stopped. With --resume, --out is enough: the run keeps its folders and all
settings that are not given. Else defaults are those of the preset and the file that are given.

From junyanz/pytorch-CycleGAN-and-pix2pix (docs/guides/from-the-reference.md):
  cyclegan train --from-reference 'python train.py --dataroot ./datasets/maps --name maps_cyclegan'"""

# Settings that have a place of their own on the command line.
_OWN_PLACE = ("a", "b", "preset")

# With --preset the ten that people use first.
_MOST_USED = ("out", "epochs", "minutes", "crop_size", "batch_size", "generator", "width", "device", "seed")

# Groups of the help text, and the classes whose settings they show.
_GROUPS: dict[str, tuple[type[Config], ...]] = {
    "data": (FolderSettings, DataConfig),
    "networks": (ModelConfig, StartSettings),
    "losses": (LossSettings,),
    "optimisation": (OptimisationSettings,),
    "machine": (MachineSettings,),
    "what is written": (OutputSettings,),
}


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    parser.usage = (
        "cyclegan train A B [--out DIR] [settings]\n       cyclegan train ROOT [--out DIR] [settings]\n"
        "       cyclegan train --out DIR --resume [settings]"
    )
    paths_help = "Folders of images of domain A and domain B, or one root that holds trainA and trainB."
    add_argument(parser, "paths", Path, paths_help, metavar="A [B]", nargs="*")
    fields = {name: section.model_fields[name] for name, section in field_sections().items()}
    defaults = _defaults(arguments)

    most_used = parser.add_argument_group("most used settings")
    preset_help = f"Values of all settings that are not given: {', '.join(PRESETS)}"
    most_used.add_argument(
        "--preset", help=f"{preset_help} (default: {DEFAULT_PRESET}; with --init-from, that of the model)"
    )
    for name in _MOST_USED:
        add_setting(most_used, name, fields[name], defaults.get(name))

    start = parser.add_argument_group("starting, going on and starting again")
    file_help = "TOML file of settings, which replace those of the preset."
    add_argument(start, "--config", Path, file_help, metavar="FILE")
    again = start.add_mutually_exclusive_group()
    add_argument(
        again,
        "--resume",
        bool,
        "Go on with the saved settings of the run in --out, folders included, and with those given here.",
    )
    add_argument(again, "--fresh", bool, "Move the run in --out aside and start over.")
    command_help = (
        "Print a command of the reference implementation, in quotes, as a command of cyclegan, and train nothing."
    )
    add_argument(start, "--from-reference", str, command_help, metavar="COMMAND")

    for title, sections in _GROUPS.items():
        group = parser.add_argument_group(title)
        if LossSettings in sections:
            group.add_argument(
                "--cycle-weight",
                type=float,
                default=argparse.SUPPRESS,
                metavar="FLOAT",
                help="Both cycle weights at once.",
            )
        names = [name for section in sections for name in section.model_fields if name in fields]
        for name in names:
            if name not in (*_OWN_PLACE, *_MOST_USED):
                add_setting(group, name, fields[name], defaults.get(name))


def _defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """The values of all settings that no flag changes, for the help text."""
    if "train" not in arguments or not {"-h", "--help"} & set(arguments):
        return {}
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--preset")
    known.add_argument("--config", type=home_path)
    given, _ = known.parse_known_args(list(arguments))
    return resolved_values(*([read_config_file(given.config)] if given.config else []), preset=given.preset)


def run(parsed: argparse.Namespace) -> None:
    settings = keywords(parsed, "paths", "preset", "config", "resume", "fresh", "from_reference")
    if parsed.from_reference is not None:
        if settings or any((parsed.paths, parsed.preset, parsed.config, parsed.resume, parsed.fresh)):
            raise InputError("--from-reference stands alone; add other settings to the command that it prints.")
        from cyclegan.reference.equivalent import translate_reference

        try:
            found = translate_reference(parsed.from_reference)
        except InputError as error:  # one problem a line
            *others, last = str(error).splitlines()
            for line in others:
                say(f"cyclegan: {line}")
            raise InputError(last) from None
        for note in found.notes:
            say(f"note: {note}")
        print_result(str(found))  # alone on stdout, so that a shell can run it
        return
    lengths = sorted(LENGTHS & settings.keys())
    if len(lengths) > 1:
        raise InputError(f"Give one length of the run, not {' and '.join('--' + name for name in lengths)}.")
    if len(parsed.paths) > 2:
        raise InputError(
            f"Give two folders, or one root; these are {len(parsed.paths)}: {' '.join(map(str, parsed.paths))}."
        )
    from cyclegan.system.devices import keep_compiled_code, keep_freed_memory
    from cyclegan.system.processes import is_first_process
    from cyclegan.training.loop import train

    keep_freed_memory()
    keep_compiled_code()
    a, b = (*parsed.paths, None, None)[:2]
    starting = {"preset": parsed.preset, "config_file": parsed.config, "resume": parsed.resume, "fresh": parsed.fresh}
    run_directory = train(a, b, **starting, **settings)
    if is_first_process():
        print_result(run_directory)
