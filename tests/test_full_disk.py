"""Disks that are full, read-only or of another user: every command says so, loses nothing, and goes on afterwards."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.bench import measuring
from cyclegan.bench.points import Measured
from cyclegan.cli import main
from cyclegan.export import export_model
from cyclegan.system.atomic import TEMPORARY
from test_download import images, pack, serve, server  # noqa: F401  (a fixture)
from test_validation import scripted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mounts, limits and users of POSIX")

REMEDIES = ("make room there, then run the same command again", "free some space", "limit on the size of files")
TOO_SMALL = (0, 4096)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of images, and a run on them with samples."""
    root = tmp_path_factory.mktemp("full") / "data"
    for name, count, seed in (("trainA", 9, 0), ("trainB", 8, 1), ("testA", 3, 2), ("testB", 3, 3), ("many", 100, 4)):
        make_folder(root / name, count, seed=seed)
    run = train(root, out=root.parent / "run", preset="paper", quiet=True, **{**TINY, "steps": 2, "num_samples": 1})
    export_model(run, root.parent / "theirs", format="reference")
    return run


@pytest.fixture
def disk(tmp_path):
    """A file system of 8 MiB."""
    root = tmp_path / "disk"
    root.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", root], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield Disk(root)
    subprocess.run(["umount", "-l", root], check=True)


@dataclass
class Disk:
    root: Path

    @contextlib.contextmanager
    def with_free(self, room):
        """Leave only so many bytes free."""
        filler = self.root / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(filler, filler.stat().st_size - room)
        try:
            yield
        finally:
            filler.unlink()


# ---- the commands: each returns the words of the command line, given a place for what it writes


class Commands:
    def __init__(self, run, folder, server, monkeypatch):  # noqa: F811
        self.run, self.data, self.folder, self.server, self.monkeypatch = run, run.parent / "data", folder, server, monkeypatch

    def train(self, out):
        flags = {**TINY, "steps": 4, "num_samples": 1, "num_validation": 10, "sample_steps": 2, "checkpoint_steps": 2}
        flags |= {"tensorboard": True, "log_steps": 1}
        scripted(self.monkeypatch, [0.5 - 0.01 * step for step in range(40)])
        words = []
        for name, value in flags.items():
            flag = f"--{name.replace('_', '-')}"
            words += [flag if value else f"--no-{name}"] if isinstance(value, bool) else [flag, str(value)]
        return ["train", self.data / "many", self.data / "many", "--out", out, *words]

    def translate(self, out):
        return ["translate", self.run, self.data / "testA", "--out", out]

    def translate_one(self, out):
        return ["translate", self.run, self.data / "testA" / "0.png", "--out", out.with_suffix(".png")]

    def tiles(self, out):
        pytest.importorskip("tifffile")
        big = self.folder / "big.png"
        if not big.exists():
            Image.effect_noise((160, 160), 90).convert("RGB").save(big)
        return ["translate", self.run, big, "--out", out.with_suffix(".tif"), "--tile", "32"]

    def tiled_png(self, out):
        return ["translate", self.run, self.data / "testA" / "0.png", "--out", out.with_suffix(".png"), "--tile", "16"]

    def video(self, out):
        pytest.importorskip("av")
        from test_video import make_clip, numbered

        clip = self.folder / "clip.mp4"
        if not clip.exists():
            make_clip(clip, numbered(12))
        return ["translate", self.run, clip, "--out", out.with_suffix(".mp4")]

    def evaluate(self, out):
        return ["evaluate", self.run, "--a", self.data / "testA", "--b", self.data / "testB", "--out", out]

    def export_model(self, out):
        return ["export", self.run, "--format", "model", "--out", out]

    def export_reference(self, out):
        return ["export", self.run, "--format", "reference", "--out", out]

    def export_onnx(self, out):
        pytest.importorskip("onnxruntime")
        return ["export", self.run, "--format", "onnx", "--direction", "a2b", "--out", out]

    def export_openvino(self, out):
        pytest.importorskip("openvino")
        return ["export", self.run, "--format", "openvino", "--direction", "a2b", "--out", out]

    def export_torch(self, out):
        return ["export", self.run, "--format", "torch-export", "--direction", "a2b", "--out", out]

    def import_(self, out):
        return ["import", self.run.parent / "theirs", "--out", out]

    def download(self, out):
        self.server.script = [serve(pack(images())) for _ in range(20)]
        return ["download", "mini", "--out", out, "--mirror", self.server.url]

    def push(self, out):
        return ["push", self.run, "user/maps", "--dry-run", out]

    def inspect(self, out):
        return ["inspect", self.data / "trainA", self.data / "trainB", "--out", out.with_suffix(".html")]

    def compare(self, out):
        return ["compare", self.run, self.run, "--out", out.with_suffix(".html")]

    def bench(self, out):
        def run_point(point, *_):
            return Measured(point, point.pixels * 1e-6, 2**20, 3, 0.5, 0.2, reason="")

        self.monkeypatch.setattr(measuring, "run_point", run_point)
        self.monkeypatch.setattr(measuring, "start_seconds", lambda: 0.1)
        self.monkeypatch.setattr(measuring, "available_bytes", lambda _: None)
        return ["bench", self.run, "--work", "translate", "--sizes", "32", "--device", "cpu", "--out", out]


ALL = [name for name in vars(Commands) if not name.startswith("__")]


@pytest.fixture
def commands(trained, tmp_path, server, monkeypatch):  # noqa: F811
    return Commands(trained, tmp_path, server, monkeypatch)


def attempt(words, capfd):
    """Exit code and stderr of a command."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, capfd.readouterr().err


def content(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def leftovers(root):
    return [path for path in root.rglob("*") if TEMPORARY.fullmatch(path.name)]


ROOMS = [int(x) for x in os.environ.get("ROOMS", "0").split(",")]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("room", ROOMS)
def test_explore(disk, commands, capfd, name, room):
    log = open("/tmp/files_out.txt", "a")
    words = getattr(commands, name)(disk.root / "out")
    with disk.with_free(room):
        try:
            code, err = attempt(words, capfd)
        except Exception as error:
            import traceback
            code, err = "RAISED", "".join(traceback.format_exception(error)[-6:])
        print("=====", name, room, "CODE", code, [p.name for p in leftovers(disk.root)], sorted(str(p.relative_to(disk.root)) for p in disk.root.rglob("*"))[:12], file=log)
        print(err[-1800:], file=log)
    try:
        code2, err = attempt(words, capfd)
    except Exception as error:
        code2, err = "RAISED", repr(error)
    print("SECOND", code2, err[-400:] if code2 else "", file=log, flush=True)
