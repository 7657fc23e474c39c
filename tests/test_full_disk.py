"""Disks that are full or read-only, and folders of another user: every command says so in one sentence.

Nothing that was whole is lost, no temporary name stays, and the same command goes on once the cause is gone.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from test_validation import scripted

from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.bench import measuring
from cyclegan.bench.points import Measured
from cyclegan.cli import main
from cyclegan.export import export_model
from cyclegan.storage.model import read_info
from cyclegan.system.atomic import TEMPORARY
from make_run import make_examples, make_scores
from test_download import images, pack, serve, server  # noqa: F401  (a fixture)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mounts, limits and users of POSIX")

# What messages advise against a full disk, a limit on files, a read-only disk, and missing rights.
ROOM = ("make room", "free some space")
LIMIT = ("limit on the size of files", "free some space")
PLACE = ("choose a place", "choose another", "free some space or repair the disk")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of images, and a run on them with samples."""
    root = tmp_path_factory.mktemp("full") / "data"
    for name, count, seed in (
        ("trainA", 9, 0),
        ("trainB", 8, 1),
        ("testA", 3, 2),
        ("testB", 3, 3),
        ("manyA", 100, 4),
        ("manyB", 100, 5),
    ):
        make_folder(root / name, count, seed=seed)
    run = train(root, out=root.parent / "run", preset="paper", quiet=True, **{**TINY, "steps": 2, "num_samples": 1})
    export_model(run, root.parent / "theirs", format="reference")
    make_scores().write(run / "scores.json")
    make_examples(run)
    shutil.copytree(run, root.parent / "other")
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
        self.run, self.data, self.folder = run, run.parent / "data", folder
        self.server, self.monkeypatch = server, monkeypatch

    def train(self, out):
        flags = {**TINY, "steps": 4, "num_samples": 1, "num_validation": 10, "sample_steps": 2, "checkpoint_steps": 2}
        flags |= {"tensorboard": True, "log_steps": 1}
        scripted(self.monkeypatch, [0.5 - 0.01 * step for step in range(40)])
        words = []
        for name, value in flags.items():
            flag = f"--{name.replace('_', '-')}"
            words += [flag if value else f"--no-{name}"] if isinstance(value, bool) else [flag, str(value)]
        return ["train", self.data / "manyA", self.data / "manyB", "--out", out, *words]

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
        from clips import make_clip, numbered

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
        return ["compare", self.run, self.run.parent / "other", "--out", out.with_suffix(".html")]

    def bench(self, out):
        def run_point(point, *_):
            return Measured(point, point.pixels * 1e-6, 2**20, 3, 0.5, 0.2, reason="")

        self.monkeypatch.setattr(measuring, "run_point", run_point)
        self.monkeypatch.setattr(measuring, "start_seconds", lambda: 0.1)
        self.monkeypatch.setattr(measuring, "available_bytes", lambda _: None)
        return ["bench", self.run, "--work", "translate", "--sizes", "32", "--device", "cpu", "--out", out]


ALL = [name for name in vars(Commands) if not name.startswith("__")]
# Exports that take seconds.
SLOW = ("export_onnx", "export_torch")
QUICK = [name for name in ALL if name not in SLOW]
# Bytes that are free, by command: none, enough for the first small files, and, where that is much, for larger ones.
ROOMS = {name: [0, 8192] for name in ALL} | {"train": [0, 4096, 600_000, 1_200_000], "export_torch": [0]}
ROOMS |= {"tiles": [0, 8192, 100_000], "bench": [0, 40_960], "inspect": [0], "compare": [0], "export_onnx": [0]}
MORE_ROOMS = {name: [16_384, 40_960, 100_000, 200_000, 400_000] for name in ALL}


@pytest.fixture
def commands(trained, tmp_path, server, monkeypatch):  # noqa: F811
    (tmp_path / "inputs").mkdir()
    return Commands(trained, tmp_path / "inputs", server, monkeypatch)


def attempt(words, capsys):
    """Exit code and stderr of a command."""
    code = 0
    capsys.readouterr()
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def check_refusal(code, err, root, remedies):
    """One sentence that names the place and the remedy, no traceback, no temporary name."""
    assert code in (1, 2), err
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("cyclegan: ")]
    assert err.rstrip().endswith(sentence)
    assert str(root) in sentence
    assert any(remedy in sentence.lower() for remedy in remedies), sentence
    check_whole(root)


def check_whole(root):
    assert [path for path in root.rglob("*") if TEMPORARY.fullmatch(path.name)] == []
    for path in root.rglob("*"):
        if ".partial" in str(path.relative_to(root)):  # kept by name, for the next call
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".png", ".tif"):
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("name", "room"),
    [
        *((name, room) for name, rooms in ROOMS.items() for room in rooms),
        *(pytest.param(name, room, marks=pytest.mark.slow) for name, rooms in MORE_ROOMS.items() for room in rooms),
    ],
)
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(disk, commands, capsys, name, room):
    words = getattr(commands, name)(disk.root / "out")
    with disk.with_free(room):
        code, err = attempt(words, capsys)
        if code == 0:  # it had room enough
            assert room > 0
            return
        check_refusal(code, err, disk.root, ROOM)
    code, err = attempt(words, capsys)
    assert code == 0, err
    assert len(list(disk.root.iterdir())) == 1
    check_whole(disk.root)


@pytest.mark.parametrize("room", [0, pytest.param(8192, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["translate", "tiles", "tiled_png", "video", "evaluate", "inspect", "compare", "bench"]
)
def test_what_was_there_outlives_a_full_disk(disk, commands, capsys, name, room):
    words = getattr(commands, name)(disk.root / "out")
    assert attempt(words, capsys)[0] == 0
    before = contents(disk.root)
    with disk.with_free(room):
        code, err = attempt(words, capsys)
        if code:
            check_refusal(code, err, disk.root, ROOM)
    after = contents(disk.root)
    assert before.keys() <= after.keys()
    if room == 0:
        assert {path: after[path] for path in before} == before
    check_whole(disk.root)


def test_a_run_outlives_a_disk_that_is_full_when_it_is_resumed(disk, commands, capsys):
    out = disk.root / "out"
    words = commands.train(out)
    assert attempt(words, capsys)[0] == 0
    best, model = contents(out / "best"), contents(out / "model")
    longer = [*words, "--steps", "6", "--resume"]
    for room in (8192, 100_000):
        with disk.with_free(room):
            check_refusal(*attempt(longer, capsys), disk.root, ROOM)
        assert (out / "checkpoints" / "step_0000004").is_dir()
        assert contents(out / "best") == best
        assert contents(out / "model") == model
    assert attempt(longer, capsys)[0] == 0
    assert read_info(out / "model").step == 6


@pytest.mark.usefixtures("hub")
def test_push_says_that_its_temporary_folder_is_on_a_full_disk(disk, commands, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr(tempfile, "tempdir", str(disk.root))
    with disk.with_free(8192):
        check_refusal(*attempt(["push", commands.run, "user/maps"], capsys), disk.root, ROOM)
    assert list(disk.root.iterdir()) == []


# ---- where nothing can be mounted, a limit on the size of files fails the same writes


@contextlib.contextmanager
def files_up_to(size):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", QUICK)
def test_a_limit_on_files_is_one_sentence_and_the_same_command_goes_on(commands, tmp_path, capsys, name):
    place = tmp_path / "place"
    place.mkdir()
    words = getattr(commands, name)(place / "out")
    size = {"train": 20_000, "evaluate": 5000}.get(name, 500)
    with files_up_to(size):
        check_refusal(*attempt(words, capsys), place, LIMIT)
    code, err = attempt(words, capsys)
    assert code == 0, err
    check_whole(place)


# ---- places that may not be written


@pytest.mark.parametrize("name", QUICK)
def test_a_read_only_disk_is_one_sentence(disk, commands, capsys, name):
    words = getattr(commands, name)(disk.root / "out")
    subprocess.run(["mount", "-o", "remount,ro", disk.root], check=True)
    check_refusal(*attempt(words, capsys), disk.root, PLACE)
    subprocess.run(["mount", "-o", "remount,rw", disk.root], check=True)
    assert attempt(words, capsys)[0] == 0


@pytest.fixture
def foreign_folder():
    """A folder that others may read and search, but not write. Those of pytest are closed to other users."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    place.chmod(0o755)
    shutil.rmtree(place)


def as_plain_user(words, closed):
    """Exit code and stderr of a command, in a child process without the rights of root and without `closed`.

    The child is a copy of this process that has loaded everything, because another user may not be able to.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.dup2(write, 2)
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            if os.geteuid() == 0:
                os.seteuid(65534)
            else:
                closed.chmod(0o555)
            main([str(word) for word in words])
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as file:
        err = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), err


@pytest.mark.parametrize("name", QUICK)
def test_a_folder_of_another_user_is_one_sentence(trained, server, monkeypatch, foreign_folder, tmp_path, capsys, name):  # noqa: F811
    # What is read lies where the other user may read it too.
    inputs = foreign_folder / "inputs"
    inputs.mkdir()
    shutil.copytree(trained.parent, inputs / "full")
    commands = Commands(inputs / "full" / "run", inputs, server, monkeypatch)
    assert attempt(getattr(commands, name)(tmp_path / "out"), capsys)[0] == 0  # loads everything
    words = getattr(commands, name)(foreign_folder / "out")
    before = contents(foreign_folder)
    code, err = as_plain_user(words, foreign_folder)
    check_refusal(code, err, foreign_folder, PLACE)
    assert contents(foreign_folder) == before
