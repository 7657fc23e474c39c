"""Translating and scoring on clusters of Ray: the same files and scores, nothing lost and nothing twice."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from PIL import Image

from clips import make_clip, numbered
from conftest import TINY, make_folder
from cyclegan import InputError, train, translate_folder
from cyclegan.cli import main
from cyclegan.storage.scores import read_scores
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.progress import FolderProgress

ray = pytest.importorskip("ray", reason="needs cyclegan[ray]")
pyarrow = pytest.importorskip("pyarrow", reason="needs cyclegan[ray]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs cyclegan[ray]")

from cyclegan.cluster import translate_on_cluster  # noqa: E402
from cyclegan.cluster.connection import Share, connected, share_of  # noqa: E402

STORE_BYTES = 80 * 2**20


MARK = f"CYCLEGAN_TEST_OF_RAY={os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def _marked():
    """Mark the processes that these tests start, which inherit the variable; others may run Ray beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*MARK.split("="))
        yield


def ray_processes():
    """Processes of clusters that these tests have started, by command."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"\0{MARK}\0".encode() not in b"\0" + (folder / "environ").read_bytes():
                    continue
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has just ended
                continue
            if "/ray/core/" in command or "ray::" in command:
                found[int(folder.name)] = command
    return found


@contextmanager
def no_process_is_left():
    before = ray_processes()
    yield
    end = time.monotonic() + 20
    while (left := ray_processes().keys() - before.keys()) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left, [ray_processes().get(number) for number in left]


BUCKET = '''
import os
from fsspec.implementations.local import LocalFileSystem

class BucketFileSystem(LocalFileSystem):
    """Objects of a bucket are files below a folder. Those of `secret` may not be listed or written."""

    protocol = "bucket"

    def __init__(self, **options):
        super().__init__(auto_mkdir=True)

    @classmethod
    def _strip_protocol(cls, path):
        path = str(path)
        if path.startswith("bucket:"):
            path = os.environ["BUCKET"] + "/" + path.removeprefix("bucket:").lstrip("/")
        return super()._strip_protocol(path)

    def _check(self, path):
        if "/secret" in self._strip_protocol(path):
            raise PermissionError("Access Denied")

    def isdir(self, path):
        return self._check(path) or super().isdir(path)

    def get_file(self, path, target, **options):
        if "poison" in path:  # as a process ends that needs more memory than there is
            os._exit(1)
        super().get_file(path, target, **options)

    def pipe_file(self, path, value, **options):
        self._check(path)
        with self.open(path, "wb") as file:
            file.write(value)
'''


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The root of a bucket that this process and those it starts know as bucket://."""
    import fsspec

    code, folder = tmp_path_factory.mktemp("code"), tmp_path_factory.mktemp("bucket")
    (code / "a_bucket-1.0.dist-info").mkdir()
    (code / "a_bucket.py").write_text(BUCKET)
    (code / "a_bucket-1.0.dist-info" / "METADATA").write_text("Name: a_bucket\nVersion: 1.0\n")
    (code / "a_bucket-1.0.dist-info" / "entry_points.txt").write_text(
        "[fsspec.specs]\nbucket = a_bucket:BucketFileSystem\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUCKET", str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(code)
        fsspec.register_implementation("bucket", "a_bucket.BucketFileSystem", clobber=True)
        yield folder


@contextmanager
def cluster(*cores, head=0):
    """A cluster of machines with so many cores, simulated in processes; the head has none. Yields it and its nodes."""
    from ray.cluster_utils import Cluster

    options = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    with no_process_is_left():
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": head, **options})
        try:
            nodes = [made.add_node(num_cpus=count, object_store_memory=STORE_BYTES) for count in cores]
            made.wait_for_nodes()
            yield made, nodes
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture(scope="class")
def local(bucket):  # noqa: ARG001
    """A cluster of this machine that several tests use: its start takes longest."""
    with no_process_is_left(), connected("local") as module:
        yield module


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run, and a folder with pictures of two sizes, a damaged one, an animation, and folders."""
    root = tmp_path_factory.mktemp("ray")
    make_folder(root / "a", 40), make_folder(root / "b", 4, seed=1, tint=(0.2, 0.5, 1.0))
    train(root / "a", root / "b", out=root / "run", quiet=True, **{**TINY, "steps": 2})
    make_folder(root / "test a", 14), make_folder(root / "test b", 14, seed=2)
    for index in range(3):  # of another size, in the middle of a part
        for name in ("test a", "test b"):
            Image.open(root / name / f"{4 + index}.png").resize((32, 20)).save(root / name / f"{4 + index}.png")
    (root / "test a" / "9.png").write_bytes(b"damaged")
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


@pytest.mark.usefixtures("local")
class TestOnOneCluster:
    def test_the_command_writes_the_files_of_the_plain_one_and_goes_on(self, root, plain, tmp_path, capsys):
        out = tmp_path / "out"
        command = ["translate", str(root / "run"), str(root / "a"), "--out", str(out), "--ray", "local"]
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

    def test_other_inputs_replace_results_of_the_same_names(self, root, tmp_path):
        """As the plain call does: what is done is a source and its result, not a name of a result."""
        make_folder(tmp_path / "other", 4, seed=9)
        for inputs in (root / "b", tmp_path / "other"):
            for num_done in (4, 0):
                result = translate_on_cluster(root / "run", inputs, tmp_path / "out", device="cpu")
                assert (result.num_done, result.num_existing) == (num_done, 4 - num_done)
            translate_folder(root / "run", inputs, tmp_path / "plain", device="cpu")
            assert_complete(tmp_path / "out", tmp_path / "plain", inputs, num_failed=0)

    def test_the_sign_to_stop_of_a_command_that_was_killed_stops_no_other(self, root, tmp_path):
        (tmp_path / ".manifest").mkdir()
        (tmp_path / ".manifest" / ".stop").touch()
        result = translate_on_cluster(root / "run", root / "b", tmp_path, device="cpu")
        assert (result.num_done, result.num_failed) == (4, 0)

    def test_clips_and_frames_are_translated_as_a_whole(self, root, tmp_path):
        make_folder(tmp_path / "in" / "one", 5, seed=7), make_folder(tmp_path / "in" / "two", 4, seed=8)
        make_clip(tmp_path / "in" / "clip.mp4", numbered(4))
        command = ["translate", str(root / "run"), str(tmp_path / "in"), "--stabilise", "--device", "cpu"]
        main([*command, "--out", str(tmp_path / "plain")])
        main([*command, "--out", str(tmp_path / "out"), "--ray", "local"])
        assert_complete(tmp_path / "out", tmp_path / "plain", tmp_path / "in", num_failed=0)

    def test_buckets_are_read_and_written_and_gone_on_with(self, root, plain, bucket):
        shutil.copytree(root / "a", bucket / "photos")
        options = {"device": "cpu", "options": TranslateOptions(batch_size=4)}
        for num_done, num_existing in ((47, 0), (1, 46)):
            result = translate_on_cluster(root / "run", "bucket://photos", "bucket://made/out", **options)
            assert (result.num_done, result.num_existing, result.num_failed) == (num_done, num_existing, 1)
            assert results_of(bucket / "made" / "out") == results_of(plain)
            (bucket / "made" / "out" / "3.png").unlink()
        assert result.manifest == "bucket://made/out/.manifest"
        assert result.failed[0][0] == Path("bucket:/photos/damaged.png")
        assert "truncated" in result.failed[0][1]
        rows = rows_of(bucket / "made" / "out")
        assert sorted(row["source"] for row in rows) == sorted(
            f"bucket://photos/{path.relative_to(root / 'a')}" for path in (root / "a").rglob("*") if path.is_file()
        )

    @pytest.mark.slow
    def test_a_file_that_ends_each_process_is_one_failure(self, root, bucket, tmp_path, monkeypatch):
        monkeypatch.setattr("cyclegan.cluster.stream._MOST_TRIES", 1)
        for index in range(8):
            name = "poison" if index == 2 else "good"
            (bucket / "mixed").mkdir(exist_ok=True)
            shutil.copyfile(root / "a" / f"{index}.png", bucket / "mixed" / f"{name} {index}.png")
        options = {"device": "cpu", "options": TranslateOptions(batch_size=4)}
        result = translate_on_cluster(root / "run", "bucket://mixed", tmp_path, **options)
        assert (result.num_done, result.num_failed) == (7, 1)
        assert result.failed[0][0].name == "poison 2.png"
        assert "each process that took it has ended" in result.failed[0][1]
        assert [row["state"] for row in rows_of(tmp_path)].count("done") == 7
        assert len(rows_of(tmp_path)) == 8

    def test_scores_are_those_of_one_process(self, root, tmp_path):
        command = ["evaluate", str(root / "run"), "--a", str(root / "test a"), "--b", str(root / "test b"), "--paired"]
        command += ["--device", "cpu", "--batch-size", "4", "--direction", "a2b"]
        made = {}
        for name, more in (("plain", []), ("ray", ["--ray", "local"])):
            main([*command, "--out", str(tmp_path / name), *more])
            made[name] = read_scores(tmp_path / name / "scores.json")
        plain, ray = made["plain"], made["ray"]
        assert plain.files == ray.files
        one, other = plain.directions["a2b"], ray.directions["a2b"]
        assert one.notes == other.notes
        assert one.metrics.keys() == other.metrics.keys()
        for name, score in one.metrics.items():
            assert other.metrics[name].value.value == pytest.approx(score.value.value, rel=1e-4, abs=1e-6), name
        assert [image.file for image in one.images] == [image.file for image in other.images]
        for image, twin in zip(one.images, other.images, strict=True):
            assert twin.scores == pytest.approx(image.scores, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_memory_of_the_command_does_not_grow_with_the_files(root, tmp_path):
    content = (root / "a" / "0.png").read_bytes()
    for index in range(6000):
        place = tmp_path / "photos" / f"{index // 1000}" / f"photograph number {index:06d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    used = []
    progress = Progress(lambda _: used.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096))
    with no_process_is_left():
        result = translate_on_cluster(
            root / "run", tmp_path / "photos", tmp_path / "out", device="cpu", progress=progress
        )
    assert (result.num_done, result.num_failed) == (6000, 0)
    assert len({row["target"] for row in rows_of(tmp_path / "out")}) == len(rows_of(tmp_path / "out")) == 6000
    assert len(results_of(tmp_path / "out")) == 6000
    assert max(used) - used[0] < 30e6


@pytest.fixture(scope="module")
def many(root):
    """A folder whose translation takes some seconds, and what the plain call makes of it."""
    make_folder(root / "many", 150, size=(224, 224), seed=5)
    translate_folder(root / "run", root / "many", root / "plain of many", device="cpu")
    return root / "many", root / "plain of many"


def map_workers():
    return [number for number, name in ray_processes().items() if "MapWorker" in name]


@pytest.mark.slow
def test_a_process_that_is_killed_and_a_machine_that_is_removed_lose_nothing(root, many, tmp_path):
    inputs, plain = many
    out, killed, left = tmp_path / "out", [], []
    with cluster(1, 1) as (made, nodes):

        def harm(num_done):
            if len(map_workers()) == 2 and not killed:
                killed.extend(map_workers()[:1])
                os.kill(killed[0], signal.SIGKILL)
            if num_done > 60 and not left:
                left.append(150 - len(results_of(out)))
                made.remove_node(nodes[0], allow_graceful=False)

        result = translate_on_cluster(root / "run", inputs, out, ray=made.address, progress=Progress(harm))
    assert killed
    assert left[0] > 20
    assert (result.num_done, result.num_failed) == (150, 0)
    assert_complete(out, plain, inputs, num_failed=0)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_the_same_command_goes_on(root, many, tmp_path):
    inputs, plain = many
    out = tmp_path / "out"
    command = ["translate", str(root / "run"), str(inputs), "--out", str(out), "--ray", "local", "--device", "cpu"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclegan", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        end = time.monotonic() + 120
        while not list(out.glob("*.png")) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Stopped; images and clips that are done are kept" in said
    assert "Traceback" not in said
    assert "NoneType" not in said
    assert list(temporary.iterdir()) == []  # no other cluster, which Ray starts when asked too late
    done = {row["target"] for row in rows_of(out)} if list(out.glob(".manifest/*.parquet")) else set()
    assert done <= {str(path) for path in out.glob("*.png")}
    assert not list(out.rglob("*.partial"))
    before = {path: path.stat().st_mtime_ns for path in map(Path, done)}
    assert len(results_of(out)) < 150

    main(command)
    assert_complete(out, plain, inputs, num_failed=0)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_bucket_without_rights_is_one_sentence(root, bucket):
    (bucket / "secret").mkdir()
    with pytest.raises(InputError, match="bucket://secret/photos cannot be read: PermissionError: Access Denied"):
        translate_on_cluster(root / "run", "bucket://secret/photos", root / "never")
    with pytest.raises(InputError, match="bucket://secret/out cannot be written: PermissionError: Access Denied"):
        translate_on_cluster(root / "run", root / "a", "bucket://secret/out")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "expected local, auto, or the address"),
        ("everywhere", "ray is 'everywhere'; expected local, auto, or the address"),
        ("host:0", "expected local"),
        ("host:99999", "expected local"),
        ("ray://host:10001", "Ray Client, through which this command does not run"),
        ("nowhere.invalid:6379", "No cluster of Ray answers at nowhere.invalid:6379"),
        ("127.0.0.1:PORT", "No cluster of Ray answers at 127.0.0.1:"),
        ("auto", "No cluster of Ray was found"),
    ],
)
def test_a_cluster_that_is_none_is_named_within_seconds(root, tmp_path, monkeypatch, address, message):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, found in (("find_gcs_addresses", set()), ("find_bootstrap_address", None)):  # of others on this machine
        monkeypatch.setattr(f"ray._private.services.{name}", Mock(return_value=found))
    began = time.monotonic()
    with pytest.raises(InputError, match=message):
        translate_on_cluster(root / "run", root / "a", tmp_path, ray=address.replace("PORT", str(free_port())))
    assert time.monotonic() - began < 60


def test_another_server_is_no_cluster(root, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(InputError, match="another server is there"):
                translate_on_cluster(root / "run", root / "a", tmp_path, ray=f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus_per_actor": 1000}, "No machine of the cluster has 1000 CPU cores"),
        ({"gpus_per_actor": 2}, "No machine of the cluster has"),
        ({"cpus_per_actor": -1}, "cpus_per_actor is -1"),
        ({"cpus_per_actor": 0}, "cpus_per_actor is 0, and an actor without a GPU needs cores"),
        ({"cpus_per_actor": 1e-5}, "cpus_per_actor is 1e-05, and an actor without a GPU needs cores"),
        ({"device": "cuda"}, "no machine of the cluster has a GPU"),
        ({"device": "cuda:1"}, "Ray chooses the device"),
        ({"device": "cpu", "gpus_per_actor": 0.5}, "device is cpu, and each actor would have 0.5 GPUs"),
    ],
)
def test_a_share_that_no_machine_has_is_one_sentence(options, message):
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0}}]
    with pytest.raises(InputError, match=message):
        share_of(
            SimpleNamespace(nodes=lambda: nodes),
            **{"device": "auto", "cpus": None, "gpus": None}
            | {
                {"cpus_per_actor": "cpus", "gpus_per_actor": "gpus"}.get(name, name): value
                for name, value in options.items()
            },
        )


@pytest.mark.parametrize(
    ("nodes", "device", "gpus", "share"),
    [
        ([{"CPU": 2.0}], "auto", None, Share(2, 0, 1)),
        ([{"CPU": 8.0}, {"CPU": 8.0}, {"object_store_memory": 1.0}], "auto", None, Share(4, 0, 4)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], "auto", None, Share(8, 1, 2)),
        ([{"CPU": 16.0, "GPU": 2.0}], "cuda", 0.5, Share(4, 0.5, 4)),
        ([{"CPU": 16.0, "GPU": 2.0}], "cpu", None, Share(4, 0, 4)),
    ],
)
def test_actors_fill_the_machines(nodes, device, gpus, share):
    cluster = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert share_of(cluster, device, None, gpus) == share


@pytest.mark.parametrize("package", ["pyarrow", "ray"])
def test_without_ray_the_message_has_the_command_that_installs_it(root, tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as stop:
        main(["translate", str(root / "run"), str(root / "a"), "--out", str(tmp_path / "out"), "--ray", "local"])
    assert stop.value.code == 2
    assert f"--ray needs the package {package}: pip install 'cyclegan[ray]'" in capsys.readouterr().err


def test_a_foreign_file_among_the_parts_is_named(root, tmp_path):
    (tmp_path / ".manifest").mkdir()
    table = pyarrow.table({"source": ["a"], "target": ["b"], "state": ["done"]})
    pq.write_table(table, tmp_path / ".manifest" / "part-copy.parquet")
    with pytest.raises(InputError, match=r"part-copy.parquet is damaged .*; remove it"):
        translate_on_cluster(root / "run", root / "b", tmp_path, device="cpu")


def test_one_result_and_streams_are_refused(root, tmp_path, capsys):
    for source, out in ((root / "a" / "0.png", tmp_path / "b.png"), ("-", tmp_path / "out"), (root / "a", "-")):
        with pytest.raises(SystemExit) as stop:
            main(["translate", str(root / "run"), str(source), "--out", str(out), "--ray", "local"])
        assert stop.value.code == 2
    assert "--ray" in capsys.readouterr().err


@pytest.mark.slow
def test_machines_are_asked_before_the_work(root, tmp_path, monkeypatch):
    """Another version of Ray, and a machine that does not see the model."""
    with cluster(1) as (made, _):
        monkeypatch.setattr("ray._private.utils.compute_version_info", lambda: ("1.0.0", "3.9.0"))
        with pytest.raises(InputError, match=r"The cluster runs Ray: .*install the same versions"):
            translate_on_cluster(root / "run", root / "a", tmp_path, ray=made.address)
        monkeypatch.undo()
        monkeypatch.setattr("cyclegan.cluster.translation._seen", lambda *_: {"/nowhere/model": "the model"})
        with pytest.raises(InputError, match=r"does not see /nowhere/model \(the model\)"):
            translate_on_cluster(root / "run", root / "a", tmp_path, ray=made.address)
    assert not results_of(tmp_path)
