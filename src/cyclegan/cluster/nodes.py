"""Before the work: every machine of the cluster has this program, and sees the model and the files."""

import os
from collections.abc import Mapping
from typing import Any

from cyclegan.cluster.connection import working_nodes
from cyclegan.errors import InputError
from cyclegan.system.words import counted

# Seconds in which a machine starts a process that looks.
_LOOK_SECONDS = 120


def look(version: str, files: Mapping[str, str]) -> str:
    """What is wrong on this machine, as the end of a sentence; empty if nothing is."""
    from cyclegan._version import __version__

    if __version__ != version:
        return f"has cyclegan {__version__}, and this command is {version}; install the same version on all machines"
    for path, what in files.items():
        if not os.path.lexists(path):
            return f"does not see {path} ({what}); give places that all machines share, under the same paths"
    return ""


def check_nodes(ray: Any, version: str, files: Mapping[str, str]) -> None:
    """Raises InputError unless each machine with cores has this version and sees these files, path -> what it is."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0, max_retries=0)(look)
    names = {}
    for node in working_nodes(ray):
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        names[remote.options(scheduling_strategy=strategy).remote(version, dict(files))] = node["NodeManagerHostname"]
    done, late = ray.wait(list(names), num_returns=len(names), timeout=_LOOK_SECONDS)
    for ref in done:
        try:
            text = ray.get(ref)
        except Exception as error:  # of any kind that the other machine raises
            reason = str(error).strip().splitlines()[-1]
            is_missing = "No module named 'cyclegan" in str(error)
            text = "has no cyclegan; install it on all machines" if is_missing else f"cannot be used: {reason}"
        if text:
            raise InputError(f"The machine {names[ref]} of the cluster {text}.")
    if late:
        raise InputError(
            f"{counted(len(late), 'machine')} of the cluster did not answer within {_LOOK_SECONDS} s, first "
            f"{names[late[0]]}; see `ray status`."
        )
