"""Start several processes that find each other, as torchrun starts them."""

import os
import socket
import subprocess
import sys


def start(size, arguments, folder=None, variables=None):
    """Start `python ARGUMENTS` in so many processes. variables: for the environment, of all or by rank."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    started = []
    for rank in range(size):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        own |= {"OMP_NUM_THREADS": 1, **(variables or {})}
        if sys.platform == "linux":  # whatever the name of this machine resolves to
            own["GLOO_SOCKET_IFNAME"] = "lo"
        own = {name: str(value[rank] if isinstance(value, list) else value) for name, value in own.items()}
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env={**os.environ, **own},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def wait(started, seconds=300):
    """Return (status, standard output, standard error) of each. Kills all of them if one takes too long."""
    try:
        return [(process.wait(seconds), *process.communicate()) for process in _read(started, seconds)]
    finally:
        for process in started:
            process.kill()


def _read(started, seconds):
    # One after the other: outputs are short, and fit into the pipes.
    for process in started:
        process.wait(seconds)
        yield process
