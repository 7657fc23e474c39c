"""Trackers: send the events of a run to TensorBoard, Weights & Biases and MLflow.

`log.jsonl` is the record of a run; a tracker gets the same numbers as they come, under the same names. A tracker that
fails is dropped for the rest of the session, and the run goes on.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cyclegan.config import TrainConfig
from cyclegan.errors import InputError
from cyclegan.metrics.features import DEFAULT_FEATURES
from cyclegan.system.atomic import write_bytes
from cyclegan.system.messages import Messages
from cyclegan.training.events import Event, LossesLogged, Scored, SnapshotSaved, WarningRaised, status_after
from cyclegan.training.tracker_backends import TRACKERS, Tracker

# Name of the scores in a tracker; a KID without its feature network would be mistaken for one of another network.
_SCORES = f"validation_{DEFAULT_FEATURES.replace('-', '_')}"

_TITLES = {"tensorboard": "TensorBoard", "wandb": "W&B", "mlflow": "MLflow"}


@dataclass
class Trackers:
    """The open trackers of a session, by name. A tracker that fails never ends a run."""

    messages: Messages
    open: dict[str, Tracker] = field(default_factory=dict)

    def record(self, event: Event) -> None:
        """Send an event to every open tracker."""
        match event:
            case LossesLogged():
                values = {f"loss/{name}": value for name, value in event.losses.items()}
                values |= {"learning_rate": event.learning_rate, "images_per_second": event.images_per_second}
                self._each(lambda tracker: tracker.scalars(values, event.step))
            case Scored():
                kids = {f"{name}_kid": scores["kid"]["value"] for name, scores in event.directions.items()}
                scores = {f"{_SCORES}/{name}": value for name, value in {"kid": event.kid, **kids}.items()}
                self._each(lambda tracker: tracker.scalars(scores, event.step))
            case SnapshotSaved():
                self._each(lambda tracker: tracker.image("samples", event.image, event.step))
            case WarningRaised(is_new=True):
                self._each(lambda tracker: tracker.warn(event.check, event.message, event.step))

    def close(
        self, error: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close all trackers with the status of the run. Has the signature of an exit callback."""
        status = status_after(error)
        self._each(lambda tracker: tracker.close(status))
        self.open.clear()

    def _each(self, send: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.open.items()):
            try:
                send(tracker)
            except Exception as error:  # anything that a library, its network or the disk raises
                del self.open[name]
                self.messages.warning(
                    f"{_TITLES[name]} failed and gets nothing more in this session: {_one_line(error)}"
                )


def check_trackers(config: TrainConfig) -> None:
    """Raise InputError for a requested tracker that is not installed, and for W&B without a login."""
    if config.mlflow is not None:
        try:
            import alembic  # noqa: F401 - for a store in a local file
            import mlflow  # noqa: F401
            import sqlalchemy  # noqa: F401
        except ImportError as error:
            raise _not_installed("mlflow", error) from None
    if config.wandb is not None:
        try:
            import wandb
        except ImportError as error:
            raise _not_installed("wandb", error) from None
        # W&B would ask on a terminal, and a run without one would wait or stop.
        remedy = "log in with `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline to send the run later"
        try:
            ready = wandb.setup().settings.mode != "online" or wandb.login(prompt=False, verify=False)
        except Exception as error:
            raise InputError(f"--wandb {config.wandb}: {_one_line(error)}; {remedy}.") from None
        if not ready:
            raise InputError(f"--wandb {config.wandb} needs a login to W&B, and there is none; {remedy}.")


def _not_installed(name: str, error: ImportError) -> InputError:
    return InputError(
        f"--{name} needs {_TITLES[name]}, which is not installed ({error.name or error} is missing); "
        f"pip install 'cyclegan[{name}]', or leave out --{name}."
    )


def open_trackers(config: TrainConfig, step: int, messages: Messages, stack: ExitStack) -> Trackers:
    """Open the trackers of the configuration, for a run that goes on after `step`; `stack` closes them at its end.

    A run that is in a tracker since an earlier session goes on there. Raises InputError for a requested tracker that
    cannot be opened and does not hold this run yet, so that a mistake in its settings shows before hours are spent.
    """
    trackers = Trackers(messages)
    stack.push(trackers.close)
    wanted = {"tensorboard": str(config.tensorboard or ""), "wandb": config.wandb, "mlflow": config.mlflow}
    known = _read_ids(config.out)
    for name, target in wanted.items():
        if not target:
            continue
        # In another project or experiment it is a new run.
        before = known.get(name, {})
        run_id = before.get("run_id") if before.get("in") == target else None
        title = _TITLES[name]
        try:
            tracker = TRACKERS[name](config, step, run_id)
        except ImportError as error:
            if name != "tensorboard":
                raise _not_installed(name, error) from None
            messages.info("TensorBoard files are not written; to have them: pip install tensorboard")
            continue
        except Exception as error:  # anything that a library, its network or the disk raises
            if name != "tensorboard" and run_id is None:
                raise InputError(
                    f"{title} cannot be opened: {_one_line(error)}; fix that, or leave out --{name}."
                ) from None
            messages.warning(f"{title} gets nothing in this session: {_one_line(error)}")
            continue
        trackers.open[name] = tracker
        if tracker.run_id is not None:
            known[name] = {"in": target, "run_id": tracker.run_id}
            messages.info(f"{title}: {tracker.place}")
    if known:
        write_bytes(config.out / "trackers.json", json.dumps(known, indent=1).encode())
    return trackers


def _read_ids(out: Path) -> dict[str, dict[str, str]]:
    """For each tracker: the project or experiment, and the id of this run in it."""
    try:
        found = json.loads((out / "trackers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: ids for name, ids in found.items() if isinstance(ids, dict)} if isinstance(found, dict) else {}


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
