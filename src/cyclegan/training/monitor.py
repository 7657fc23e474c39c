"""Snapshots of a run: sample grids, validation scores, the best checkpoint, warnings, and the report page."""

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cyclegan.config import TrainConfig
from cyclegan.data.splits import SampleImages
from cyclegan.errors import InputError, TrainingError
from cyclegan.metrics.features import features_title
from cyclegan.metrics.table import failure_reason
from cyclegan.report.run import write_run_report
from cyclegan.step.state import Generators, TrainState
from cyclegan.storage.model import ModelInfo
from cyclegan.storage.showcase import write_showcase
from cyclegan.system.atomic import write_bytes
from cyclegan.system.messages import Messages
from cyclegan.system.processes import Processes
from cyclegan.training.checkpoint import read_best, save_best
from cyclegan.training.events import (
    Event,
    Events,
    LossesLogged,
    Scored,
    ScoringSkipped,
    SnapshotSaved,
    ValidationMeasured,
    WarningRaised,
)
from cyclegan.training.health import DiscriminatorWatch, Finding
from cyclegan.training.run_log import UnreadableFiles, scores_record
from cyclegan.training.samples import sample_sheet, showcase, translate_samples
from cyclegan.training.schedule import Progress
from cyclegan.training.validation import TIME_SHARE, Validation, ValidationScores

# The feature network of KID; a KID without its name would be mistaken for one of another network.
FEATURES = features_title()


@dataclass
class Monitor:
    """Watches one run without changing its state.

    info: describes the model, except for its step. validation: scores on validation images, or None for no scores.
    past: lines of log.jsonl from earlier sessions. processes: the first one writes and prints, and all of them score;
    they call the same methods at once. Methods that write raise OSError or TrainingError if a file cannot
    be written.
    """

    config: TrainConfig
    state: TrainState
    info: ModelInfo
    samples: SampleImages
    validation: Validation | None
    past: list[dict[str, Any]]
    events: Events
    unreadable: UnreadableFiles
    messages: Messages
    progress: Progress
    processes: Processes
    # Step and KID of the best checkpoint, and the step that was scored or skipped last.
    best: tuple[int, float] | None = None
    scored_at: int = -1
    # Checks whose warning was shown, and whether a skipped score was.
    shown: set[str] = field(default_factory=set)
    showed_skipped: bool = False
    discriminators: DiscriminatorWatch = field(init=False)

    def __post_init__(self) -> None:
        self.shown |= {str(line.get("check")) for line in self.past if line.get("event") == "warning"}
        self.discriminators = DiscriminatorWatch(self.config.adversarial)
        done = [line for line in self.past if line.get("event") in ("scores", "not scored")]
        self.scored_at = done[-1]["step"] if done else -1
        if self.validation is None:
            return
        spent = [line["scoring_seconds"] for line in done if line.get("scoring_seconds") is not None]
        self.validation.spent = spent[-1] if spent else 0.0
        # A best checkpoint counts if it was scored on these images, and if its step was not dropped with its log.
        best = read_best(self.config.out, self.messages.warning)
        if best is not None and best.step <= self.state.step and not self.other_images:
            self.best = (best.step, best.kid)

    @property
    def other_images(self) -> bool:
        """Whether the session before this one held out other images, or none."""
        assert self.validation is not None
        sessions = [line for line in self.past if line.get("event") == "session"]
        return bool(sessions) and sessions[-1].get("held_out") != self.validation.files.digest

    @property
    def _generators(self) -> Generators:
        """The generators that a translator would use, in evaluation mode."""
        average = self.config.translate_with == "average"
        return (self.state.average if average else self.state.generator).eval()

    def record(self, event: Event) -> None:
        """Check the losses of each log line for a discriminator that wins outright."""
        if isinstance(event, LossesLogged) and self.config.adversarial_weight > 0:
            self.warn(self.discriminators.update(event.losses, event.num_steps))

    # ---- samples and scores

    def save_samples(self) -> None:
        """Write the sample grid of this step."""
        if not (self.samples.a or self.samples.b) or not self.processes.is_first:
            return
        step = self.state.step
        sheet = sample_sheet(translate_samples(self.samples, self._generators, self.state.device))
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        path = self.config.out / "samples" / f"step_{step:07d}.png"
        write_bytes(path, buffer.getvalue())
        self.events.publish(SnapshotSaved(step, path, sheet))

    def score(self, *, last: bool = False) -> None:
        """Score the generators if time allows, save them if they are the best so far, and warn of problems."""
        is_due = self.processes.is_first and self.validation is not None and self.scored_at != self.state.step
        if self.processes.from_first(is_due and self._is_affordable(last=last)):
            self._score()

    def _is_affordable(self, *, last: bool) -> bool:
        """Whether there is time for a score."""
        validation, generators = self.validation, self._generators
        assert validation is not None
        with self._scores_end(validation):
            if validation.affordable(generators.a2b, generators.b2a, self.progress.seconds, last=last):
                return True
            self._skip_scores()
        return False

    @contextmanager
    def _scores_end(self, validation: Validation) -> Iterator[None]:
        """An error in the block ends the scores of this run. It is no reason to end the run."""
        try:
            yield
        except TrainingError:
            raise
        except torch.OutOfMemoryError:  # what fits one training step need not fit a batch of whole images
            self.messages.info("No more scores in this run: out of memory. --num-validation 0 leaves them out.")
            self.validation = None
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else f"{failure_reason(error)}."
            self.messages.warning(f"No {'more ' if validation.is_open else ''}scores in this run: {reason}")
            self.validation = None

    def _score(self) -> None:
        step, generators, validation = self.state.step, self._generators, self.validation
        assert validation is not None
        scores: ValidationScores | None = None
        with self._scores_end(validation):
            if not validation.is_open:
                self._open(validation)
            scores = validation.score(generators.a2b, generators.b2a)
        if scores is None or not self.processes.is_first:
            return
        self.scored_at = step
        is_best = math.isfinite(scores.kid) and (self.best is None or scores.kid < self.best[1])
        seconds = round(self.progress.seconds, 3)
        scored = Scored(step, seconds, scores.kid, is_best, scores.directions, scoring_seconds=0.0)
        if is_best:
            self.best = (step, scores.kid)
            with validation.charge():
                info, record = self.info.replace(step=step), scores_record(scored)
                save_best(self.config.out, info, self.state, seconds=self.progress.seconds, scores=record)
        self.events.publish(replace(scored, scoring_seconds=round(validation.spent, 3)))
        self._show_scores(scored, validation)
        self.warn(scores.findings)
        with validation.charge():
            self.write_page()

    def _skip_scores(self) -> None:
        step = self.state.step
        if not self.showed_skipped:
            self.showed_skipped = True
            limit = f"{100 * TIME_SHARE:.0f} %"
            self.messages.info(f"Step {step}: not scored yet, because that would take over {limit} of the time so far.")
        self.events.publish(ScoringSkipped(step))

    def _open(self, validation: Validation) -> None:
        """Measure the real images and publish what was found."""
        step = self.state.step
        try:
            about = validation.open()
        finally:
            for path, reason in validation.unreadable:
                self.unreadable.report(path, reason, step)
        known = any(line.get("event") == "validation" for line in self.past)
        if self.other_images:
            about["origin"] += ", but not in earlier sessions of this run: some may have been trained on then"
            self.messages.warning(
                "Other images are held out than in an earlier session. The search for the best step starts again, and "
                "some of these images may have been trained on before."
            )
        if not known or self.other_images:
            self.events.publish(ValidationMeasured(step, about))

    def _show_scores(self, scored: Scored, validation: Validation) -> None:
        kids = {name: scores["kid"]["value"] for name, scores in scored.directions.items()}
        single = ", ".join(f"{name} {value:.3f}" for name, value in kids.items())
        if self.best is None:
            place = "which is not a number"
        else:
            place = "the best so far" if self.best[0] == scored.step else f"the best is step {self.best[0]}"
        share = 100 * validation.spent / max(self.progress.seconds, 1e-9)
        text = f"Step {scored.step}: KID ({FEATURES}) on validation images {scored.kid:.3f} ({single}), {place}."
        self.messages.info(f"{text} Scoring took {share:.1f} % of the time.")

    def warn(self, findings: Iterable[Finding]) -> None:
        """Log every problem that the health checks find, and show each kind once in a run."""
        step = self.state.step
        for finding in findings:
            is_new = finding.check not in self.shown
            self.events.publish(WarningRaised(step, finding.check, finding.message, is_new))
            if is_new:
                self.shown.add(finding.check)
                self.messages.warning(f"Warning at step {step}: {finding.message}")

    # ---- the end of a run

    def show_best(self) -> None:
        """Show which step is the best, and where it is."""
        if self.best is None and self.validation is not None:
            self.messages.info(
                f"No step was scored: the run was too short to spend less than {100 * TIME_SHARE:.0f} % of its time "
                "on it. cyclegan evaluate scores it on test images."
            )
        if self.best is not None:
            step, kid = self.best
            where = "the last one" if step == self.state.step else f"kept in {self.config.out / 'best'}"
            self.messages.info(f"Best by KID ({FEATURES}) on validation images: step {step} ({kid:.3f}), {where}.")

    def write_page(self) -> None:
        """Write report.html. Until an evaluation has written examples, it shows the samples."""
        if not self.processes.is_first:
            return
        out = self.config.out
        if not (out / "scores.json").is_file():
            trips = translate_samples(self.samples, self._generators, self.state.device)
            try:
                write_showcase(out / "examples", self.samples.origin, showcase(trips))
            except InputError as error:  # other files under this name are no reason to end a run
                self.messages.warning(f"No examples on the page: {error}")
        write_run_report(out)
