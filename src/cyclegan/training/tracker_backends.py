"""TensorBoard, Weights & Biases and MLflow: one function opens each, one small class sends to it."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cyclegan.config import TrainConfig, flat_values, to_toml
from cyclegan.training.events import Status

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


# ---- one function opens each tracker, from the configuration, the step that the run goes on after, and the id that the
# run got in an earlier session


def open_tensorboard(config: TrainConfig, step: int, _run_id: str | None) -> Tracker:
    """Event files in RUN/tensorboard. Raises ImportError if it is not installed."""
    from torch.utils.tensorboard import SummaryWriter

    # Hides the points that an earlier session wrote after the checkpoint that this one resumes from.
    folder = str(config.out / "tensorboard")
    board = SummaryWriter(folder, purge_step=step + 1)
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
    # so the step is a value of its own.
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
