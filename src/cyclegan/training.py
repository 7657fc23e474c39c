"""Train the two translators: resolve the configuration, build or resume, loop, log, save."""

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from cyclegan._version import __version__
from cyclegan.checkpoint import ModelInfo, list_checkpoints, load_checkpoint, save_checkpoint, save_model
from cyclegan.config import (
    FREE_TO_CHANGE,
    InputError,
    ModelConfig,
    TrainConfig,
    flat_values,
    make_config,
    read_config_file,
    to_toml,
)
from cyclegan.data import (
    Folders,
    ImageFolder,
    UnpairedDataset,
    batches,
    find_folders,
    held_out_tensor,
    scan_folder,
    split_held_out,
)
from cyclegan.distributed import describe_device, has_fast_bf16, resolve_device
from cyclegan.images import UNREADABLE, grid, list_images, upscale
from cyclegan.networks import count_parameters
from cyclegan.step import TrainState, first_non_finite, learning_rate_at, set_learning_rate, train_step


class TrainingError(RuntimeError):
    """Training had to stop. The message says why, which checkpoint is good, and what to do."""


def train(
    a: str | Path | TrainConfig,
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
    DataConfig by its name, over those of config_file, over those of preset. An `out` that holds a run of the same
    configuration is resumed, exactly. resume: there must be one, and changed settings are taken over (not those of the
    networks). fresh: move what is there aside and start anew.
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
        config = make_config(*layers, {"a": a, "b": b, **settings}, preset=preset)
    if resume and fresh:
        raise InputError("resume and fresh exclude each other; pass one of them.")
    return _Run.open(config, resume=resume, fresh=fresh, quiet=quiet).train()


@dataclass
class _Run:
    """One run directory while it is being trained."""

    config: TrainConfig
    state: TrainState
    dataset: UnpairedDataset
    info: ModelInfo
    samples: tuple[Tensor, ...]
    console: Console
    log: TextIO
    board: Any
    seconds_before: float = 0.0
    started: float = 0.0
    pending: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    reported: set[str] = field(default_factory=set)
    # Step and training time of the newest checkpoint.
    saved_at: tuple[int, float] = (-1, 0.0)
    # What the progress line shows: where this session began, and the means of the last log line.
    share_before: float = 0.0
    logged_seconds: float = 0.0
    speed: float = 0.0
    means: dict[str, float] = field(default_factory=dict)

    # ---- opening

    @classmethod
    def open(cls, config: TrainConfig, *, resume: bool, fresh: bool, quiet: bool) -> "_Run":
        """Check everything that can be wrong, before hours are spent."""
        console = Console(stderr=True, quiet=quiet, highlight=False)
        if config.a is None:
            raise InputError("No folder of images was given; pass two folders, or one that holds trainA and trainB.")
        device = resolve_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)

        # The images.
        folders = find_folders(config.a, config.b, config.test_a, config.test_b)
        with console.status("Looking at the images ..."):
            a = scan_folder(folders.a, config.model.channels_a, config.data.range_a, config.data)
            b = scan_folder(folders.b, config.model.channels_b, config.data.range_b, config.data)
        ranges = {"range_a": (a.image_format.low, a.image_format.high)}
        ranges |= {"range_b": (b.image_format.low, b.image_format.high)}
        config = config.replace(data=config.data.replace(**ranges))
        a, b, samples, origin = _hold_out(config, folders, a, b)

        # The run directory.
        out = config.out
        if fresh:
            _move_aside(out, console)
        checkpoint = _find_checkpoint(config, resume)
        _prepare_directory(config)

        # The state.
        precision = config.precision
        if precision == "auto":
            precision = "bf16" if has_fast_bf16(device) else "fp32"
        state = TrainState.create(config.replace(precision=precision), device)
        seconds = 0.0
        if checkpoint is not None:
            checkpoint, seconds = _load_newest(config.out, state, console)

        model, data = config.model, config.data
        info = ModelInfo(
            cyclegan_version=__version__,
            model=model,
            a=a.image_format,
            b=b.image_format,
            preprocess=data.preprocess,
            load_size=data.resolved_load_size,
            crop_size=data.crop_size,
            step=state.step,
            translate_with=config.translate_with,
        )
        dataset = UnpairedDataset(
            a, b, data, model, config.batch_size, config.seed, cache_bytes=int(data.cache_gib * 2**30)
        )
        _shorten_log(out / "log.jsonl", state.step)
        run = cls(
            config=config,
            state=state,
            dataset=dataset,
            info=info,
            samples=samples,
            console=console,
            log=(out / "log.jsonl").open("a", encoding="utf-8"),
            board=_open_board(config, state.step, console),
            seconds_before=seconds,
            saved_at=(state.step if checkpoint is not None else -1, seconds),
        )
        run._introduce(a, b, origin, checkpoint, device, precision)
        return run

    def _introduce(
        self, a: ImageFolder, b: ImageFolder, origin: str, checkpoint: Path | None, device: torch.device, precision: str
    ) -> None:
        config, say = self.config, self.console.print
        for name, folder in (("A", a), ("B", b)):
            say(f"{name}: {len(folder)} images in {folder.root} ({folder.image_format})")
            for path, reason in folder.unreadable:
                self._report_unreadable(str(path), reason)
        say(f"Samples: {len(self.samples) // 2} images of each domain, {origin}")
        generator, discriminator = self.state.generator.a2b, self.state.discriminator.a
        say(
            f"Networks: {config.model.generator} generators with {count_parameters(generator):,} parameters each, "
            f"{config.model.discriminator} discriminators with {count_parameters(discriminator):,}"
        )
        if config.uses_identity:
            say(f"Preset {config.preset}: identity weight {config.identity_weight:g} (relative to the cycle weights)")
        elif config.identity_weight > 0:
            say(
                f"No identity term: domain A has {config.model.channels_a} channels, "
                f"domain B has {config.model.channels_b}"
            )
        else:
            say(f"Preset {config.preset}: no identity term (identity weight 0)")
        if config.minutes is not None:
            length = (
                f"{config.minutes:g} minutes; the {config.schedule} schedule follows the clock's share, not the steps"
            )
        elif config.steps is not None:
            length = f"{config.steps} steps"
        else:
            length = f"{config.epochs:g} epochs, {self._total_steps} steps"
        say(f"Length: {length}. Device: {describe_device(device)}, {precision}. Seed: {config.seed}")
        say(f"Run directory: {config.out}")
        if checkpoint is not None:
            say(f"Going on after step {self.state.step} from {checkpoint}")

    # ---- the loop

    def train(self) -> Path:
        """Train to the end of the run; saves on the way, and when it is interrupted."""
        config, state = self.config, self.state
        self.started = time.monotonic()
        self.logged_seconds, self.share_before = self.seconds_before, self._share()
        try:
            if self._share() >= 1:
                self.console.print(
                    f"This run is complete: {state.step} steps. To train longer: --resume with a greater length; "
                    "to start anew: --fresh."
                )
                if not (config.out / "model" / "config.json").is_file():
                    self._finish()
                return config.out
            with _stop_signals() as stopped, self._progress() as show:
                for batch in batches(self.dataset, state.step, config.workers):
                    if self._share() >= 1 or stopped():
                        break
                    self._one_step(batch.a, batch.b)
                    for path, reason in batch.unreadable:
                        self._report_unreadable(path, reason)
                    show()
            if stopped() and self._share() < 1:
                self._save_checkpoint()
                self.console.print(f"Stopped and saved after step {state.step}. To go on, run the same command again.")
                raise KeyboardInterrupt
            self._finish()
        finally:
            self.log.close()
            if self.board is not None:
                self.board.close()
        return config.out

    def _one_step(self, real_a: Tensor, real_b: Tensor) -> None:
        config, state = self.config, self.state
        rate = learning_rate_at(config, *self._position())
        set_learning_rate(state, rate)
        losses = train_step(
            state, real_a.to(state.device, non_blocking=True), real_b.to(state.device, non_blocking=True)
        )
        self.pending.append((state.step, losses))

        if state.step % config.log_steps == 0:
            self._write_log(rate)
        if state.step % config.sample_steps == 0:
            self._save_samples()
        _, seconds = self.saved_at
        if state.step % config.checkpoint_steps == 0 or self._seconds() - seconds > 60 * config.checkpoint_minutes:
            self._save_checkpoint()

    def _seconds(self) -> float:
        """Training time so far, that of earlier sessions included."""
        return self.seconds_before + time.monotonic() - self.started

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

    def _write_log(self, rate: float) -> None:
        count = len(self.pending)
        losses = self._check_finite()
        now = self._seconds()
        images = count * self.config.batch_size * 2
        self.speed = images / max(now - self.logged_seconds, 1e-9)
        self.logged_seconds = now
        self.means = losses
        self._write_event(
            {
                "step": self.state.step,
                "epoch": self.state.step / self.dataset.steps_per_epoch,
                "seconds": round(now, 3),
                "images_per_second": round(self.speed, 3),
                "learning_rate": rate,
                **losses,
            }
        )
        if self.board is not None:
            for name, value in losses.items():
                self.board.add_scalar(f"loss/{name}", value, self.state.step)
            self.board.add_scalar("learning_rate", rate, self.state.step)
            self.board.add_scalar("images_per_second", self.speed, self.state.step)

    def _write_event(self, event: dict[str, Any]) -> None:
        with self._disk():
            self.log.write(json.dumps(event) + "\n")
            self.log.flush()

    def _report_unreadable(self, path: str, reason: str) -> None:
        if path not in self.reported:
            self.reported.add(path)
            self.console.print(f"[yellow]Left out, cannot be read ({len(self.reported)} so far):[/] {path}: {reason}")
            self._write_event({"event": "unreadable", "step": self.state.step, "path": path, "reason": reason})

    @torch.inference_mode()
    def _save_samples(self) -> None:
        if not self.samples:
            return
        average = self.config.translate_with == "average"
        generators = (self.state.average if average else self.state.generator).eval()
        half = len(self.samples) // 2
        rows: list[list[Tensor]] = [[] for _ in range(6)]
        for i, (there, back) in enumerate(((generators.a2b, generators.b2a), (generators.b2a, generators.a2b))):
            for real in self.samples[i * half : (i + 1) * half]:
                fake = there(real[None].to(self.state.device))
                cycled = back(fake)
                factor = max(1, 128 // real.shape[-1])
                for row, image in zip(rows[3 * i :], (real, fake[0], cycled[0]), strict=False):
                    row.append(upscale(image[None].float().cpu(), factor)[0])
        labels = ["real A", "fake B = G(A)", "cycled A = F(G(A))", "real B", "fake A = F(B)", "cycled B = G(F(B))"]
        sheet = grid(rows, labels)
        with self._disk():
            folder = self.config.out / "samples"
            folder.mkdir(exist_ok=True)
            sheet.save(folder / f"step_{self.state.step:07d}.png")
        if self.board is not None:
            pixels = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
            self.board.add_image(
                "samples", pixels.reshape(sheet.height, sheet.width, 3), self.state.step, dataformats="HWC"
            )

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
            self._write_log(learning_rate_at(self.config, *self._position()))
        for owner in ("generator", "discriminator"):
            for name, weight in getattr(self.state, owner).named_parameters():
                if not torch.isfinite(weight).all():
                    raise TrainingError(
                        f"The weight {owner}.{name} is not finite after step {self.state.step}, so training stopped. "
                        f"{self._last_good()} Try a smaller --learning-rate."
                    )

    def _finish(self) -> None:
        self._save_checkpoint()
        self._save_samples()
        with self._disk():
            save_model(self.config.out / "model", self.info.replace(step=self.state.step), self.state)
        minutes = self._seconds() / 60
        self.console.print(f"Done: {self.state.step} steps in {minutes:.1f} minutes of training.")
        self.console.print(f"Translate with: cyclegan translate {self.config.out} IMAGES --out FOLDER --direction a2b")

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

    @contextmanager
    def _progress(self) -> Iterator[Callable[[], None]]:
        """Gives a function to call after every step: a bar on a terminal, a line every half minute elsewhere."""
        if not self.console.is_terminal:
            last = time.monotonic()

            def line() -> None:
                nonlocal last
                if time.monotonic() - last > 30:
                    last = time.monotonic()
                    self.console.print(self._status(), soft_wrap=True)

            yield line
            return

        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("starting", total=1.0)
            yield lambda: progress.update(task, completed=min(self._share(), 1.0), description=self._status())

    def _status(self) -> str:
        share = min(max(self._share(), 1e-9), 1.0)
        if self.config.minutes is not None:
            left = 60 * self.config.minutes - self._seconds()
        else:
            done = share - self.share_before
            left = (1 - share) * (self._seconds() - self.seconds_before) / done if done > 0 else 0.0
        short = {"adversarial": "adv", "discriminator": "disc", "identity": "idt", "cycle": "cyc"}
        sums: dict[str, float] = {}
        for name, value in self.means.items():
            key = short[name.split("_")[0]]
            sums[key] = sums.get(key, 0.0) + value
        losses = " ".join(f"{name} {value:.2f}" for name, value in sums.items())
        clock = time.strftime("%H:%M:%S", time.gmtime(max(left, 0)))
        return f"step {self.state.step} {losses} {self.speed:.1f} images/s, {clock} left"


def _hold_out(
    config: TrainConfig, folders: Folders, a: ImageFolder, b: ImageFolder
) -> tuple[ImageFolder, ImageFolder, tuple[Tensor, ...], str]:
    """The training folders, the tensors of the sample grids (all of A, then as many of B), and where they are from."""
    wanted = config.num_samples
    if folders.test_a is not None and folders.test_b is not None:
        held_a, held_b = _spread(list_images(folders.test_a), wanted), _spread(list_images(folders.test_b), wanted)
        origin = "from the test folders"
    else:
        a, held_a = split_held_out(a, wanted, config.seed)
        b, held_b = split_held_out(b, wanted, config.seed)
        origin = "held out of the training folders"
        if wanted and not (held_a and held_b):
            held_a, held_b = held_a or _spread(list(a.paths), wanted), held_b or _spread(list(b.paths), wanted)
            origin = "seen in training: the folders are too small to hold any out"
    count = min(len(held_a), len(held_b))
    tensors: list[Tensor] = []
    for paths, folder in ((held_a, a), (held_b, b)):
        for path in paths[:count]:
            try:
                tensors.append(held_out_tensor(path, folder.image_format, config.data, config.model))
            except UNREADABLE as error:
                raise InputError(f"The held-out image {path} cannot be used for samples: {error}") from error
    return a, b, tuple(tensors), origin


def _spread(paths: list[Path], count: int) -> tuple[Path, ...]:
    """`count` paths at equal distances."""
    count = min(count, len(paths))
    return tuple(paths[i * len(paths) // count] for i in range(count))


def _move_aside(out: Path, console: Console) -> None:
    if not out.exists():
        return
    number = 1
    while (aside := out.with_name(f"{out.name}.old{number}")).exists():
        number += 1
    out.rename(aside)
    console.print(f"What was in {out} is now in {aside}.")


def _find_checkpoint(config: TrainConfig, resume: bool) -> Path | None:
    """The checkpoint to go on from, if the run directory holds a run that this configuration may continue."""
    out, file = config.out, config.out / "config.toml"
    if not file.is_file():
        if resume:
            raise InputError(f"{out} holds no run to resume; leave out --resume to start one.")
        if out.is_dir() and any(path.name != "log.jsonl" for path in out.iterdir()):
            raise InputError(f"{out} exists and is not a run directory; choose another --out.")
        return None
    saved, given = flat_values(read_run_config(out)), flat_values(config)
    changed = {name for name in given if saved[name] != given[name] and name not in FREE_TO_CHANGE}
    fixed = changed & set(ModelConfig.model_fields) if resume else changed
    if fixed:
        differences = ", ".join(f"{name} {saved[name]} -> {given[name]}" for name in sorted(fixed))
        remedies = "use the old values, another --out, or --fresh to start anew (the old run is kept aside)"
        if not resume and not changed & set(ModelConfig.model_fields):
            remedies += ", or --resume to go on with the changed values"
        raise InputError(f"{out} holds a run with other settings: {differences}. To go on: {remedies}.")
    checkpoints = list_checkpoints(out)
    return checkpoints[0] if checkpoints else None


def _load_newest(out: Path, state: TrainState, console: Console) -> tuple[Path, float]:
    """Load the newest checkpoint that is whole; a damaged one is named and passed over."""
    checkpoints = list_checkpoints(out)
    for checkpoint in checkpoints:
        try:
            return checkpoint, load_checkpoint(checkpoint, state)
        except InputError as error:
            console.print(f"[yellow]Passed over:[/] {error}")
    raise InputError(f"No checkpoint in {out} can be read; start anew with --fresh (the old run is kept aside).")


def read_run_config(run: Path) -> TrainConfig:
    """The resolved configuration of a run directory."""
    return make_config(read_config_file(run / "config.toml"))


def _prepare_directory(config: TrainConfig) -> None:
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, because it decides whether the directory is a run.
        partial = config.out / ".config.toml.partial"
        partial.write_text(to_toml(config), encoding="utf-8")
        partial.replace(config.out / "config.toml")
    except OSError as error:
        raise InputError(
            f"The run directory {config.out} cannot be written: {error.strerror or error}; choose another --out."
        ) from error


def _shorten_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint that the run goes on from, and half a last line."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            if json.loads(line).get("step", 0) <= step:
                kept.append(line + "\n")
    partial = path.with_name(".log.jsonl.partial")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(path)


def _open_board(config: TrainConfig, step: int, console: Console) -> Any:
    if not config.tensorboard:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        console.print("TensorBoard files are not written; to have them: pip install 'cyclegan[log]'")
        return None
    return SummaryWriter(str(config.out / "tensorboard"), purge_step=step or None)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a question that the loop asks; the second one stops at once."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nFinishing this step and saving; once more to stop at once.", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
