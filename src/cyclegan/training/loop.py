"""Train the two translators: resolve the configuration, build or resume, loop, log, save."""

import math
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from cyclegan._version import __version__
from cyclegan.config import TrainConfig, make_config, read_config_file
from cyclegan.data.dataset import UnpairedDataset
from cyclegan.data.domains import find_folders
from cyclegan.data.image_folder import ImageFolder, scan_folder
from cyclegan.data.loader import batches
from cyclegan.data.splits import HeldOut, choose_held_out
from cyclegan.errors import InputError, TrainingError
from cyclegan.images.headers import HeaderIndex
from cyclegan.networks import count_parameters
from cyclegan.report.run import write_run_report
from cyclegan.step.cuda_graphs import Step, make_step
from cyclegan.step.precision import Choice, resolve_precision
from cyclegan.step.state import TrainState, set_learning_rate
from cyclegan.step.terms import active_terms, first_non_finite, reported_losses
from cyclegan.storage.hub import is_address
from cyclegan.storage.model import ModelInfo, read_info, save_model
from cyclegan.storage.run import list_checkpoints, read_run_config
from cyclegan.system.devices import describe_device, resolve_device
from cyclegan.system.progress import show_progress, stop_signals
from cyclegan.system.provenance import command_line, now, versions
from cyclegan.training.checkpoint import generator_weights, read_precision, save_checkpoint
from cyclegan.training.fine_tuning import check_formats, origin_of_start, settings_of_start, start_from
from cyclegan.training.monitor import Monitor
from cyclegan.training.resume import check_place, find_checkpoint, load_newest, lock, move_aside, write_config
from cyclegan.training.run_log import RunLog
from cyclegan.training.schedule import cycle_factor_at, learning_rate_at
from cyclegan.training.trackers import check_trackers
from cyclegan.training.validation import Validation


def train(
    a: str | Path | TrainConfig | None = None,
    b: str | Path | None = None,
    *,
    preset: str | None = None,
    config_file: str | Path | None = None,
    resume: bool = False,
    fresh: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Path:
    """Train, or go on with a run that was interrupted; returns the run directory.

    a, b: the two folders, or one root, or a whole TrainConfig. settings: any setting of TrainConfig, ModelConfig or
    DataConfig by its name, over those of config_file, over those of the model init_from, over those of preset. preset:
    by default that of the run that `out` holds; else modern, with init_from that of the model's run, or paper if its
    networks have no global skip. An
    `out` that holds a run of the same configuration is resumed, exactly. resume: there must be one, and changed
    settings are taken over (not those of the networks). fresh: move what is there aside and start anew.
    Raises InputError for input that cannot be used, TrainingError if the run had to stop, KeyboardInterrupt after
    Ctrl-C, when everything has been saved.
    """
    if isinstance(a, TrainConfig):
        if b is not None or preset or config_file or settings:
            raise InputError(
                "A TrainConfig is complete; change it with config.replace(...) instead of other arguments."
            )
        config = a
    else:
        layers = [read_config_file(Path(config_file))] if config_file else []
        given = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
        layers.append({**given, **settings})
        start = next((layer["init_from"] for layer in reversed(layers) if layer.get("init_from")), None)
        default = TrainConfig.model_fields["out"].default
        out = Path(next((layer["out"] for layer in reversed(layers) if layer.get("out")), default))
        # The same command goes on with a run, also where the default preset is another one by now.
        before = None if fresh else read_run_config(out)
        if before is not None:
            layers.insert(0, {"preset": before.preset})
        if start is not None:
            layers.insert(0, settings_of_start(Path(start), out))
        config = make_config(*layers, preset=preset)
    if resume and fresh:
        raise InputError("resume and fresh exclude each other; pass one of them.")
    console = Console(stderr=True, quiet=quiet, highlight=False, markup=False, soft_wrap=True)
    with ExitStack() as stack:
        return _Run.open(config, console, stack, resume=resume, fresh=fresh).train()


@dataclass
class _Run:
    """One run directory while it is being trained."""

    config: TrainConfig
    state: TrainState
    step: Step
    dataset: UnpairedDataset
    info: ModelInfo
    samples: HeldOut
    console: Console
    num_held_out: tuple[int, int]
    # Both are there once a session has begun.
    log: RunLog | None = None
    monitor: Monitor | None = None
    # Whether it had reached its length before this session.
    complete: bool = False
    # Training time of earlier sessions, and when this one began.
    seconds_before: float = 0.0
    started: float | None = None
    # Losses that nobody has looked at yet.
    pending: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    # Step and training time of the newest checkpoint.
    saved_at: tuple[int, float] = (-1, 0.0)
    # What the progress line shows: where this session began, and the means of the last log line.
    share_before: float = 0.0
    logged_seconds: float = 0.0
    learning_rate: float = 0.0
    speed: float = 0.0
    means: dict[str, float] = field(default_factory=dict)

    # ---- opening

    @classmethod
    def open(cls, config: TrainConfig, console: Console, stack: ExitStack, *, resume: bool, fresh: bool) -> "_Run":
        """Check everything that can be wrong, before hours are spent. What must be closed again goes on `stack`."""
        if config.a is None:
            raise InputError("No folder of images was given; pass two folders, or one that holds trainA and trainB.")
        check_trackers(config)
        # A run must find its images again from wherever it is looked at.
        places = {name: getattr(config, name) for name in ("a", "b", "test_a", "test_b", "init_from")}
        places = {name: path for name, path in places.items() if path is not None and not is_address(path)}
        config = config.replace(**{name: path.resolve() for name, path in places.items()})
        device = resolve_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        out = config.out

        # The images. A run that goes on keeps the value ranges that it found when it began.
        assert config.a is not None
        folders = find_folders(config.a, config.b, config.test_a, config.test_b)
        check_place(out, folders, fresh=fresh)
        data = config.data
        if not fresh and (saved := read_run_config(out)) is not None:
            data = data.replace(range_a=data.range_a or saved.data.range_a, range_b=data.range_b or saved.data.range_b)
        # What is known of a million files need not be read from them again.
        indices = {path: HeaderIndex.load(path) for path in (out / ".headers_a.npz", out / ".headers_b.npz")}
        index_a, index_b = indices.values()
        with console.status("Looking at the images ...") as status:

            def tell(count: int) -> None:
                status.update(f"Looking at the images ... {count:,}")

            a = scan_folder(folders.a, config.model.channels_a, data.range_a, data, index=index_a, on_files=tell)
            b = scan_folder(folders.b, config.model.channels_b, data.range_b, data, index=index_b, on_files=tell)
        ranges = {"range_a": (a.image_format.low, a.image_format.high)}
        ranges |= {"range_b": (b.image_format.low, b.image_format.high)}
        config = config.replace(data=data.replace(**ranges))
        found = len(a), len(b)
        a, b, samples, scored = choose_held_out(config, folders, a, b)

        # The state. What is wrong with the model that it starts from shows before anything is moved.
        if (out / "config.toml").is_file():  # another process in it is told before networks are built
            with lock(out):
                pass
        checkpoint = None if fresh else find_checkpoint(config, resume)
        choice = resolve_precision(
            config, device, began_with=read_precision(checkpoint) if checkpoint is not None else None
        )
        resolved = config.replace(precision=choice.precision)
        state = TrainState.create(resolved, device)
        seconds, origin = 0.0, None
        if checkpoint is None and config.init_from is not None:
            notes = check_formats(config.init_from, a.image_format, b.image_format)
            for note in notes + start_from(state, config.init_from):
                console.print(note, style="yellow")
            origin = origin_of_start(config.init_from)
            console.print(f"Networks start from {config.init_from}")

        # The run directory.
        if fresh and (aside := move_aside(out)) is not None:
            console.print(f"What was in {out} is now in {aside}.")
        stack.enter_context(lock(out))
        checkpoint = find_checkpoint(config, resume and not fresh)  # another process may have been here meanwhile
        if checkpoint is not None:
            checkpoint, seconds, damaged = load_newest(out, state)
            origin = read_info(checkpoint / "model").origin
            for error in damaged:
                console.print(f"Passed over: {error}", style="yellow")

        info = ModelInfo(
            cyclegan_version=__version__,
            model=config.model,
            a=a.image_format,
            b=b.image_format,
            preprocess=config.data.preprocess,
            load_size=config.data.resolved_load_size,
            crop_size=config.data.crop_size,
            step=state.step,
            translate_with=config.translate_with,
            origin=origin,
        )
        dataset = UnpairedDataset(
            a,
            b,
            config.data,
            config.model,
            config.batch_size,
            config.seed,
            cache_bytes=int(config.data.cache_gib * 2**30),
        )
        held_out = found[0] - len(a), found[1] - len(b)
        run = cls(config, state, make_step(state), dataset, info, samples, console, held_out, seconds_before=seconds)
        run.complete = run._share() >= 1
        if not run.complete:
            write_config(config, indices)
        run.log = log = RunLog(config, state.step, console, stack, track=not run.complete)
        validation = Validation(config, scored, a, b, device) if config.num_validation > 0 else None
        run.monitor = Monitor(config, state, info, samples, validation, log, console, run._seconds)
        run.saved_at = (state.step if checkpoint is not None else -1, seconds)
        if run.complete:
            return run
        session: dict[str, Any] = {"device": describe_device(device), "precision": choice.precision}
        session |= {"held_out": scored.digest if validation is not None else None}
        log.write(
            {"event": "session", "step": state.step, "time": now(), "command": command_line(), **versions(), **session}
        )
        run._introduce(a, b, checkpoint, device, choice)
        if validation is not None:
            held = len(scored.a), len(scored.b)
            console.print(f"Scores: from {held[0]} images of A and {held[1]} of B, {scored.origin}")
        return run

    def _introduce(
        self, a: ImageFolder, b: ImageFolder, checkpoint: Path | None, device: torch.device, choice: Choice
    ) -> None:
        config, say = self.config, self.console.print
        for name, folder, held in (("A", a, self.num_held_out[0]), ("B", b, self.num_held_out[1])):
            apart = f", and {held} held out" if held else ""
            say(f"{name}: {len(folder)} images to train on{apart}, in {folder.root} ({folder.image_format})")
            for path, reason in folder.unreadable:
                self._report_unreadable(str(path), reason)
        for path, reason in self.samples.unreadable:
            self._report_unreadable(str(path), reason)
        say(f"Samples: {len(self.samples.a)} images of A and {len(self.samples.b)} of B, {self.samples.origin}")
        generator, discriminator = self.state.generator.a2b, self.state.discriminator.a
        say(
            f"Networks: {config.model.generator} generators with {count_parameters(generator):,} parameters each, "
            f"{config.model.discriminator} discriminators with {count_parameters(discriminator):,}"
        )
        if config.freeze != "none":
            parts = {"encoder": "the generators' encoders", "discriminator": "the discriminators' first layers"}
            parts["both"] = f"{parts['encoder']} and {parts['discriminator']}"
            say(f"Frozen, as {config.init_from} gave them: {parts[config.freeze]}")
        say(f"Preset {config.preset}: {_describe_weights(config)}")
        if config.identity_weight > 0 and not config.uses_identity:
            say(
                f"No identity term: domain A has {config.model.channels_a} channels, "
                f"domain B has {config.model.channels_b}"
            )
        if config.minutes is not None:
            length = (
                f"{config.minutes:g} minutes; the {config.schedule} schedule follows the clock's share, not the steps"
            )
        elif config.steps is not None:
            length = f"{config.steps} steps"
        else:
            assert config.epochs is not None
            length = f"{config.epochs:g} epochs, {self._total_steps} steps"
        say(f"Length: {length}. Device: {describe_device(device)}. Seed: {config.seed}")
        layout = ""
        if device.type == "cpu" and torch.get_num_threads() > 1:
            at_once = self.state.execution.two_threads.side_by_side
            layout = "; both directions at once" if at_once else "; one direction after the other"
        say(f"Precision: {choice.precision}, {choice.reason}{layout}")
        say(f"Run directory: {config.out}")
        if checkpoint is not None:
            say(f"Going on after step {self.state.step} from {checkpoint}")

    # ---- the loop

    def train(self) -> Path:
        """Train to the end of the run; saves on the way, and when it is interrupted."""
        config, state = self.config, self.state
        monitor = self.monitor
        assert monitor is not None
        if self.complete:
            self.console.print(
                f"This run is complete: {state.step} steps. To train longer: --resume with a greater length; "
                "to start anew: --fresh."
            )
            self._finish()
            return config.out

        self.logged_seconds, self.share_before = self.seconds_before, self._share()
        self.started = time.monotonic()
        try:
            with (
                stop_signals() as stopped,
                show_progress(self.console, self._share, self._status) as show,
                closing(
                    batches(self.dataset, state.step, config.workers, pin_memory=state.device.type == "cuda")
                ) as source,
            ):
                while self._share() < 1 and not stopped():
                    batch = next(source)
                    self._one_step(batch.a, batch.b)
                    for path, reason in batch.unreadable:
                        self._report_unreadable(path, reason)
                    show()
            self._save_checkpoint()
            if self._share() < 1:
                with self._disk():
                    monitor.write_page()
                self.console.print(f"Stopped and saved after step {state.step}. To go on, run the same command again.")
                raise KeyboardInterrupt
            self._finish()
        except TrainingError:
            # The page then shows what happened; a full disk does not take it, and has been told.
            with suppress(OSError):
                write_run_report(config.out)
            raise
        self.console.print(f"Done: {state.step} steps in {self._seconds() / 60:.1f} minutes of training.")
        monitor.tell_best()
        self.console.print(f"Page: {config.out / 'report.html'}")
        out = shlex.quote(str(config.out))
        self.console.print(f"Translate with: cyclegan translate {out} IMAGES --out FOLDER --direction a2b")
        return config.out

    def _finish(self) -> None:
        """What comes after the last checkpoint; a session that was stopped here is made up for by the next one."""
        monitor = self.monitor
        assert monitor is not None
        self._save_model()
        if monitor.scored_at < self.state.step:
            self._snapshot(last=True)
        with self._disk():
            monitor.write_page()

    def _one_step(self, real_a: Tensor, real_b: Tensor) -> None:
        config, state = self.config, self.state
        self.learning_rate = learning_rate_at(config, *self._position())
        set_learning_rate(state, self.learning_rate)
        state.execution.cycle_factor.fill_(cycle_factor_at(config, *self._position()))
        losses = self.step(
            state, real_a.to(state.device, non_blocking=True), real_b.to(state.device, non_blocking=True)
        )
        self.pending.append((state.step, losses))

        if state.step % config.log_steps == 0:
            self._write_log()
        if state.step % config.sample_steps == 0:
            self._snapshot()
        if config.model_epochs and state.step % (config.model_epochs * self.dataset.steps_per_epoch) == 0:
            self._keep_model()
        # After the kept model: one that a kill prevents is then made up for.
        _, seconds = self.saved_at
        if state.step % config.checkpoint_steps == 0 or self._seconds() - seconds > 60 * config.checkpoint_minutes:
            self._save_checkpoint()

    def _seconds(self) -> float:
        """Training time so far, that of earlier sessions included."""
        return self.seconds_before + (time.monotonic() - self.started if self.started is not None else 0.0)

    @property
    def _total_steps(self) -> int:
        assert self.config.minutes is None
        if self.config.steps is not None:
            return self.config.steps
        assert self.config.epochs is not None
        return math.ceil(self.config.epochs * self.dataset.steps_per_epoch)

    def _share(self) -> float:
        """Share of the run that is done."""
        if self.config.minutes is not None:
            return self._seconds() / (60 * self.config.minutes)
        return self.state.step / self._total_steps

    def _position(self) -> tuple[float, float]:
        """Where the run is and its length, in the unit in which the length was given."""
        config = self.config
        if config.minutes is not None:
            return self._seconds(), 60 * config.minutes
        if config.steps is not None:
            return self.state.step, config.steps
        assert config.epochs is not None
        return self.state.step / self.dataset.steps_per_epoch, config.epochs

    # ---- what is written

    def _check_finite(self) -> dict[str, float]:
        """Mean of each loss since the last check. Raises TrainingError at the first that is not a number."""
        if not self.pending:
            return {}
        # One transfer for all steps: reading each loss at once would make a GPU wait after every step.
        names = list(self.pending[0][1])
        values = torch.stack([torch.stack(list(losses.values())) for _, losses in self.pending]).tolist()
        steps = [step for step, _ in self.pending]
        self.pending.clear()
        bad = first_non_finite(zip(steps, (dict(zip(names, row, strict=True)) for row in values), strict=True))
        if bad is not None:
            step, name, value = bad
            self._write_event({"event": "not finite", "step": step, "term": name, "value": str(value)})
            raise TrainingError(
                f"The loss {name} became {value} at step {step}, so training stopped. {self._last_good()} "
                "Try a smaller --learning-rate, or --precision fp32 if it was not."
            )
        return {name: sum(row[i] for row in values) / len(values) for i, name in enumerate(names)}

    def _last_good(self) -> str:
        checkpoints = list_checkpoints(self.config.out)
        return f"The last good checkpoint is {checkpoints[0]}." if checkpoints else "No checkpoint was saved yet."

    def _write_log(self) -> None:
        count = len(self.pending)
        losses = self._check_finite()
        now = self._seconds()
        images = count * self.config.batch_size * 2
        self.speed = images / max(now - self.logged_seconds, 1e-9)
        self.logged_seconds = now
        self.means = losses
        event = {
            "step": self.state.step,
            "epoch": self.state.step / self.dataset.steps_per_epoch,
            "seconds": round(now, 3),
            "images_per_second": round(self.speed, 3),
            "learning_rate": self.learning_rate,
        }
        assert self.log is not None
        assert self.monitor is not None
        with self._disk():
            self.log.write_losses(event, losses)
            self.monitor.watch_losses(losses, count)

    def _write_event(self, event: dict[str, Any]) -> None:
        assert self.log is not None
        with self._disk():
            self.log.write(event)

    def _report_unreadable(self, path: str, reason: str) -> None:
        assert self.log is not None
        with self._disk():
            self.log.report_unreadable(path, reason, self.state.step)

    def _snapshot(self, *, last: bool = False) -> None:
        """The sample grid and the scores of this step."""
        assert self.monitor is not None
        started = self._seconds()
        self._check_finite_weights()
        with self._disk():
            self.monitor.save_samples()
            self.monitor.score(last=last)
        # Looking is not training: the speed that is shown leaves it out.
        self.logged_seconds += self._seconds() - started

    def _save_checkpoint(self) -> None:
        if self.saved_at[0] == self.state.step:
            return
        self._check_weights()
        with self._disk():
            save_checkpoint(
                self.config.out,
                self.info.replace(step=self.state.step),
                self.state,
                seconds=self._seconds(),
                keep=self.config.keep_checkpoints,
            )
        self.saved_at = (self.state.step, self._seconds())

    def _check_weights(self) -> None:
        """A checkpoint is a good one: neither the losses up to it nor its weights hold a NaN."""
        if self.pending:
            self._write_log()
        self._check_finite_weights()

    def _check_finite_weights(self) -> None:
        for owner in ("generator", "discriminator"):
            for name, weight in getattr(self.state, owner).named_parameters():
                if not torch.isfinite(weight).all():
                    raise TrainingError(
                        f"The weight {owner}.{name} is not finite after step {self.state.step}, so training stopped. "
                        f"{self._last_good()} Try a smaller --learning-rate."
                    )

    def _save_model(self, folder: str = "model") -> None:
        """Write `folder`; of a run that was complete before, only if a kill came between its last checkpoint and it."""
        info, target = self.info.replace(step=self.state.step), self.config.out / folder
        if self.complete and (target / "config.json").is_file() and read_info(target) == info:
            return
        with self._disk():
            save_model(target, info, generator_weights(self.state))

    def _keep_model(self) -> None:
        """Write models/epoch_0005/ and its like, which nothing removes again."""
        self._check_weights()
        self._save_model(f"models/epoch_{self.state.step // self.dataset.steps_per_epoch:04d}")

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"Step {self.state.step} could not be written to {self.config.out}: {error.strerror or error}. "
                f"{self._last_good()} Mend the disk, then run the same command again to go on from there."
            ) from error

    # ---- what is shown

    def _status(self) -> str:
        share = min(max(self._share(), 1e-9), 1.0)
        if self.config.minutes is not None:
            left = 60 * self.config.minutes - self._seconds()
        else:
            done = share - self.share_before
            left = (1 - share) * (self._seconds() - self.seconds_before) / done if done > 0 else 0.0
        short = {name: row.short for row in reported_losses() for name in row.names}
        sums: dict[str, float] = {}
        means, speed = self.means, self.speed
        if not means and self.pending:  # nothing is logged yet, and slow steps should not leave the line empty
            means = {name: float(loss) for name, loss in self.pending[-1][1].items()}
            images = 2 * self.config.batch_size * len(self.pending)
            speed = images / max(self._seconds() - self.seconds_before, 1e-9)
        for name, value in means.items():
            key = short[name]
            sums[key] = sums.get(key, 0.0) + value
        losses = " ".join(f"{name} {value:.2f}" for name, value in sums.items())
        minutes, seconds = divmod(max(round(left), 0), 60)
        clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        return f"step {self.state.step} {losses} {speed:.1f} images/s, {clock} left"


def _describe_weights(config: TrainConfig) -> str:
    """The weights of the loss terms that apply, for people."""
    parts = [term.describe_weight(config) for term in active_terms(config)]
    images = "1 image" if config.batch_size == 1 else f"{config.batch_size} images"
    return f"{', '.join(parts)}; {images} a step, learning rate {config.learning_rate:g}"
