"""Trackers: send the events of a run to TensorBoard, Weights & Biases and MLflow.

`log.jsonl` is the record of a run; a tracker gets the same numbers as they come, under the same names. A tracker that
fails is dropped for the rest of the session, and the run goes on. To add one, write a function that opens it and a
class with the methods of `Tracker`, and add a row to TRACKERS.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cyclegan.config import TrainConfig, flat_values, to_toml
from cyclegan.errors import InputError, UnreadableError
from cyclegan.metrics.features import DEFAULT_FEATURES
from cyclegan.system.atomic import check_writable, write_bytes
from cyclegan.system.json_files import read_json
from cyclegan.system.messages import Messages
from cyclegan.training.events import Event, LossesLogged, Scored, SnapshotSaved, Status, WarningRaised, status_after

# Name of the scores in a tracker; a KID without its feature network would be mistaken for one of another network.
_SCORES = f"validation_{DEFAULT_FEATURES.replace('-', '_')}"

_TITLES = {"tensorboard": "TensorBoard", "wandb": "W&B", "mlflow": "MLflow"}

# Seconds that the end of a run waits for uploads of W&B. The rest stays in RUN/wandb; `wandb sync` sends it.
_UPLOAD_SECONDS = 60


class Tracker(Protocol):
    """An open tracker. Its methods may raise any Exception; the caller then drops it."""

    @property
    def place(self) -> str:
        """The address or folder where a person looks at it."""

    @property
    def run_id(self) -> str | None:
        """Identifies this run in the next session; None: not needed."""

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, name: str, picture: Image.Image, step: int) -> None: ...

    def warn(self, check: str, message: str, step: int) -> None: ...

    def close(self, status: Status) -> None: ...


# ---- one function opens each tracker, from the configuration, the number of steps that are done, and the id of the run
# from an earlier session


def open_tensorboard(config: TrainConfig, step: int, _run_id: str | None) -> Tracker:
    """Event files in RUN/tensorboard. Raises ImportError if it is not installed."""
    from torch.utils.tensorboard import SummaryWriter

    # Hides the points that an earlier session wrote after the checkpoint that this one resumes from.
    folder = str(config.out / "tensorboard")
    check_writable(config.out / "tensorboard")
    board: Any = SummaryWriter(folder, purge_step=step + 1)
    # An error of its thread is raised by the next call, which drops the tracker; a traceback would say nothing more.
    with suppress(AttributeError):
        board._get_file_writer().event_writer._async_writer._worker._invoke_excepthook = lambda *_: None
    settings = to_toml(config).replace("\n", "\n    ")
    board.add_text("configuration", f"    {settings}", step)
    return _TensorBoard(board, folder)


@dataclass
class _TensorBoard:
    board: Any
    place: str
    run_id: str | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        self.board.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def warn(self, check: str, message: str, step: int) -> None:
        self.board.add_text(f"warning/{check}", message, step)

    def close(self, status: Status) -> None:  # noqa: ARG002 - TensorBoard has no status
        self.board.close()


def open_wandb(config: TrainConfig, step: int, run_id: str | None) -> Tracker:  # noqa: ARG001
    """A run of the project `config.wandb`. Its files are in RUN/wandb, and all WANDB_* variables apply."""
    import wandb

    settings = wandb.Settings(silent=True, console="off", finish_timeout=_UPLOAD_SECONDS)
    run: Any = wandb.init(
        project=config.wandb,
        name=os.environ.get("WANDB_NAME") or config.out.resolve().name,
        dir=config.out,
        id=run_id,
        resume="allow" if run_id and wandb.setup().settings.mode == "online" else None,
        settings=settings,
    )
    # A resumed run may change some settings. Its steps start again at the checkpoint, while the steps of W&B only grow,
    # so the step is logged as a separate value.
    run.config.update(flat_values(config), allow_val_change=True)
    run.define_metric("*", step_metric="step")
    kept = None if run.disabled else run.id
    offline = f"{run.settings.sync_dir}; send it with: wandb sync {config.out / 'wandb' / 'offline-run-*'}"
    return _WeightsAndBiases(run, offline if run.offline else run.url or "switched off", kept)


@dataclass
class _WeightsAndBiases:
    run: Any
    place: str
    run_id: str | None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**values, "step": step})

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        import wandb

        self.run.log({name: wandb.Image(picture), "step": step})

    def warn(self, check: str, message: str, step: int) -> None:
        self.run.alert(title=check, text=f"Step {step}: {message}")

    def close(self, status: Status) -> None:
        self.run.summary["status"] = status
        # 255 is W&B's own code for Ctrl-C.
        self.run.finish(exit_code={"finished": 0, "interrupted": 255, "failed": 1}[status])


def open_mlflow(config: TrainConfig, step: int, run_id: str | None) -> Tracker:
    """A run of the experiment `config.mlflow`, at MLFLOW_TRACKING_URI or else in the folder mlflow/ beside RUN."""
    # With the default of 7 retries, training would wait four minutes for a lost server; 3 retries take 15 seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # Standard output is for results.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    from mlflow import MlflowClient
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs every table that it creates

    # One store for all runs of a folder, so that they can be compared. MLflow's own default is the current directory.
    store = config.out.resolve().parent / "mlflow"
    uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not uri:
        store.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{(store / 'mlflow.db').as_posix()}", (store / "artifacts").as_uri()
    client = MlflowClient(tracking_uri=uri)
    assert config.mlflow is not None
    experiment = client.get_experiment_by_name(config.mlflow)
    # This kind of experiment opens on curves, not on chats.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    number = experiment.experiment_id if experiment else client.create_experiment(config.mlflow, artifacts, kind)

    values = {name: str(value) for name, value in flat_values(config).items()}
    sent: dict[str, str] = {}
    if run_id is not None:
        try:
            sent = client.get_run(run_id).data.params
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run_id = None  # the store is not that of the session before
    if run_id is None:
        run_id = client.create_run(number, run_name=config.out.resolve().name).info.run_id
    client.update_run(run_id, status="RUNNING")
    new = [Param(name, value) for name, value in values.items() if name not in sent]
    for first in range(0, len(new), 100):  # the most that MLflow takes at once
        client.log_batch(run_id, params=new[first : first + 100])
    # Parameters in MLflow never change; a setting that does becomes a tag.
    for name, value in values.items():
        if sent.get(name, value) != value:
            client.set_tag(run_id, f"changed.{name}", f"{value} after step {step}")
    where = uri
    if "://" in uri and not artifacts:  # an address may hold a password
        where = f"{uri.partition('://')[0]}://{uri.partition('://')[2].rpartition('@')[2]}"
    page = f"/#/experiments/{number}/runs/{run_id}" if where.startswith("http") else f", experiment {config.mlflow}"
    return _MLflow(client, where + page, run_id)


@dataclass
class _MLflow:
    client: Any
    place: str
    run_id: str

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self.client.log_batch(self.run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        self.client.log_image(self.run_id, picture, key=name, step=step)

    def warn(self, check: str, message: str, step: int) -> None:
        self.client.set_tag(self.run_id, f"warning.{check}", f"Step {step}: {message}")

    def close(self, status: Status) -> None:
        names = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
        self.client.set_terminated(self.run_id, names[status])


TRACKERS: dict[str, Callable[[TrainConfig, int, str | None], Tracker]] = {
    "tensorboard": open_tensorboard,
    "wandb": open_wandb,
    "mlflow": open_mlflow,
}


# ---- all trackers of a session


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
                    f"{_TITLES[name]} failed and is off for the rest of this session: {_one_line(error)}"
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
    """Open the trackers of the configuration, for a run that continues after `step`; `stack` closes them.

    A run that a tracker knows from an earlier session continues there. Raises InputError for a requested tracker that
    cannot be opened and does not hold this run yet, so that a mistake in its settings shows before hours are spent.
    """
    trackers = Trackers(messages)
    stack.push(trackers.close)
    wanted = {"tensorboard": str(config.tensorboard or ""), "wandb": config.wandb, "mlflow": config.mlflow}
    known = _read_ids(config.out, messages)
    for name, target in wanted.items():
        if not target:
            continue
        # In another project or experiment, it is a new run.
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
            messages.warning(f"{title} is off in this session: {_one_line(error)}")
            continue
        trackers.open[name] = tracker
        if tracker.run_id is not None:
            known[name] = {"in": target, "run_id": tracker.run_id}
            messages.info(f"{title}: {tracker.place}")
    if known:
        write_bytes(config.out / "trackers.json", json.dumps(known, indent=1).encode())
    return trackers


def _read_ids(out: Path, messages: Messages) -> dict[str, dict[str, str]]:
    """For each tracker: the project or experiment, and the id of this run in it."""
    try:
        return read_json(out / "trackers.json", dict[str, dict[str, str]])
    except UnreadableError as error:
        if (out / "trackers.json").exists():
            messages.warning(f"{error} Trackers open a new run.")
        return {}


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
