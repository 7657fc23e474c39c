"""Check a run directory before a session, lock it, and find the checkpoint to resume from."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cyclegan.config import (
    CHANGEABLE_ON_RESUME,
    LENGTHS,
    PRESETS,
    ModelConfig,
    TrainConfig,
    field_sections,
    flags_of,
    flat_values,
    to_toml,
)
from cyclegan.data.known_images import KnownImages
from cyclegan.errors import InputError, reason_of, remedy_of
from cyclegan.images.headers import HeaderIndex
from cyclegan.step.state import TrainState
from cyclegan.storage.hub import is_address
from cyclegan.storage.run import list_checkpoints, read_run_config
from cyclegan.storage.stop_request import RUN_LOCK
from cyclegan.system.arguments import real_path
from cyclegan.system.atomic import locked, write_bytes
from cyclegan.system.processes import is_one_of_several
from cyclegan.system.terminal import shell_quote
from cyclegan.training.checkpoint import load_checkpoint

_PATHS = ("a", "b", "test_a", "test_b", "init_from")


def check_place(out: Path, folders: Iterable[Path | None], *, fresh: bool) -> None:
    """Raise InputError if `out` cannot be a run directory: it holds other files, or lies in a folder of images."""
    place = real_path(out)
    for folder in folders:
        if folder is not None and (place == real_path(folder) or real_path(folder) in place.parents):
            raise InputError(
                f"{out} is inside the image folder {folder} and would become training data; choose another --out."
            )
    if out.is_dir() and not (out / "config.toml").is_file():
        # A session that was killed before it could begin leaves hidden files.
        foreign = [path.name for path in out.iterdir() if not path.name.startswith(".")]
        if foreign:
            hint = " --fresh moves only runs aside." if fresh else ""
            raise InputError(
                f"{out} exists and is not a run directory (it holds {foreign[0]}); choose another --out.{hint}"
            )


def move_aside(out: Path) -> Path | None:
    """Rename a run to the first free of `out`.old1, `out`.old2, ... Returns the new path, or None without a run.

    Raises InputError if a process is training there.
    """
    if not (out / "config.toml").is_file():
        return None
    with lock(out):
        pass
    out = real_path(out)
    number = 1
    while (aside := out.with_name(f"{out.name}.old{number}")).exists():
        number += 1
    out.rename(aside)
    return aside


def find_checkpoint(config: TrainConfig, resume: bool) -> Path | None:
    """Find the checkpoint to resume from, if `config.out` holds a run that this configuration may continue.

    resume: accept changed settings, except those of the networks.
    Raises InputError with the differences and the remedies.
    """
    out, run = config.out, read_run_config(config.out)
    if run is None:
        if resume:
            raise no_run(out)
        return None
    changes = {name: change for name, change in changes_of(run, config).items() if name not in CHANGEABLE_ON_RESUME}
    # The optimisers' state depends on what is frozen, and a resumed run does not start from another model again.
    fixed = changes.keys() & {*ModelConfig.model_fields, "freeze", "init_from"}
    if fixed if resume else changes:
        raise _other_settings(run, config, {name: changes[name] for name in (fixed if resume else changes)}, fixed)
    checkpoints = list_checkpoints(out)
    return checkpoints[0] if checkpoints else None


def no_run(out: Path) -> InputError:
    """The error for a directory that holds no run to resume."""
    return InputError(f"{out} holds no run to resume; leave out --resume to start one.")


def changes_of(run: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Old and new value of every setting, by its flat name, in which a configuration differs from that of a run.

    The run directory, which may have been moved, is none of them.
    """
    saved, given = flat_values(run), flat_values(config)
    for values in (saved, given):  # earlier releases kept relative paths
        paths = {name: values[name] for name in _PATHS if values[name] is not None and not is_address(values[name])}
        values |= {name: str(real_path(Path(path))) for name, path in paths.items()}
    return {name: (saved[name], given[name]) for name in sorted(given) if name != "out" and saved[name] != given[name]}


def _other_settings(
    run: TrainConfig, config: TrainConfig, changes: Mapping[str, tuple[Any, Any]], fixed: Iterable[str]
) -> InputError:
    """The error for changes that are refused, with its remedies. fixed: those that no resumed run may have."""
    out = config.out
    differences = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items())
    text = f"{out} holds a run with other settings: {differences}. "
    text += "To start anew: another --out, or --fresh (the old run is kept aside)"
    if "freeze" in fixed:
        text += f", or --init-from {out} with another --out to train these networks in another way"
    text += ". To continue: "
    if run.preset != config.preset and _come_from_preset(run, config, changes):
        text += f"pass --preset {run.preset}, with which it began, or "
    if run.a is None:  # on batches of a program
        return InputError(f"{text}use the old values{'' if fixed else ', or pass resume=True'}.")
    text += f"with the saved settings: {resume_command(run, out)}"
    if not fixed and _have_flags(changes):
        new = {name: new for name, (_, new) in changes.items()}
        text += f"; with the new ones: {resume_command(config, out, new)}"
    return InputError(text)  # a command that is copied must not end in a full stop


def _come_from_preset(run: TrainConfig, config: TrainConfig, changes: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether all changes are values of the two presets, so that the preset of the run undoes them."""
    sections, presets = field_sections(), (PRESETS.get(run.preset, {}), PRESETS.get(config.preset, {}))
    return all(
        [preset.get(name, sections[name].model_fields[name].default) for preset in presets] == [old, new]
        for name, (old, new) in changes.items()
    )


def _have_flags(changes: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether flags can make all these changes: a flag gives a value, and takes none back."""
    undone = {name for name, (_, new) in changes.items() if new is None} - LENGTHS
    return undone <= ({"b"} if "a" in changes else set()) | ({"load_size"} if "crop_size" in changes else set())


def resume_command(config: TrainConfig, out: Path, changes: Mapping[str, Any] | None = None) -> str:
    """The command that resumes the run in `out`, with some changes to its settings, by name.

    config: names the folders, if they are among the changes.
    """
    changes = changes or {}
    folders = [config.a, config.b] if changes.keys() & {"a", "b"} else []
    paths = [str(folder) for folder in folders if folder is not None]
    place = [f"--out={out}"] if str(out).startswith("-") else ["--out", str(out)]
    words = ["cyclegan", "train", *paths, *place, "--resume", *flags_of(changes)]
    several = "torchrun ... -m " if is_one_of_several() else ""
    return several + " ".join(map(shell_quote, words))


def how_to_resume(config: TrainConfig, **changes: Any) -> str:
    """The command that resumes a run, or the call if a program makes its batches."""
    if config.a is not None:
        return resume_command(config, config.out, changes)
    new = "".join(f", {name}={value!r}" for name, value in changes.items())
    return f"the same call of cyclegan.train with resume=True{new}"


def load_newest(out: Path, state: TrainState) -> tuple[Path, float, list[InputError]]:
    """Load the newest checkpoint that is not damaged, and rename newer ones to step_0000100.damaged and the like.

    Returns its path, its training time in seconds, and the errors of newer ones. Raises InputError if all are damaged.
    """
    damaged: dict[Path, InputError] = {}
    for checkpoint in list_checkpoints(out):
        try:
            seconds = load_checkpoint(checkpoint, state)
        except InputError as error:
            damaged[checkpoint] = error
            continue
        for newer in damaged:  # else they would count as the newest ones, which are kept
            with suppress(OSError):
                aside = newer.with_name(f"{newer.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                newer.rename(aside)
        return checkpoint, seconds, list(damaged.values())
    reason = f" ({next(iter(damaged.values()))})" if damaged else ""
    raise InputError(
        f"No checkpoint in {out} can be read{reason}; start anew with --fresh (the old run is kept aside)."
    )


def write_config(config: TrainConfig, indices: Mapping[Path, HeaderIndex], known: Mapping[Path, KnownImages]) -> None:
    """Write config.toml, which makes the directory a run, and the headers and names of its images for later sessions.

    Raises InputError if the directory cannot be written.
    """
    try:
        for path, index in indices.items():
            index.save(path)
        for path, images in known.items():
            images.save(path)
        write_bytes(config.out / "config.toml", to_toml(config).encode())
    except OSError as error:
        raise unwritable(config.out, error) from error


def unwritable(out: Path, error: OSError) -> InputError:
    """The error for a run directory that cannot be written."""
    remedy = remedy_of(error) or "choose another --out"
    return InputError(f"The run directory {out} cannot be written: {reason_of(error)}; {remedy}.")


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Lock a run directory for this process. The operating system releases the lock however the process ends."""
    with ExitStack() as stack:
        try:
            message = f"Another process is training in {out}; wait for it, or choose another --out."
            stack.enter_context(locked(out / RUN_LOCK, message))
        except OSError as error:
            raise unwritable(out, error) from error
        yield
