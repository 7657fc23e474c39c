"""Translating and scoring on clusters of Ray: the same files and scores, nothing lost and nothing twice."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, train, translate_folder
from cyclegan.cli import main
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.progress import FolderProgress

ray = pytest.importorskip("ray", reason="needs cyclegan[ray]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs cyclegan[ray]")

from cyclegan.cluster import translate_on_cluster  # noqa: E402

STORE_BYTES = 80 * 2**20


def ray_processes():
    """Processes of any cluster that this user's Ray has started, by command."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has just ended
                continue
            if "/ray/core/" in command or "ray::" in command:
                found[int(folder.name)] = command
    return found


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = ray_processes()
    yield
    end = time.monotonic() + 20
    while (left := ray_processes().keys() - before.keys()) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left, [ray_processes().get(number) for number in left]


@contextmanager
def cluster(*cores, head=0):
    """A cluster of machines with so many cores, simulated in processes; the head has none. Yields it and its nodes."""
    from ray.cluster_utils import Cluster

    options = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": head, **options})
    try:
        nodes = [made.add_node(num_cpus=count, object_store_memory=STORE_BYTES) for count in cores]
        made.wait_for_nodes()
        yield made, nodes
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run, and a folder with pictures of two sizes, a damaged one, an animation, and folders."""
    root = tmp_path_factory.mktemp("ray")
    make_folder(root / "a", 40), make_folder(root / "b", 4, seed=1, tint=(0.2, 0.5, 1.0))
    train(root / "a", root / "b", out=root / "run", quiet=True, **{**TINY, "steps": 2})
    make_folder(root / "a" / "below" / "deeper", 5, size=(30, 22), seed=3)
    frames = [Image.open(root / "a" / f"{index}.png") for index in range(3)]
    frames[0].save(root / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.open(root / "a" / "0.png").convert("RGBA").save(root / "a" / "alpha.png")
    (root / "a" / "damaged.png").write_bytes((root / "a" / "0.png").read_bytes()[:100])
    return root


class Progress(FolderProgress):
    """Keeps what is said, and calls a function with the number of files that are done."""

    def __init__(self, on_done=lambda _: None):
        self.notes, self.done, self._on_done = [], [], on_done

    def note(self, message):
        self.notes.append(message)

    @contextmanager
    def translating(self, _num_images):
        def done(source):
            self.done.append(source)
            self._on_done(len(self.done))

        yield done


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results_of(folder):
    """The bytes of all results; nothing else is there but the manifest."""
    return {name: content for name, content in files_of(folder).items() if not name.startswith(".manifest")}


def rows_of(folder):
    return pq.read_table(folder / ".manifest").to_pylist()


def assert_complete(out, plain, inputs, num_failed=1):
    """All results are those of the plain call, and the manifest has one row for each file."""
    assert results_of(out) == results_of(plain)
    rows = rows_of(out)
    assert sorted(row["source"] for row in rows) == sorted(str(p) for p in inputs.rglob("*") if p.is_file())
    assert sum(row["state"] == "failed" for row in rows) == num_failed
    assert {row["target"] for row in rows if row["state"] == "done"} == {str(out / name) for name in results_of(out)}


@pytest.fixture(scope="module")
def plain(root):
    """What the plain call makes of the folder."""
    translate_folder(root / "run", root / "a", root / "plain", device="cpu", batch_size=4)
    return root / "plain"


@pytest.mark.parametrize("alpha", ["a"])
def test_the_command_writes_the_files_of_the_plain_one_and_goes_on(root, plain, tmp_path, capsys, alpha):
    out = tmp_path / "out"
    command = ["translate", str(root / "run"), str(root / alpha), "--out", str(out), "--ray", "local"]
    command += ["--device", "cpu", "--batch-size", "4"]
    with pytest.raises(SystemExit) as stop:  # one file is damaged
        main(command)
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert_complete(out, plain, root / "a")
    assert "Left out: " in said.err
    assert "damaged.png" in said.err
    assert "raylet" not in said.err + said.out
    failed = next(row for row in rows_of(out) if row["state"] == "failed")
    assert failed["source"].endswith("damaged.png")
    assert failed["reason"]

    # What was lost of the results is made again, and what failed is tried again. Nothing else is touched.
    (out / "3.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    with pytest.raises(SystemExit):
        main(command)
    assert_complete(out, plain, root / "a")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert f"{len(before) + 1} of {len(before) + 3} images" in capsys.readouterr().out
