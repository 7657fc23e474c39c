"""Connect to a cluster of Ray, or start one on this machine, and decide how actors share it."""

import logging
import os
import platform
import re
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError, MissingPackageError, reason_of
from cyclegan.system.arguments import check_float
from cyclegan.system.json_files import shown
from cyclegan.system.prefetch import num_cores

# Seconds in which a machine must answer.
_ANSWER_SECONDS = 5

# Bytes for lists of files and rows of results; images are never in Ray's store.
_STORE_BYTES = 2**28

# Cores of an actor where a machine has more: a network that takes one image at a time gains little by others.
_MOST_CPUS = 4

# Cores of an actor that has no GPU: with none, there would be a process for each item.
_FEWEST_CPUS = 0.1

# No usage statistics are sent, and Ray's C++ part writes to its log files, not to the terminal.
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_gcs_server_request_timeout_seconds": "10",
}

# What HTTP/2, by which Ray's server talks, begins with: the preface and an empty frame of settings (RFC 9113, 3.4). The
# server answers with such a frame, whose fourth byte is its type.
_PREFACE, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), b"\x04"

_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Share:
    """How a cluster is shared: CPU cores and GPUs of each actor, and how many actors there are at most."""

    cpus: float
    gpus: float
    count: int

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} of a GPU" if 0 < self.gpus < 1 else f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.cpus:g} {'core' if self.cpus == 1 else 'cores'}{gpus}"

    @property
    def device(self) -> str:
        """The device of an actor; Ray shows it no GPU but its own."""
        return "cuda" if self.gpus else "cpu"

    @property
    def cores(self) -> int:
        """Threads that an actor computes with."""
        return max(1, int(self.cpus))


def check_address(address: object, name: str = "ray") -> str:
    """The value of --ray. Raises InputError unless it is local, auto or an address where something answers.

    Raises MissingPackageError if Ray is not installed.

    name: of the argument.
    """
    if not isinstance(address, str) or (address not in ("local", "auto") and not _parse(address)):
        raise InputError(
            f"{name} is {shown(address)}; expected local, auto, or the address of a cluster such as 10.0.0.1:6379."
        )
    if address.startswith("ray://"):
        raise InputError(
            f"{name} is {address}, an address of Ray Client, through which this command does not run; run it on a "
            f"machine of the cluster with {name} auto, or send it there: ray job submit --address http://HOST:8265 "
            "-- cyclegan ..."
        )
    for package in ("pyarrow", "ray"):  # they are imported much later
        if find_spec(package) is None:
            raise MissingPackageError(f"--ray needs the package {package}: pip install 'cyclegan[ray]'.")
    if address != "local":
        _check_answers(os.environ.get("RAY_ADDRESS") or address if address == "auto" else address)
    return address


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster until the end of the block.

    address: local for a cluster of this machine, which is started here and ends with the block; auto for the one that
    Ray finds (RAY_ADDRESS, or one that runs here); or host:port. A connection that this process has already is used as
    it is, and stays.
    Raises InputError if no cluster answers, or it has other versions of Ray or Python; MissingPackageError if Ray is
    not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(_variables(address))
        ray = _import_ray()
        stack.enter_context(_quiet(ray))
        if not ray.is_initialized():
            options: dict[str, Any] = {"address": address}
            if address == "local":
                folder = tempfile.mkdtemp(prefix="ray", dir=_short_folder())
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                options |= {
                    "num_cpus": num_cores(),
                    "include_dashboard": False,
                    "object_store_memory": _STORE_BYTES,
                    "_temp_dir": folder,
                }
            stack.callback(ray.shutdown)
            _connect(ray, address, options)
        yield ray


def share_of(ray: Any, device: str, cpus: float | None, gpus: float | None) -> Share:
    """How the cluster is shared by actors.

    device: auto for GPUs if the cluster has some, cuda, or cpu. cpus, gpus: of each actor; default: one GPU and its
    share of the cores, else up to four cores, or all of a machine with fewer than eight.
    Raises InputError if no machine of the cluster has so much.
    """
    for name, value in (("cpus_per_actor", cpus), ("gpus_per_actor", gpus)):
        if value is not None:
            check_float(name, value, least=0)
    nodes = [node["Resources"] for node in working_nodes(ray)]
    if not nodes:
        raise InputError("No machine of the cluster has CPU cores for actors; start Ray there with --num-cpus.")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device is {device}, and Ray chooses the device of each actor; give cpu, cuda or auto.")
    with_gpus = [node for node in nodes if node.get("GPU")]
    if device == "cuda" and not with_gpus:
        raise InputError("device is cuda, and no machine of the cluster has a GPU that Ray knows; give cpu.")
    if device == "cpu" and gpus:
        raise InputError(f"device is cpu, and each actor would have {gpus:g} GPUs; give one of them.")
    if gpus is None:
        gpus = 1.0 if with_gpus and device != "cpu" else 0.0
    used = with_gpus if gpus else nodes
    if cpus is None and used:
        cores = min(int(node["CPU"]) for node in used)
        if gpus:
            cpus = float(max(1, int(cores * gpus / max(node["GPU"] for node in used))))
        else:
            cpus = float(cores // max(1, cores // _MOST_CPUS))
    cpus = 1.0 if cpus is None else cpus
    if cpus < _FEWEST_CPUS and not gpus:
        raise InputError(
            f"cpus_per_actor is {cpus:g}, and an actor without a GPU needs cores; expected at least {_FEWEST_CPUS:g}, "
            "such as 1."
        )
    count = sum(
        min(int(node["CPU"] / cpus) if cpus else 10**6, int(node["GPU"] / gpus) if gpus else 10**6) for node in used
    )
    if count == 0:
        raise InputError(
            f"No machine of the cluster has {cpus:g} CPU cores and {gpus:g} GPUs for an actor; it has "
            f"{', '.join(sorted({_describe(node) for node in nodes}))}."
        )
    return Share(cpus, gpus, count)


def working_nodes(ray: Any) -> list[dict[str, Any]]:
    """The machines of the cluster that can hold actors, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _describe(node: dict[str, float]) -> str:
    return f"a machine with {node['CPU']:g} cores and {node.get('GPU', 0):g} GPUs"


def _parse(address: str) -> tuple[str, int] | None:
    found = _HOST_PORT.fullmatch(address.removeprefix("ray://"))
    if found is None or not 0 < int(found["port"]) < 2**16:
        return None
    return found["host"].strip("[]"), int(found["port"])


def _check_answers(address: str) -> None:
    """Raises InputError if nothing answers at an address: Ray itself would try for minutes."""
    place = _parse(address)
    if place is None:  # of a cluster on this machine
        return
    try:
        with socket.create_connection(place, timeout=_ANSWER_SECONDS) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a name that no host can have
        why = reason_of(error)
    else:
        if answer[3:4] == _SETTINGS or os.environ.get("RAY_USE_TLS") == "1":
            return
        why = "another server is there"
    raise InputError(
        f"No cluster of Ray answers at {address} ({why}); check the address, and that `ray start --head` was called "
        "there."
    )


def _connect(ray: Any, address: str, options: dict[str, Any]) -> None:
    try:
        with _no_stderr():  # where Ray announces the level of its log
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=False, **options)
    except Exception as error:  # Ray raises several kinds, and its versions differ in them
        text = " ".join(str(error).split())
        if "Version mismatch" in text:
            theirs = re.search(r"started with:?\s*(Ray: \S+)\s+(Python: \S+)", text)
            what = f"{theirs[1]} and {theirs[2]}" if theirs else "other versions of Ray or Python"
            raise InputError(
                f"The cluster runs {what}, and this command Ray: {ray.__version__} and Python: "
                f"{platform.python_version()}; install the same versions on all machines."
            ) from None
        if address == "auto" and isinstance(error, ConnectionError):
            raise InputError(
                "No cluster of Ray was found; set RAY_ADDRESS, call `ray start --head`, or pass --ray local."
            ) from None
        if address == "local":
            raise InputError(f"Ray could not be started on this machine: {text[:300]}") from None
        raise InputError(
            f"The cluster at {address} cannot be used: {text[:300].rstrip('.')}. Run this command on a machine of the "
            "cluster, with its token (RAY_AUTH_MODE=token) or, if it has none, with RAY_AUTH_MODE=disabled."
        ) from None


def _import_ray() -> Any:
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"--ray needs the package {error.name}: pip install 'cyclegan[ray]'.") from None
    return ray


def _short_folder() -> str | None:
    """A folder for Ray's sockets, whose paths have at most 107 letters; None: the usual one for temporary files."""
    return "/tmp" if os.name == "posix" and len(tempfile.gettempdir()) > 30 else None


@contextmanager
def _variables(address: str) -> Iterator[None]:
    variables = dict(_VARIABLES)
    # `ray start` makes a token, without which its cluster lets nobody in; only some ways to connect send it unasked.
    if address != "local" and _has_token():
        variables["RAY_AUTH_MODE"] = "token"
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)


def _has_token() -> bool:
    """Whether Ray finds a token for a cluster here."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return (Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what is written to standard error in the block, by code that is not Python as well."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """In the block Ray prints nothing to the terminal; its log files have everything."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data", "ray.serve", "ray._private")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    worker = ray._private.worker
    printing = getattr(worker, "print_to_stdstream", None)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    # It would print errors of machines and workers from which Ray recovers.
    if printing is not None:
        worker.print_to_stdstream = lambda *_, **__: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\b")
            yield
    finally:
        if printing is not None:
            worker.print_to_stdstream = printing
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate
