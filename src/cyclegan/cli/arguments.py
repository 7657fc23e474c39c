"""Shared by all commands: declare an argument in one line, and read the values by name."""

import argparse
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.system.arguments import expand_home

DIRECTIONS = ("a2b", "b2a")
WEIGHTS = ("final", "average")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
SELF_ENSEMBLES = ("none", "mirror", "mirror-and-shift", "turns")

_METAVARS = {int: "N", float: "N", str: "TEXT", Path: "DIR"}


def add_argument(parser: Any, name: str, kind: Any, help: str, default: Any = None, **options: Any) -> None:
    """Add an argument to a parser or a group; the help gets its default.

    kind: the type of the value, a tuple of choices, or bool for a switch. options: as argparse takes them.
    """
    if kind is bool:
        options["action"] = "store_true"
    elif isinstance(kind, tuple):
        options |= {"choices": kind, "default": default}
    else:
        options = {
            "type": home_path if kind is Path else kind,
            "default": default,
            "metavar": _METAVARS.get(kind),
        } | options
    if default is not None:
        help = with_default(help, default)
    parser.add_argument(name, help=help, **options)


def home_path(text: str) -> Path:
    """A path; shells leave the ~ of `--out=~/maps` as it is. An empty one, as of an unset variable, is none."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; for the folder that you are in, give .")
    return expand_home(Path(text))


def with_default(text: str, default: Any) -> str:
    """The help text of an argument with its default value."""
    return f"{text.removesuffix('.')} (default: {_show(default)})."


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_device(parser: argparse.ArgumentParser) -> None:
    add_argument(parser, "--device", str, "Device: cpu, cuda, cuda:1, mps or auto", "auto", metavar="DEVICE")


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that can run on a cluster."""
    add = partial(add_argument, parser.add_argument_group("cluster"))
    ray_help = (
        "Share the work out by Ray. local: over the cores and GPUs of this machine; auto: over the cluster that Ray "
        "finds; or the address of one, HOST:PORT. Needs cyclegan[ray]."
    )
    add("--ray", str, ray_help, metavar="WHERE")
    cpus_help = "CPU cores of each process that holds the model (default: four, or its share of a GPU's machine)."
    add("--cpus-per-actor", float, cpus_help, metavar="COUNT")
    gpus_help = "GPUs of each such process; 0.5 lets two share one (default: 1 if there are GPUs)."
    add("--gpus-per-actor", float, gpus_help, metavar="COUNT")


# The flags of `add_ray`, by name.
RAY = ("ray", "cpus_per_actor", "gpus_per_actor")


def check_ray(parsed: argparse.Namespace) -> None:
    """Raises InputError if a flag about the cluster is given without one."""
    if parsed.ray is None and (parsed.cpus_per_actor is not None or parsed.gpus_per_actor is not None):
        raise InputError("--cpus-per-actor and --gpus-per-actor are for --ray; give it as well.")


def check_serve_packages(command: str) -> None:
    """Raises InputError if a package is missing that this command needs to serve pages."""
    for name in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(f"{command} needs the package {error.name}: pip install 'cyclegan[serve]'") from None


def add_max_pixels(parser: Any) -> None:
    """Add the flag to a parser or a group."""
    help_text = "Largest number of pixels of an image that is decoded as a whole; it must fit into memory, too"
    add_argument(parser, "--max-pixels", int, f"{help_text} (default: 1073741824).", metavar="COUNT")


def keywords(parsed: argparse.Namespace, *others: str) -> dict[str, Any]:
    """The values of all arguments by name, except these `others`."""
    return {name: value for name, value in vars(parsed).items() if name not in ("run", "command_parser", *others)}
