"""Set up a run in the order of its data: the settings, the images, the networks, the run directory."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from cyclegan._version import __version__
from cyclegan.config import READING_SETTINGS, TrainConfig, make_config, read_config_file, resumed_config
from cyclegan.errors import InputError
from cyclegan.images import remote
from cyclegan.images.pages import is_folder
from cyclegan.networks import check_output
from cyclegan.step.cuda_graphs import Step, make_step
from cyclegan.step.execution import Execution
from cyclegan.step.precision import resolve_precision
from cyclegan.step.sharing import Share
from cyclegan.step.state import TrainState
from cyclegan.storage.hub import is_address
from cyclegan.storage.model import ModelInfo, read_info
from cyclegan.storage.run import read_log, read_run_config
from cyclegan.storage.stop_request import withdraw_stop
from cyclegan.system.arguments import check_path, real_path
from cyclegan.system.atomic import remove_leftovers, restore
from cyclegan.system.devices import describe_device, resolve_device
from cyclegan.system.messages import Messages
from cyclegan.system.processes import Processes
from cyclegan.system.provenance import command_line, now, versions
from cyclegan.training.batch_source import BatchSource
from cyclegan.training.checkpoint import load_checkpoint, read_precision
from cyclegan.training.display import introduce
from cyclegan.training.events import Callback, Ended, Events, SessionStarted, status_after
from cyclegan.training.fine_tuning import check_formats, origin_of_start, settings_of_start, start_from
from cyclegan.training.loss_log import LossLog
from cyclegan.training.monitor import Monitor
from cyclegan.training.resume import (
    changes_of,
    find_checkpoint,
    load_newest,
    lock,
    move_aside,
    no_run,
    write_config,
)
from cyclegan.training.run_log import RunLog, UnreadableFiles
from cyclegan.training.saving import Saver
from cyclegan.training.schedule import Progress
from cyclegan.training.trackers import Trackers, check_trackers, open_trackers
from cyclegan.training.training_data import Batches, TrainingData, data_of_batches, data_of_folders
from cyclegan.training.turns import Turns

# ---- the settings


def resolve_settings(
    a: str | Path | TrainConfig | None,
    b: str | Path | None,
    *,
    preset: str | None,
    config_file: str | Path | None,
    resume: bool,
    fresh: bool,
    own_batches: bool,
    settings: Mapping[str, Any],
) -> TrainConfig:
    """The configuration for these arguments of `train`. Raises InputError for settings that cannot be used.

    own_batches: the caller makes the batches, so a run that is resumed no longer needs its folders.
    """
    if isinstance(a, TrainConfig):
        if b is not None or preset or config_file or settings:
            raise InputError(
                "A TrainConfig is complete; change it with config.replace(...) instead of other arguments."
            )
        return a
    layers = [] if config_file is None else [read_config_file(check_path("config_file", config_file))]
    given = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
    layers.append({**given, **settings})
    names = ("out", "init_from")
    named = {name: layer[name] for layer in layers for name in names if layer.get(name) is not None}
    named = {name: check_path(name, value) for name, value in named.items()}
    out = named.get("out", TrainConfig.model_fields["out"].default)
    if resume:
        saved = read_run_config(out)
        if saved is None:
            raise no_run(out)
        if own_batches:
            saved = saved.replace(a=None, b=None, test_a=None, test_b=None)
        config = resumed_config(saved, *layers, {"out": out}, preset=preset)
        for name in ("a", "b"):
            folder = getattr(config, name)
            if folder is not None and folder == getattr(saved, name) and not _is_there(folder):
                raise InputError(
                    f"{folder}, which this run was trained on, is gone; give its folders again, as for a new run."
                )
        return config
    # The same command resumes a run even if a newer release has another default preset, or precision in it.
    before = None if fresh else read_run_config(out)
    if before is not None:
        layers.insert(0, {"preset": before.preset, "precision": before.precision})
    if "init_from" in named:
        layers.insert(0, settings_of_start(named["init_from"], out))
    return make_config(*layers, preset=preset)


def _is_there(folder: Path) -> bool:
    return remote.is_address(folder) or is_folder(folder)


def prepare_machine(config: TrainConfig, processes: Processes) -> tuple[TrainConfig, torch.device, Share]:
    """Check the trackers, the device and the threads, and make paths absolute, so that a run finds its images again.

    Returns the share of a step that this process computes, too. Raises InputError before any image is read.
    """
    check_trackers(config)
    paths = {name: getattr(config, name) for name in ("a", "b", "test_a", "test_b", "init_from")}
    paths = {name: path for name, path in paths.items() if path is not None and not is_address(path)}
    paths = {name: path for name, path in paths.items() if not remote.is_address(path)}
    config = config.replace(**{name: real_path(path) for name, path in paths.items()})
    device = resolve_device(config.device, None if processes.size == 1 else processes.local_rank)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if processes.size > 1 and config.model.uses_batch_norm:
        raise InputError(
            f"With batch norm, whose statistics are of a whole batch, {processes.size} processes would train other "
            "networks than one; choose another --norm and --discriminator-norm, or start one process."
        )
    share = Share.of(processes, config.batch_size, config.share_by)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else every process also fills memory of the first GPU
    return config, device, share


# ---- the images


def prepare_data(
    config: TrainConfig,
    source: BatchSource | None,
    device: torch.device,
    share: Share,
    messages: Messages,
    *,
    fresh: bool,
) -> tuple[TrainConfig, TrainingData]:
    """Scan the images, find their value ranges and split them. Returns the configuration with the ranges.

    Raises InputError for images that cannot be used, and for a run directory inside a folder of images.
    """
    # A resumed run keeps the value ranges of its first session.
    if not fresh and (saved := read_run_config(config.out)) is not None:
        ranges = {name: getattr(config.data, name) or getattr(saved.data, name) for name in ("range_a", "range_b")}
        config = config.replace(data=config.data.replace(**ranges))
    if source is not None:
        data = data_of_batches(config, source, share, fresh=fresh)
    else:
        data = data_of_folders(config, device, share, messages, fresh=fresh)
    a, b = data.format_a, data.format_b
    return config.replace(data=config.data.replace(range_a=(a.low, a.high), range_b=(b.low, b.high))), data


# ---- the networks


@dataclass(frozen=True)
class Start:
    """A state at step 0 with random weights, or with those of the model that the run starts from.

    precision_reason: why the state is trained in its precision. origin: of that model, in words, or None.
    """

    state: TrainState
    precision_reason: str
    origin: str | None


def prepare_state(
    config: TrainConfig,
    data: TrainingData,
    device: torch.device,
    share: Share,
    messages: Messages,
    *,
    resume: bool,
    fresh: bool,
) -> Start:
    """Choose the precision, build the networks, and start from `init_from` if the run is new.

    Raises InputError for settings that the run in `out` may not be resumed with, and for a model that cannot be
    started from, before anything is written or moved.
    """
    # If another process trains there, say so before building networks.
    if share.processes.is_first and (config.out / "config.toml").is_file():
        with lock(config.out):
            pass
    checkpoint = None if fresh else find_checkpoint(config, resume)
    began_with = None if checkpoint is None else read_precision(config.out)
    choice = share.processes.from_first(
        resolve_precision(config, device, began_with=began_with) if share.processes.is_first else None
    )
    state = TrainState.create(config.replace(precision=choice.precision), device)
    if not share.is_whole:
        state.execution = Execution(state, share=share)
    _check_networks(state)
    origin = None
    if checkpoint is None and config.init_from is not None:
        notes = check_formats(config.init_from, data.format_a, data.format_b)
        for note in notes + start_from(state, config.init_from):
            messages.warning(note)
        origin = origin_of_start(config.init_from)
        kept = {name: value for name in READING_SETTINGS if (value := getattr(config.data, name)) is not None}
        how = "".join(f", {name} {value}" for name, value in kept.items())
        messages.info(f"Networks start from {config.init_from}{how and f'; files are read with {how[2:]}'}")
    return Start(state, choice.reason, origin)


def check_same_data(processes: Processes, config: TrainConfig, data: TrainingData) -> None:
    """Raise InputError in all processes if one was started with other settings, or sees other images."""
    settings = config.replace(device="auto", threads=None, workers=0).model_dump_json()
    processes.check_equal(
        settings, "Process {rank} was started with other settings than process 0; start all with the same command."
    )
    processes.check_equal(
        data.digest,
        "Process {rank} sees other images than process 0; put the folders, and --out if the run is resumed, on a disk "
        "that all processes share, or copy them to every machine.",
    )


def _check_networks(state: TrainState) -> None:
    """Run each network once on a small image, so that a wrong class of the user's shows before anything is written."""
    model = state.config.model
    a, b = (
        torch.zeros(1, channels, model.smallest_crop, model.smallest_crop, device=state.device)
        for channels in (model.channels_a, model.channels_b)
    )
    check_output(state.generator.a2b, a, model.channels_b, model.smallest_crop)
    check_output(state.generator.b2a, b, model.channels_a, model.smallest_crop)
    check_output(state.discriminator.a, a, 1, None)
    check_output(state.discriminator.b, b, 1, None)


# ---- the run directory


@dataclass(frozen=True)
class OpenRun:
    """A run that is ready to train.

    step: makes one training step. is_complete: the run had reached its length before this session.
    """

    config: TrainConfig
    state: TrainState
    step: Step
    turns: Turns
    data: TrainingData
    batches: Batches
    progress: Progress
    losses: LossLog
    events: Events
    unreadable: UnreadableFiles
    monitor: Monitor
    saver: Saver
    messages: Messages
    processes: Processes
    is_complete: bool


def open_run(
    config: TrainConfig,
    data: TrainingData,
    start: Start,
    messages: Messages,
    callbacks: Iterable[Callback],
    stack: ExitStack,
    *,
    resume: bool,
    fresh: bool,
) -> OpenRun:
    """Lock the run directory, load its newest checkpoint, and open what the run writes. `stack` closes it all.

    Raises InputError if another process trains there, or if it cannot be written.
    """
    # From here on no other training may use the directory.
    out, state, processes = config.out, start.state, start.state.execution.share.processes
    if processes.is_first:
        if fresh and (aside := move_aside(out)) is not None:
            messages.info(f"The earlier run in {out} was moved to {aside}.")
        stack.enter_context(lock(out))
        withdraw_stop(out)
        stack.callback(withdraw_stop, out)
        for name in ("best", "model"):
            restore(out / name, is_locked=True)
        for folder in (out, out / "checkpoints", out / "models", out / "samples"):
            remove_leftovers(folder)
    processes.from_first()  # which has made way

    # Resume. Another training may have used the directory in the meantime.
    checkpoint, seconds, origin = find_checkpoint(config, resume), 0.0, start.origin
    before = read_run_config(out)
    changes = {} if before is None else changes_of(before, config)
    if changes:
        shown = ", ".join(f"{name}: {_show(old)} -> {_show(new)}" for name, (old, new) in changes.items())
        messages.info(f"Changed since the last session: {shown}")
        if read_by := [name for name in READING_SETTINGS if name in changes]:
            messages.warning(
                f"{' and '.join(read_by)} changed, so the networks go on with other images of the same files. Scores "
                f"of earlier steps do not compare with later ones. The ranges of values stay {data.format_a.low:g} to "
                f"{data.format_a.high:g} (A) and {data.format_b.low:g} to {data.format_b.high:g} (B): --range-a and "
                "--range-b set them."
            )
    if checkpoint is not None:
        with processes.together():
            if processes.is_first:
                checkpoint, seconds, damaged = load_newest(out, state)
                for error in damaged:
                    messages.warning(f"Skipped, and {checkpoint.name} is used instead: {error}")
        checkpoint, seconds = processes.from_first((checkpoint, seconds))
        if not processes.is_first:
            load_checkpoint(checkpoint, state)
        origin = read_info(checkpoint / "model").origin
    elif before is not None:
        trained = max((line.get("step", 0) for line in read_log(out / "log.jsonl")), default=0)
        if trained > 0:
            messages.warning(f"{out} holds no checkpoint, although step {trained:,} was trained: the run begins again.")
    batches = data.begin(state.step)
    progress = Progress(config, state, batches.steps_per_epoch, seconds, batches.epochs_before)
    is_complete = progress.share >= 1
    if not is_complete and processes.is_first:
        write_config(config, data.indices, batches.known)

    # Open what records the events, in the first process.
    events, past = Events(callbacks if processes.is_first else ()), []
    if processes.is_first:
        log = RunLog(out, state.step, messages, stack)
        trackers = Trackers(messages) if is_complete else open_trackers(config, state.step, messages, stack)
        events.recorders += [log.record, trackers.record]
        past = log.past
    stack.push(partial(_end, events, progress, messages))

    # Make what watches and saves the run.
    info = _describe(config, data, state.step, origin)
    unreadable = UnreadableFiles(events, messages, past)
    monitor = Monitor(
        config=config,
        state=state,
        info=info,
        samples=data.samples,
        validation=data.validation,
        past=past,
        events=events,
        unreadable=unreadable,
        messages=messages,
        progress=progress,
        processes=processes,
    )
    events.recorders.append(monitor.record)
    losses = LossLog(progress, events)
    saved_step = -1 if checkpoint is None else state.step
    saver = Saver(config, state, info, progress, losses, events, saved_step, processes)

    run = OpenRun(
        config=config,
        state=state,
        step=make_step(state),
        turns=Turns(processes),
        data=data,
        batches=batches,
        progress=progress,
        losses=losses,
        events=events,
        unreadable=unreadable,
        monitor=monitor,
        saver=saver,
        messages=messages,
        processes=processes,
        is_complete=is_complete,
    )
    if not is_complete:
        _begin(run, start, checkpoint, changes)
    return run


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def _begin(run: OpenRun, start: Start, checkpoint: Path | None, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Publish the start of the session, and show what it trains."""
    state, validation = run.state, run.data.validation
    run.events.publish(
        SessionStarted(
            state.step,
            config=run.config,
            time=now(),
            command=command_line(),
            versions=versions(),
            device=describe_device(state.device),
            precision=state.config.precision,
            held_out=None if validation is None else validation.files.digest,
            changes=changes,
            images=run.data.changes,
        )
    )
    for line in run.data.changes:
        run.messages.warning(line)
    for line in run.data.description:
        run.messages.info(line)
    if state.config.compile:
        run.messages.info("The first steps compile the networks, which takes minutes; later runs find what they made.")
    run.unreadable.report_all(run.data.unreadable, state.step)
    introduce(state, run.progress, run.messages, precision_reason=start.precision_reason, checkpoint=checkpoint)


def _describe(config: TrainConfig, data: TrainingData, step: int, origin: str | None) -> ModelInfo:
    """The model of the run, as its config.json describes it."""
    return ModelInfo(
        cyclegan_version=__version__,
        model=config.model,
        a=data.format_a,
        b=data.format_b,
        preprocess=config.data.preprocess,
        load_size=config.data.resolved_load_size,
        crop_size=config.data.crop_size,
        step=step,
        translate_with=config.translate_with,
        origin=origin,
    )


def _end(
    events: Events,
    progress: Progress,
    messages: Messages,
    kind: type[BaseException] | None,
    error: BaseException | None,
    _trace: TracebackType | None,
) -> None:
    """Publish the end of the session, and deliver it with all events that are still waiting."""
    events.publish(Ended(progress.step, progress.seconds, status_after(kind), error))
    while True:
        try:
            events.deliver()
            return
        except Exception as late:
            if error is None:
                raise
            # The error that ended the run must not be hidden by a later one.
            messages.warning(f"A callback failed: {type(late).__name__}: {late}")
