"""The server against clients that nobody invited: honest requests beside them get the same bytes, and nothing grows.

benchmarks/serve.py sends more of the same for longer. No test here asserts a speed.
"""

import contextlib
import importlib
import io
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import Translator, train
from fuzzing import examples, fuzz_settings

pytest.importorskip("fastapi", reason="needs the extra serve")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TOKEN = "correct horse battery staple".replace(" ", "-")


@pytest.fixture(scope="module")
def bench():
    """benchmarks/serve.py, which starts servers and sends requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)  # as for a script, which finds its neighbours
        yield importlib.import_module("serve")
    for name in ("serve", "hostile", "machine"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for seed, name in enumerate("ab"):
        make_folder(root / name, 3, seed=seed)
    return train(root / "a", root / "b", out=root / "maps", quiet=True, **TINY, steps=2).parent / "maps"


@pytest.fixture(scope="module")
def server(bench, run, tmp_path_factory):
    """One server for all tests of this file: what one of them does must not disturb the next."""
    folder = tmp_path_factory.mktemp("log")
    with bench.serving(run, folder, threads=1) as server:
        yield server


def settled(read, at_most, seconds=60):
    """The value of read(), once it is at most `at_most`, or after so many seconds."""
    ends = time.monotonic() + seconds
    while (value := read()) > at_most and time.monotonic() < ends:
        time.sleep(0.1)
    return value


def test_hostile_requests_change_nothing_for_honest_ones(bench, server):
    hostile = sys.modules["hostile"]
    number = len(set(request.name for request in known(server)))
    assert number > 400
    first = bench.besiege(server, 100, seed=1)  # allocates what stays
    threads, files, memory = server.status_of("Threads"), server.num_files(), server.resident_mib()
    found = bench.besiege(server, number + examples(100))
    assert (first.wrong, found.wrong) == ([], [])
    assert (first.differing, found.differing) == ([], [])
    assert found.honest > 0
    assert sum(found.counts.values()) == number + examples(100)
    # Nothing of them stays. A bomb that is unpacked holds hundreds of MiB.
    assert settled(server.num_files, files + 4) <= files + 4
    assert settled(lambda: server.status_of("Threads"), threads + 4) <= threads + 4
    assert settled(server.resident_mib, memory + 100, seconds=10) <= memory + 100
    assert server.status_of("VmHWM") / 1024 < memory + 400
    log = server.log.read_text(errors="replace")
    assert "Traceback" not in log
    assert not list(Path.cwd().glob(hostile.MARKER))
