"""The state of a process as a host program sees it, to compare before and after a call."""

import gc
import logging
import multiprocessing
import os
import random
import signal
import threading
import warnings
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import torch


def fingerprint():
    """Everything that a call of this package must leave as it was, by name."""
    gc.collect()
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "cyclegan"]
    loggers = {name: logging.getLogger(name) for name in (None, *names)}
    numpy_state = np.random.get_state()
    found = {
        "threads of torch": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "random numbers of torch": torch.get_rng_state().numpy().tobytes(),
        "seed of torch": torch.initial_seed(),
        "random numbers of numpy": (numpy_state[0], numpy_state[1].tobytes(), *numpy_state[2:]),
        "random numbers of Python": random.getstate(),
        "default type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomaly mode": torch.is_anomaly_enabled(),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "choice of cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
        "TF32": (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32),
        "oneDNN": torch.backends.mkldnn.enabled,
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "umask": umask(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "filters of warnings": list(warnings.filters),
        "handlers of loggers": {
            name: [type(handler).__name__ for handler in logger.handlers] for name, logger in loggers.items()
        },
        "levels of loggers": {name: (logger.level, logger.disabled) for name, logger in loggers.items()},
        "disabled levels": logging.root.manager.disable,
        "start method": multiprocessing.get_start_method(allow_none=True),
        "child processes": sorted(child_processes()),
        "threads": sorted({thread.name for thread in threading.enumerate()} - {"tqdm_monitor"}),
        "open files": sorted(open_files()),
    }
    if torch.cuda.is_initialized():
        found["random numbers of CUDA"] = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return found


def umask():
    before = os.umask(0o22)
    os.umask(before)
    return before


def child_processes():
    """The processes that this one has started, but for Python's tracker of resources."""
    path = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    if not path.exists():
        return [str(child.pid) for child in multiprocessing.active_children()]
    return [number for number in path.read_text().split() if int(number) != resource_tracker._resource_tracker._pid]


# Kept open by packages for the next call: fonts of matplotlib, and the databases of MLflow and of ONNX Runtime.
_CACHES = ("site-packages", "mlflow.db", "onnxruntime.db")


def open_files():
    folder = Path("/proc/self/fd")
    found = []
    for link in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            target = str(link.readlink())
            if target.startswith("/") and not target.startswith(("/proc/", "/dev/")):
                found += [] if any(name in target for name in _CACHES) else [target]
    return found


def differences(before, after):
    """The names of what differs, with both values; new loggers do not count."""
    found = {}
    for name, value in before.items():
        new = after[name]
        if name.endswith("of loggers"):
            new = {key: new.get(key) for key in value}
        if new != value:
            if isinstance(value, dict):
                keys = [key for key in {**value, **new} if value.get(key) != new.get(key)]
                value, new = ({key: of.get(key) for key in keys} for of in (value, new))
            found[name] = (value, new) if len(repr(value)) < 2000 else "differ"
    return found
