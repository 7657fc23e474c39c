"""Leave the process of a host program as it was found.

What a call sets for itself, or what a package that it uses sets, is set back when it ends, also by an error. Only these
settings are touched, so what other threads of the host change meanwhile stays.

What remains: imported packages with what their import does (filters of warnings, handlers of their own loggers), their
caches and the files and threads that these keep (fonts of matplotlib, the database of MLflow, the monitor of tqdm),
CUDA once it has started, and the tracker of resources that Python starts with the first process that loads images.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.utils.data._utils import signal_handling

# Environment variables that packages set for themselves: torch as it traces and exports, MLflow as it logs a run.
_VARIABLES = (
    "TORCHINDUCTOR_CACHE_DIR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    "_MLFLOW_TELEMETRY_SESSION_ID",
)


@contextmanager
def host_state() -> Iterator[None]:
    """Set back the threads of torch, the start method of processes, and the variables that packages set for themselves.

    Modes of torch that the host has entered do not reach into the block: no_grad, inference_mode, autocast, another
    default type or device. As a decorator, `@host_state()`, it does so for each call of a function.
    """
    num_threads = torch.get_num_threads()
    has_start_method = bool(multiprocessing.get_start_method(allow_none=True))
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    try:
        with _usual_modes():
            yield
    finally:
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        if not has_start_method:
            # A lock or a process of a package has chosen the default, after which a host could choose no other one.
            multiprocessing.set_start_method(None, force=True)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            elif os.environ.get(name) != value:
                os.environ[name] = value


@contextmanager
def _usual_modes() -> Iterator[None]:
    """The modes with which torch starts."""
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def loading_processes() -> Iterator[None]:
    """Set back the handler of SIGCHLD, which a DataLoader with processes replaces."""
    number = getattr(signal, "SIGCHLD", None)  # Windows has none
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(number) if number is not None and in_main_thread else None
    try:
        yield
    finally:
        if number is not None and handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
            signal_handling._SIGCHLD_handler_set = False  # so that the host's own loaders set it again


@contextmanager
def random_numbers_kept(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Set back the global random numbers of torch on the CPU and on a device; in the block they follow from the seed.

    Layers draw their first weights from them, and dropout its masks.
    """
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    elif device is not None and device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    states = [generator.get_state() for generator in generators]
    try:
        if seed is not None:
            for generator in generators:
                generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
