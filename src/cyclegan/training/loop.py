"""Train both translators: set up, resume, loop, save."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cyclegan.config import TrainConfig
from cyclegan.data.dataset import Batch
from cyclegan.data.loader import leave_if_loading
from cyclegan.errors import InputError, TrainingError
from cyclegan.report.run import write_run_report
from cyclegan.step.state import set_learning_rate
from cyclegan.storage.stop_request import is_stop_requested
from cyclegan.system.arguments import check_bool
from cyclegan.system.host_state import host_state
from cyclegan.system.json_files import shown
from cyclegan.system.messages import Messages
from cyclegan.system.processes import OtherEndedError, joined_processes
from cyclegan.system.progress import show_progress
from cyclegan.system.signals import AnnouncedStop, stop_signals
from cyclegan.system.terminal import shell_quote
from cyclegan.training.batch_source import BatchSource
from cyclegan.training.checkpoint import last_good_checkpoint, remove_old_checkpoints, writing
from cyclegan.training.display import progress_line
from cyclegan.training.events import Callback, StepDone
from cyclegan.training.resume import how_to_resume
from cyclegan.training.schedule import cycle_factor_at, learning_rate_at
from cyclegan.training.setup import (
    OpenRun,
    check_same_data,
    open_run,
    prepare_data,
    prepare_machine,
    prepare_state,
    resolve_settings,
)


@host_state()
def train(
    a: str | Path | TrainConfig | None = None,
    b: str | Path | None = None,
    *,
    preset: str | None = None,
    config_file: str | Path | None = None,
    batches: BatchSource | None = None,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    fresh: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Path:
    """Train a run, or resume one that was interrupted. Returns the run directory.

    a, b: two folders of images, or one root that holds both, or a complete TrainConfig.
    settings: any setting of TrainConfig, ModelConfig or DataConfig by its name. They override those of config_file,
    which override those of the model `init_from`, which override those of preset; with resume, those of the run.
    preset: by default that of the run in `out`. A new run has modern; with `init_from`, the preset of that model's run,
    or paper if its networks have no global skip.
    batches: makes the batch of each step, instead of folders; see `cyclegan.training.batch_source.BatchSource`. Such a
    run is resumed exactly only if batches depend on the step alone, and it has no validation scores and no best/.
    callbacks: functions that are called with every event of `cyclegan.training.events` (`StepDone`, `LossesLogged`,
    `SnapshotSaved`, `Scored`, `CheckpointSaved`, `Ended`, ...), between steps and in order. If one raises, the run
    saves a checkpoint, ends, and raises the same exception; the same call without it then resumes the run.
    resume: continue the run in `out` with its saved settings, folders included, and with those that are given here,
    except settings of the networks. Every change is shown. Without it, an `out` that holds a run of the same
    configuration is resumed exactly.
    fresh: move what is in `out` aside and start anew.
    quiet: print nothing. Messages also go to the logger `cyclegan.training`, quiet or not.

    The process stays as it was, but for what `cyclegan.system.host_state` lists.
    Raises InputError for input that cannot be used, TrainingError if the run had to stop, and KeyboardInterrupt after
    Ctrl-C, SIGTERM or SIGHUP, when everything is saved. Called in the main thread, it handles these signals while it
    trains, except SIGTERM and SIGHUP that are ignored; before and after the handlers of the host program hold.
    """
    leave_if_loading()
    resume, fresh, quiet = check_bool("resume", resume), check_bool("fresh", fresh), check_bool("quiet", quiet)
    if resume and fresh:
        raise InputError("resume and fresh exclude each other; pass one of them.")
    config = resolve_settings(
        a,
        b,
        preset=preset,
        config_file=config_file,
        resume=resume,
        fresh=fresh,
        own_batches=batches is not None,
        settings=settings,
    )
    if not isinstance(callbacks, Sequence) or not all(callable(callback) for callback in callbacks):
        raise InputError(f"callbacks is {shown(callbacks)}; expected a list of functions of one event.")
    with ExitStack() as stack:
        processes = stack.enter_context(joined_processes(config.device))
        messages = Messages("training", quiet=quiet or not processes.is_first)
        # Set up, in the order of the data: images, networks, run directory.
        with processes.together():
            config, device, share = prepare_machine(config, processes)
        with processes.together():
            config, data = prepare_data(config, batches, device, share, messages, fresh=fresh)
        check_same_data(processes, config, data)
        with processes.together():
            start = prepare_state(config, data, device, share, messages, resume=resume, fresh=fresh)
        with processes.together():
            run = open_run(config, data, start, messages, callbacks, stack, resume=resume, fresh=fresh)
        stack.callback(run.state.close)

        # Train, unless the run has reached its length.
        if run.is_complete:
            messages.info(
                f"This run is complete: {run.state.step} steps. To start anew: the command that began it, and --fresh. "
                f"To train twice as long: {_longer(run)}"
            )
            _finish(run)
        else:
            _train(run)
        _deliver(run)
        processes.from_first()  # which has written everything
    return config.out


def _train(run: OpenRun) -> None:
    """Train to the end of the run, or until it is interrupted, and save."""
    state, out, messages = run.state, run.config.out, run.messages
    try:
        with stop_signals(quiet=not run.processes.is_first) as interrupted:
            stopped = _stopped(run, interrupted)
            _loop(run, stopped)
            run.saver.save_checkpoint()
            if run.turns.stopped or (run.processes.size == 1 and stopped()):
                with writing(out, state.step):
                    run.monitor.write_page()
                messages.info(f"Stopped and saved after step {state.step}. To continue: {how_to_resume(run.config)}")
                raise AnnouncedStop
        _finish(run)
    except Exception as error:
        run.turns.leave()
        if not isinstance(error, TrainingError):
            raise
        # The page shows what happened. A full disk may prevent it, but has been reported already.
        with suppress(OSError):
            if run.processes.is_first:
                write_run_report(out)
        if isinstance(error, OtherEndedError):
            end = f"{last_good_checkpoint(out)} To continue: {how_to_resume(run.config)}"
            raise TrainingError(f"{error} {end}") from None
        raise
    messages.info(f"Done: {state.step} steps in {run.progress.seconds / 60:.1f} minutes of training.")
    run.monitor.show_best()
    messages.info(f"Page: {out / 'report.html'}")
    messages.info(f"Translate with: cyclegan translate {shell_quote(out)} IMAGES --out FOLDER --direction a2b")


def _stopped(run: OpenRun, interrupted: Callable[[], bool]) -> Callable[[], bool]:
    """A function that says whether a signal has come, or a request in the run directory, where the first process looks.

    Once a second, because a step may be shorter than a look at a disk of the network.
    """
    last_look, is_asked = time.monotonic(), False

    def stopped() -> bool:
        nonlocal last_look, is_asked
        now = time.monotonic()
        if run.processes.is_first and not is_asked and now - last_look >= 1:
            last_look, is_asked = now, is_stop_requested(run.config.out)
            if is_asked:
                run.messages.info("Asked to stop: finishing this step and saving.")
        return is_asked or interrupted()

    return stopped


def _longer(run: OpenRun) -> str:
    """What makes a complete run twice as long, in the unit of its length."""
    config, progress = run.config, run.progress
    done = {"minutes": progress.seconds / 60, "steps": progress.step, "epochs": progress.epoch or 0.0}
    (unit, length), *_ = ((name, value) for name in done if (value := getattr(config, name)) is not None)
    longer = 2 * length if 2 * length > done[unit] else 2 * done[unit]
    return how_to_resume(config, **{unit: math.ceil(longer)})


def _loop(run: OpenRun, stopped: Callable[[], bool]) -> None:
    """Train step by step, and after each step write what is due: log, snapshot, model, checkpoint."""
    config, state, progress, saver = run.config, run.state, run.progress, run.saver
    progress.start_clock()
    with (
        show_progress(
            run.messages.console, lambda: progress.share, lambda: progress_line(progress, run.losses)
        ) as show,
        closing(run.batches.load(state.step)) as batches,
    ):
        _deliver(run)
        while (rates := run.turns.begin(partial(_rates, run), stop=stopped())) is not None:
            # Update the networks.
            batch = _next_batch(run, batches)
            learning_rate, cycle_factor = rates
            set_learning_rate(state, learning_rate)
            state.execution.cycle_factor.fill_(cycle_factor)
            real_a, real_b, mask_a, mask_b = (
                None if x is None else x.to(state.device, non_blocking=True)
                for x in (batch.a, batch.b, batch.mask_a, batch.mask_b)
            )
            assert real_a is not None
            assert real_b is not None
            before = set(state.domains_with_holes)
            losses = run.step(state, real_a, real_b, mask_a=mask_a, mask_b=mask_b)
            run.losses.add(state.step, losses, learning_rate)
            run.events.publish(StepDone(state.step, MappingProxyType(losses), learning_rate))

            # Write what is due. The checkpoint comes last, so that a resumed run repeats what a kill has prevented.
            if state.step % config.log_steps == 0:
                run.losses.publish()
            if state.step % config.sample_steps == 0:
                _snapshot(run)
            if saver.epoch_model_is_due():
                saver.save_epoch_model()
            if saver.checkpoint_is_due():
                saver.save_checkpoint()

            # Show it, and call the callbacks.
            progress.report_standstill(run.messages)
            for path, reason in batch.unreadable:
                run.unreadable.report(path, reason, state.step)
            for domain in sorted(state.domains_with_holes - before):
                run.messages.info(f"Images of {domain.upper()} have holes (no data). They count in no loss.")
            show()
            _deliver(run)


def _rates(run: OpenRun) -> tuple[float, float] | None:
    """The learning rate and the cycle factor of the next step; None at the end of the run."""
    config, progress = run.config, run.progress
    if progress.share >= 1:
        return None
    return learning_rate_at(config, *progress.position), cycle_factor_at(config, *progress.position)


def _next_batch(run: OpenRun, batches: Iterator[Batch]) -> Batch:
    """The next batch. If none comes any more, because a loading process has ended, save a checkpoint first."""
    try:
        return run.turns.exchange(lambda: next(batches))
    except TrainingError as error:
        run.saver.save_checkpoint()
        raise TrainingError(
            f"{error} The run is saved after step {run.state.step}. To continue: {how_to_resume(run.config)}"
        ) from None


def _snapshot(run: OpenRun, *, last: bool = False) -> None:
    """Write the sample grid and the scores of this step. The speed that is shown leaves their time out."""
    started = run.progress.seconds
    run.saver.check_weights()
    with writing(run.config.out, run.state.step):
        run.monitor.save_samples()
        run.monitor.score(last=last)
    run.losses.exclude(run.progress.seconds - started)


def _finish(run: OpenRun) -> None:
    """Write what comes after the last checkpoint. If a session is stopped here, the next one writes it."""
    run.saver.save_model(unless_current=run.is_complete)
    if run.processes.is_first:
        remove_old_checkpoints(run.config.out, run.config.keep_checkpoints)
    if run.processes.from_first(run.monitor.scored_at < run.state.step):
        _snapshot(run, last=True)
    with writing(run.config.out, run.state.step):
        run.monitor.write_page()


def _deliver(run: OpenRun) -> None:
    """Deliver the events of a step. If a callback raises, save a checkpoint and the page first: no step is lost."""
    try:
        run.events.deliver()
    except BaseException:
        run.turns.leave()
        run.saver.save_checkpoint()
        with writing(run.config.out, run.state.step):
            run.monitor.write_page()
        raise
