"""Check a run directory before a session, lock it, and find the checkpoint to resume from."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cyclegan.config import CHANGEABLE_ON_RESUME, ModelConfig, TrainConfig, flat_values, to_toml
from cyclegan.errors import InputError, reason_of, remedy_of
from cyclegan.images.headers import HeaderIndex
from cyclegan.step.state import TrainState
from cyclegan.storage.hub import is_address
from cyclegan.storage.run import list_checkpoints, read_run_config
from cyclegan.system.atomic import locked, write_bytes
from cyclegan.training.checkpoint import load_checkpoint

_PATHS = ("a", "b", "test_a", "test_b", "init_from")


def check_place(out: Path, folders: Iterable[Path | None], *, fresh: bool) -> None:
    """Raise InputError if `out` cannot be a run directory: it holds other files, or lies in a folder of images."""
    place = out.resolve()
    for folder in folders:
        if folder is not None and (place == folder.resolve() or folder.resolve() in place.parents):
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
    out = out.resolve()
    number = 1
    while (aside := out.with_name(f"{out.name}.old{number}")).exists():
        number += 1
    out.rename(aside)
    return aside


def find_checkpoint(config: TrainConfig, resume: bool) -> Path | None:
    """Find the checkpoint to resume from, if `config.out` holds a run that this configuration may continue.

    resume: require a run, and accept changed settings, except those of the networks.
    Raises InputError with the differences and the remedies.
    """
    out, run = config.out, read_run_config(config.out)
    if run is None:
        if resume:
            raise InputError(f"{out} holds no run to resume; leave out --resume to start one.")
        return None
    saved, given = flat_values(run), flat_values(config)
    for values in (saved, given):  # earlier releases kept relative paths
        paths = {name: values[name] for name in _PATHS if values[name] is not None and not is_address(values[name])}
        values |= {name: str(Path(path).resolve()) for name, path in paths.items()}
    changed = {name for name in given if saved[name] != given[name] and name not in CHANGEABLE_ON_RESUME}
    # The optimisers' state depends on what is frozen, and a resumed run does not start from another model again.
    networks = changed & {*ModelConfig.model_fields, "freeze", "init_from"}
    refused = networks if resume else changed
    if refused:
        differences = ", ".join(f"{name} {saved[name]} -> {given[name]}" for name in sorted(refused))
        remedies = "use the old values, another --out, or --fresh to start anew (the old run is kept aside)"
        if run.preset != config.preset:
            remedies = f"pass --preset {run.preset}, with which it began, or {remedies}"
        if "freeze" in networks:
            remedies += f", or --init-from {out} with another --out to train these networks in another way"
        if not networks:
            remedies += ", or --resume to continue with the changed values"
        raise InputError(f"{out} holds a run with other settings: {differences}. To continue: {remedies}.")
    checkpoints = list_checkpoints(out)
    return checkpoints[0] if checkpoints else None


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


def write_config(config: TrainConfig, indices: Mapping[Path, HeaderIndex]) -> None:
    """Write config.toml, which makes the directory a run, and the headers of its images for later sessions.

    Raises InputError if the directory cannot be written.
    """
    try:
        for path, index in indices.items():
            index.save(path)
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
            stack.enter_context(locked(out / ".lock", message))
        except OSError as error:
            raise unwritable(out, error) from error
        yield
