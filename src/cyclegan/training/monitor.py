"""What is looked at while a run trains: samples, scores, the best step, signs of trouble, and the page of it all."""

import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from rich.console import Console

from cyclegan.config import TrainConfig
from cyclegan.data.splits import HeldOut
from cyclegan.errors import InputError
from cyclegan.metrics.features import features_title
from cyclegan.report.run import write_run_report
from cyclegan.step.state import Generators, TrainState
from cyclegan.storage.model import ModelInfo
from cyclegan.storage.showcase import ShowcaseImage, write_showcase
from cyclegan.system.atomic import write_bytes
from cyclegan.training.checkpoint import read_best, save_best
from cyclegan.training.health import DiscriminatorWatch, Finding
from cyclegan.training.run_log import RunLog
from cyclegan.training.samples import sample_sheet, there_and_back
from cyclegan.training.validation import TIME_SHARE, Validation

# What KID is measured on; a KID without this word would be taken for another.
FEATURES = features_title()


@dataclass
class Monitor:
    """Watches one run. Everything that it does leaves the state as it was.

    info: of the model, but for the step. samples: images of the sample grids. validation: scores on held-out images,
    or None if they are not wanted. seconds: the training time so far. All methods that write raise OSError if the disk
    does not take it.
    """

    config: TrainConfig
    state: TrainState
    info: ModelInfo
    samples: HeldOut
    validation: Validation | None
    log: RunLog
    console: Console
    seconds: Callable[[], float]
    # The best step so far and its KID, the step of the last scores, and the signs of trouble that were told.
    best: tuple[int, float] | None = None
    scored_at: int = -1
    told: set[str] = field(default_factory=set)
    told_unaffordable: bool = False
    discriminators: DiscriminatorWatch = field(init=False)

    def __post_init__(self) -> None:
        events = self.log.events
        self.told |= {event["check"] for event in events if event.get("event") == "warning"}
        self.discriminators = DiscriminatorWatch(self.config.adversarial)
        done = [event for event in events if event.get("event") in ("scores", "not scored")]
        self.scored_at = done[-1]["step"] if done else -1
        if self.validation is None:
            return
        spent = [event["scoring_seconds"] for event in done if event.get("event") == "scores"]
        self.validation.spent = spent[-1] if spent else 0.0
        # A best step is that of these images, on the way that led here: not one that was dropped with its log.
        best = read_best(self.config.out)
        if best is not None and best["step"] <= self.state.step and not self.other_images:
            self.best = (best["step"], best["kid"])

    @property
    def other_images(self) -> bool:
        """Whether the session before this one held out other images, or none."""
        assert self.validation is not None
        sessions = [event for event in self.log.events if event.get("event") == "session"]
        return bool(sessions) and sessions[-1].get("held_out") != self.validation.files.digest

    @property
    def _generators(self) -> Generators:
        """The generators that a translator would use, in evaluation mode."""
        average = self.config.translate_with == "average"
        return (self.state.average if average else self.state.generator).eval()

    def save_samples(self) -> None:
        """Write the sample grid of this step."""
        if not (self.samples.a or self.samples.b):
            return
        generators = self._generators
        sheet = sample_sheet(self.samples, generators.a2b, generators.b2a, self.state.device)
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        write_bytes(self.config.out / "samples" / f"step_{self.state.step:07d}.png", buffer.getvalue())
        self.log.show_samples(sheet, self.state.step)

    def score(self, *, last: bool = False) -> None:
        """Score the generators if there is time, keep them if they are the best yet, and tell of what goes wrong."""
        try:
            self._score(last)
        except torch.OutOfMemoryError:  # what fits one training step need not fit a batch of whole images
            self.console.print("No more scores in this run: out of memory. --num-validation 0 leaves them out.")
            self.validation = None

    def _score(self, last: bool) -> None:
        step, validation = self.state.step, self.validation
        if validation is None or self.scored_at == step:
            return
        generators = self._generators
        a2b, b2a = generators.a2b, generators.b2a
        try:
            affordable = validation.affordable(a2b, b2a, self.seconds(), last=last)
        except InputError as error:  # no reason to end a run
            self.console.print(f"No scores in this run: {error}", style="yellow")
            self.validation = None
            return
        if not affordable:
            if not self.told_unaffordable:
                self.told_unaffordable = True
                limit = f"{100 * TIME_SHARE:.0f} %"
                self.console.print(
                    f"Step {step}: not scored yet, because that would take over {limit} of the time so far."
                )
            self.log.write({"event": "not scored", "step": step})
            return
        if not validation.is_open:
            self._open(validation)
        if self.validation is None:
            return

        scores = validation.score(a2b, b2a)
        self.scored_at = step
        best = math.isfinite(scores.kid) and (self.best is None or scores.kid < self.best[1])
        event = {
            "event": "scores",
            "step": step,
            "seconds": round(self.seconds(), 3),
            "kid": scores.kid,
            "best": best,
            "directions": scores.directions,
        }
        if best:
            self.best = (step, scores.kid)
            with validation.charge():
                info = self.info.replace(step=step)
                save_best(self.config.out, info, self.state, seconds=self.seconds(), scores=event)
        kids = {f"{name}_kid": values["kid"]["value"] for name, values in scores.directions.items()}
        spent = {"scoring_seconds": round(validation.spent, 3)}  # of all scores so far
        self.log.write_scores({**event, **spent}, {"kid": scores.kid, **kids})
        self._tell_scores(scores.kid, kids)
        self.warn(scores.findings)
        with validation.charge():
            self.write_page()

    def _open(self, validation: Validation) -> None:
        """Measure the real images, and tell of them."""
        step = self.state.step
        try:
            about = validation.open()
        except InputError as error:
            self.console.print(f"No scores in this run: {error}", style="yellow")
            self.validation = None
            return
        finally:
            for path, reason in validation.unreadable:
                self.log.report_unreadable(str(path), reason, step)
        known = any(event.get("event") == "validation" for event in self.log.events)
        if self.other_images:
            about["origin"] += ", but not in earlier sessions of this run: some were trained on then"
            self.console.print(
                "Other images are held out than in an earlier session: the best step is sought anew, and some of "
                "them were trained on before.",
                style="yellow",
            )
        if not known or self.other_images:
            self.log.write({"event": "validation", "step": step, **about})

    def _tell_scores(self, kid: float, kids: Mapping[str, float]) -> None:
        assert self.validation is not None
        step = self.state.step
        single = ", ".join(f"{name.removesuffix('_kid')} {value:.3f}" for name, value in kids.items())
        if self.best is None:
            place = "which is no number"
        else:
            place = "the best so far" if self.best[0] == step else f"the best is step {self.best[0]}"
        share = 100 * self.validation.spent / max(self.seconds(), 1e-9)
        said = f"Step {step}: KID ({FEATURES}) on validation images {kid:.3f} ({single}), {place}."
        self.console.print(f"{said} Scoring took {share:.1f} % of the time.")

    def watch_losses(self, losses: Mapping[str, float], num_steps: int) -> None:
        """Means of the losses over the last `num_steps` steps, as they are logged."""
        if self.config.adversarial_weight > 0:
            self.warn(self.discriminators.update(losses, num_steps))

    def warn(self, findings: Iterable[Finding]) -> None:
        """Log every sign of trouble; tell of each kind once in a run."""
        step = self.state.step
        for finding in findings:
            self.log.write({"event": "warning", "step": step, "check": finding.check, "message": finding.message})
            if finding.check not in self.told:
                self.told.add(finding.check)
                self.log.show_warning(finding.check, finding.message, step)

    def tell_best(self) -> None:
        """Which step was the best, and where it is."""
        if self.best is None and self.validation is not None:
            self.console.print(
                f"No step was scored: the run was too short to spend less than {100 * TIME_SHARE:.0f} % of its time "
                "on it. cyclegan evaluate scores it on test images."
            )
        if self.best is not None:
            step, kid = self.best
            where = "the last one" if step == self.state.step else f"kept in {self.config.out / 'best'}"
            self.console.print(f"Best by KID ({FEATURES}) on validation images: step {step} ({kid:.3f}), {where}.")

    def write_page(self) -> None:
        """Write report.html; its examples are the samples as long as there are none from an evaluation."""
        out = self.config.out
        if not (out / "scores.json").is_file():
            write_showcase(out / "examples", self.samples.origin, self._examples())
        write_run_report(out)

    @torch.inference_mode()
    def _examples(self) -> list[ShowcaseImage]:
        generators, found = self._generators, []
        a2b, b2a = generators.a2b, generators.b2a
        for index, real in enumerate(self.samples.a):
            fake, cycled = there_and_back(real.to(self.state.device), a2b, b2a)
            pictures = {"input": real, "output": fake, "cycled": cycled}
            found.append(ShowcaseImage("a2b", f"image {index + 1}", "sample", pictures))
        for index, real in enumerate(self.samples.b):
            fake, cycled = there_and_back(real.to(self.state.device), b2a, a2b)
            pictures = {"input": real, "output": fake, "cycled": cycled}
            found.append(ShowcaseImage("b2a", f"image {index + 1}", "sample", pictures))
        return found
