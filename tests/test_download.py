import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TINY_MODEL
from cyclegan import DownloadError, InputError, ModelConfig, Translator
from cyclegan.cli import main
from cyclegan.datasets import download
from cyclegan.datasets.catalogue import HOME, MODELS, STANDARD, Entry
from cyclegan.datasets.fetching import Patience, fetch, workplace
from cyclegan.datasets.standard import address, download_dataset, model_file
from cyclegan.system.messages import Messages
from make_reference import reference_state
from make_zip import images, pack

# No test waits for a stall longer than it must, and none waits between tries.
PATIENT = Patience(timeout=20.0, tries=3, wait=0.0)
HASTY = Patience(timeout=2.0, tries=2, wait=0.0)

DATA = b"PK\x03\x04" + np.random.default_rng(0).bytes(300_000)
QUIET = Messages("datasets", quiet=True)


class Server:
    """Answers each request with the next entry of `script` (the last one stays), and keeps what it was asked."""

    def __init__(self):
        self.script = []
        self.asked = []  # (path, Range, If-Range)
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
                answer = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def ranges(self):
        return [asked[1] for asked in self.asked]

    def stop(self):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "CYCLEGAN_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.stop()


def serve(data, *, etag='"1"', ranges=True, if_range=True, send=None, hold=None, length=True, kind="application/zip"):
    """An answer with the file. send: bytes after which the line breaks. hold: an event to wait for instead."""

    def answer(request):
        start = 0
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        if asked and ranges and (not if_range or condition in (None, etag)):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        request.send_header("Content-Type", kind)
        if length:
            request.send_header("Content-Length", str(len(data) - start))
        if etag:
            request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(data[start:] if send is None else data[start : start + send])
        request.wfile.flush()
        if hold is not None:
            hold.wait(60)

    return answer


def status(code):
    def answer(request):
        request.send_response(code)
        request.end_headers()

    return answer


def redirect(target):
    def answer(request):
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    return answer


def get(server, tmp_path, *, patience=PATIENT, known=True, path="/x.zip"):
    """Fetch DATA into tmp_path; returns its bytes."""
    sums = {"num_bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()} if known else {}
    with workplace(tmp_path / "x", "x", QUIET) as work:
        found = fetch(server.url + path, work, begins=(b"PK\x03\x04",), patience=patience, messages=QUIET, **sums)
        data = found.path.read_bytes()
        assert found.sha256 == hashlib.sha256(data).hexdigest()
        found.path.unlink()
    return data


def nothing_left(folder):
    return list(folder.iterdir()) == []


# ---- HTTP ----


@pytest.mark.parametrize("known", [True, False])
def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server, tmp_path, known):
    server.script = [serve(DATA)]
    assert get(server, tmp_path, known=known) == DATA
    assert nothing_left(tmp_path)


def test_after_two_cuts_only_the_missing_bytes_are_asked_for(server, tmp_path):
    server.script = [serve(DATA, send=100_000), serve(DATA, send=50_000), serve(DATA)]
    assert get(server, tmp_path, known=False) == DATA
    assert server.asked == [
        ("/x.zip", None, None),
        ("/x.zip", "bytes=100000-", '"1"'),
        ("/x.zip", "bytes=150000-", '"1"'),
    ]


def test_a_line_that_breaks_more_often_than_there_are_tries_still_brings_the_file(server, tmp_path):
    server.script = [serve(DATA, send=40_000)] * (len(DATA) // 40_000) + [serve(DATA)]
    assert len(server.script) > PATIENT.tries
    assert get(server, tmp_path) == DATA


def test_a_stall_is_distinguished_from_a_slow_line_and_the_download_goes_on(server, tmp_path):
    server.script = [serve(DATA, send=100_000, hold=server.over), serve(DATA)]
    assert get(server, tmp_path, patience=HASTY) == DATA
    assert server.ranges == [None, "bytes=100000-"]


def test_endless_stalls_end_the_download_and_received_bytes_are_kept(server, tmp_path):
    server.script = [serve(DATA, send=1000, hold=server.over), serve(DATA, send=0, hold=server.over)]
    with pytest.raises(DownloadError, match=r"Nothing came for 2 s \(2 times in a row\).* 1,000 bytes are kept in"):
        get(server, tmp_path, patience=HASTY)
    assert [path.name for path in tmp_path.iterdir()] == [".x.partial"]
    server.script = [serve(DATA)]
    server.asked.clear()
    assert get(server, tmp_path) == DATA
    assert server.ranges == ["bytes=1000-"]
    assert nothing_left(tmp_path)


def test_a_server_that_does_not_answer_is_given_up(server, tmp_path):
    server.script = [lambda _: server.over.wait(60)]
    with pytest.raises(DownloadError, match="does not answer within 2 s"):
        get(server, tmp_path, patience=HASTY)
    assert len(server.asked) == HASTY.tries
    assert nothing_left(tmp_path)


def test_a_server_that_is_not_there_is_given_up(server, tmp_path):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DownloadError, match="127.0.0.1:.* cannot be reached .*--mirror"):
        get(server, tmp_path)
    assert nothing_left(tmp_path)


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.script = [serve(DATA, send=100_000), serve(DATA, ranges=False)]
    assert get(server, tmp_path) == DATA


def test_without_a_mark_of_the_server_and_without_a_checksum_nothing_is_joined(server, tmp_path):
    server.script = [serve(DATA, send=100_000, etag=None), serve(DATA, etag=None)]
    assert get(server, tmp_path, known=False) == DATA
    assert server.ranges == [None, None]
    server.script = [serve(DATA, send=100_000, etag=None), serve(DATA, etag=None)]
    server.asked.clear()
    assert get(server, tmp_path, known=True) == DATA  # the checksum tells
    assert server.ranges == [None, "bytes=100000-"]


def test_downloads_that_cannot_be_resumed_are_not_kept(server, tmp_path):
    server.script = [serve(DATA, send=100_000, etag=None)]
    with pytest.raises(DownloadError, match=r"ended at 0.1 MB of 0.3 MB .*or another --mirror\.$"):
        get(server, tmp_path, known=False)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_between_tries_is_fetched_again(server, tmp_path, if_range):
    changed = DATA[:4] + DATA[4:][::-1]
    server.script = [serve(changed, send=100_000, etag='"old"'), serve(DATA, etag='"new"', if_range=if_range)]
    assert get(server, tmp_path, known=False) == DATA
    assert server.asked[1][1:] == ("bytes=100000-", '"old"')
    # A server that does not look at If-Range is found out by its ETag.
    assert server.ranges[2:] == ([] if if_range else [None])


def test_a_range_that_the_server_does_not_have_starts_over(server, tmp_path):
    server.script = [serve(DATA, send=100_000), status(416), serve(DATA)]
    assert get(server, tmp_path) == DATA
    assert server.ranges == [None, "bytes=100000-", None]


def test_another_address_starts_over(server, tmp_path):
    server.script = [serve(DATA, send=100_000), status(503)]
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.script = [serve(DATA)]
    server.asked.clear()
    assert get(server, tmp_path, path="/elsewhere/x.zip") == DATA
    assert server.ranges == [None]


def test_a_whole_file_of_a_stopped_call_is_not_asked_for_again(server, tmp_path):
    server.script = [serve(DATA)]
    with workplace(tmp_path / "x", "x", QUIET) as work:
        fetch(f"{server.url}/x.zip", work, begins=(b"PK",), patience=PATIENT, messages=QUIET)
    assert get(server, tmp_path) == DATA
    assert len(server.asked) == 1


def test_redirects_are_followed_and_gone_on_with(server, tmp_path):
    there = redirect("/moved/x.zip")
    server.script = [there, serve(DATA, send=100_000), there, serve(DATA)]
    assert get(server, tmp_path) == DATA
    assert [asked[:2] for asked in server.asked[2:]] == [("/x.zip", "bytes=100000-"), ("/moved/x.zip", "bytes=100000-")]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/x.zip", "redirects without end"),
        ("file:///etc/hostname", "file:///etc/hostname', which is not http or https"),
        ("ftp://127.0.0.1/x.zip", "ftp://127.0.0.1/x.zip', which is not http or https"),
    ],
)
def test_redirects_that_lead_nowhere_or_elsewhere_are_refused(server, tmp_path, target, message):
    server.script = [redirect(target)]
    with pytest.raises(DownloadError, match=message):
        get(server, tmp_path)
    assert nothing_left(tmp_path)


def test_404_is_reported_at_once_and_names_the_mirror(server, tmp_path):
    server.script = [status(404)]
    with pytest.raises(DownloadError, match="answers 404 Not Found; .*--mirror URL"):
        get(server, tmp_path)
    assert len(server.asked) == 1
    assert nothing_left(tmp_path)


def test_a_500_passes_or_is_given_up(server, tmp_path):
    server.script = [status(500), status(503), serve(DATA)]
    assert get(server, tmp_path) == DATA
    server.script = [status(500)]
    server.asked.clear()
    with pytest.raises(DownloadError, match=r"answers 500 Internal Server Error \(3 times in a row\)"):
        get(server, tmp_path)
    assert len(server.asked) == 3
    assert nothing_left(tmp_path)


def test_waits_grow_between_tries(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("cyclegan.datasets.fetching.time.sleep", waits.append)
    server.script = [status(500)]
    with pytest.raises(DownloadError):
        get(server, tmp_path, patience=Patience(tries=4, wait=1.0))
    assert waits == [1, 2, 4]


def test_wrong_bytes_are_refused_and_removed(server, tmp_path):
    server.script = [serve(DATA[:-1] + b"!")]
    with pytest.raises(DownloadError, match=f"SHA-256 [0-9a-f]{{64}} instead of {hashlib.sha256(DATA).hexdigest()}"):
        get(server, tmp_path)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"!"])
def test_a_wrong_size_is_refused_and_removed(server, tmp_path, data, length):
    server.script = [serve(data, etag=None, length=length)]
    with pytest.raises(DownloadError) as refusal:
        get(server, tmp_path)
    # A server that tells the length is refused before the bytes; from another one, too few look like a broken line.
    expected = "has 300,00[35] bytes, but" if length else "ended at" if len(data) < len(DATA) else "longer than"
    assert re.search(expected, str(refusal.value))
    if length or len(data) > len(DATA):
        assert nothing_left(tmp_path)


def test_a_web_page_instead_of_a_file_is_refused(server, tmp_path):
    page = b"<html>Please log in</html>"
    for kind, message in (("text/html; charset=utf-8", "returned a web page"), ("application/zip", "is no .zip file")):
        server.script = [serve(page, kind=kind)]
        with pytest.raises(DownloadError, match=message):
            get(server, tmp_path, known=False)
        assert nothing_left(tmp_path)


def test_what_a_killed_process_was_unpacking_or_converting_is_made_again(server, tmp_path):
    work = tmp_path / ".x.partial"
    for name in ("images", "x"):
        (work / name).mkdir(parents=True)
        (work / name / "half").touch()
    (work / "x.pth").touch()
    server.script = [serve(DATA)]
    with workplace(tmp_path / "x", "x", QUIET):
        assert [path.name for path in work.iterdir()] == ["lock"]
    assert nothing_left(tmp_path)


def test_a_full_disk_is_reported_before_the_download(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("cyclegan.datasets.fetching.shutil.disk_usage", lambda _: usage)
    server.script = [serve(DATA)]
    with pytest.raises(InputError, match=r"has 1,000 bytes free and 0.3 MB are needed; make room"):
        get(server, tmp_path)
    assert nothing_left(tmp_path)


def test_a_damaged_note_means_a_fresh_start(server, tmp_path):
    server.script = [serve(DATA, send=100_000), status(404)]
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    (tmp_path / ".x.partial" / "received.json").write_text("[1")
    server.script = [serve(DATA)]
    assert get(server, tmp_path) == DATA
    assert server.ranges[-1] is None


def test_two_processes_do_not_write_the_same_file(tmp_path):
    with (
        workplace(tmp_path / "x", "x", QUIET),
        pytest.raises(InputError, match="Another process is downloading"),
        workplace(tmp_path / "x", "x", QUIET),
    ):
        pytest.fail("two at once")
    assert nothing_left(tmp_path)


# ---- datasets and models ----


def run(capsys, *command):
    """Exit code, stdout and stderr of the command line."""
    code = 0
    try:
        main(command)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def test_a_dataset_is_downloaded_checked_unpacked_and_described(server, tmp_path, monkeypatch, capsys):
    data = pack(images("tiny/"))
    digest = hashlib.sha256(data).hexdigest()
    monkeypatch.setitem(
        STANDARD, "mini", Entry("mini", "datasets/mini.zip", "left", "right", "made up", len(data), digest)
    )
    monkeypatch.chdir(tmp_path)
    server.script = [serve(data, send=50), serve(data)]
    monkeypatch.setattr("cyclegan.datasets.fetching.time.sleep", lambda _: None)
    code, out, err = run(capsys, "download", "mini", "--mirror", f"{server.url}/mirror/")
    assert (code, out) == (0, f"{Path('data/mini')}\n")
    assert [asked[0] for asked in server.asked] == ["/mirror/datasets/mini.zip"] * 2
    assert "SHA-256 as expected" in err
    assert "3 in trainA, 2 in trainB, 1 in testA, 1 in testB" in err
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mini"]
    assert sorted(path.name for path in Path("data/mini").iterdir()) == sorted(
        ["about.json", "trainA", "trainB", "testA", "testB"]
    )
    about = json.loads(Path("data/mini/about.json").read_text())
    assert about["sha256"] == digest
    assert about["url"] == f"{server.url}/mirror/datasets/mini.zip"
    assert about["source"] == "made up"
    assert about["images"] == {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}

    # What is there already is not asked for again.
    server.asked.clear()
    code, out, err = run(capsys, "download", "mini", "--mirror", server.url)
    assert (code, out, server.asked) == (0, f"{Path('data/mini')}\n", [])
    assert "is in data/mini already" in err


def test_the_mirror_may_be_in_the_environment_and_an_unknown_checksum_is_shown(server, tmp_path, monkeypatch, capsys):
    data = pack(images())
    server.script = [serve(data)]
    monkeypatch.setenv("CYCLEGAN_MIRROR", server.url)
    code, _, err = run(capsys, "download", "mini", "--out", str(tmp_path / "new" / "mini"))
    assert code == 0
    assert f"SHA-256 {hashlib.sha256(data).hexdigest()} (none is known" in err
    assert not json.loads((tmp_path / "new/mini/about.json").read_text())["sha256_was_known"]


def test_a_failed_download_leaves_nothing_not_even_the_folders_above(server, tmp_path, capsys):
    out = tmp_path / "deep" / "er" / "mini"
    for answer, message in (
        (status(404), "answers 404"),
        (serve(pack([("../evil.png", b"x"), *images()])), "leads out of the dataset. It was removed."),
        (serve(pack(images())[:-30]), "mini.zip cannot be unpacked: it is damaged"),
    ):
        server.script = [answer]
        code, printed, err = run(capsys, "download", "mini", "--out", str(out), "--mirror", server.url)
        assert (code, printed) == (1, "")
        assert message in err
        assert "Traceback" not in err
        assert nothing_left(tmp_path)


def test_a_published_size_is_checked_before_the_bytes(server, tmp_path, capsys):
    server.script = [serve(pack(images()))]
    code, _, err = run(capsys, "download", "horse2zebra", "--out", str(tmp_path / "x"), "--mirror", server.url)
    assert code == 1
    assert "116,867,962" in err
    assert nothing_left(tmp_path)


def test_a_call_stopped_while_unpacking_goes_on_without_the_network(server, tmp_path, monkeypatch, capsys):
    server.script = [serve(pack(images()))]
    with monkeypatch.context() as patch:

        def stop(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("cyclegan.datasets.archives._write", stop)
        code, _, err = run(capsys, "download", "mini", "--out", str(tmp_path / "mini"), "--mirror", server.url)
        assert code == 130
        assert "the same command resumes from there" in err
        assert [path.name for path in tmp_path.iterdir()] == [".mini.partial"]
        assert not (tmp_path / ".mini.partial" / "images").exists()
    download("mini", tmp_path / "mini", mirror=server.url)
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_what_came_and_the_same_command_goes_on(server, tmp_path, capsys):
    data = pack([*images(), ("mini/trainA/noise.png", np.random.default_rng(1).bytes(200_000))])
    server.script = [serve(data, send=150_000, hold=server.over)]
    out, received = tmp_path / "mini", tmp_path / ".mini.partial" / "received"
    command = ["download", "mini", "--out", str(out), "--mirror", server.url]
    # A shell that starts the tests in the background makes them, and what they start, deaf to the signal.
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclegan", *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # The file is written through a buffer, so that the last bytes may stay in memory until it is closed.
        deadline = time.monotonic() + 300
        while not (received.exists() and received.stat().st_size > 100_000):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command resumes from there" in err
    assert str(tmp_path / ".mini.partial") in err
    kept = received.stat().st_size
    assert 100_000 < kept <= 150_000
    server.script = [serve(data)]
    code, _, _ = run(capsys, *command)
    assert code == 0
    assert server.ranges == [None, f"bytes={kept}-"]
    assert (out / "trainA/noise.png").stat().st_size == 200_000


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive_and_says_so(server, tmp_path, monkeypatch, capsys):
    server.script = [serve(pack(images()))]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cyclegan.datasets.archives._chunks", full)
    code, _, err = run(capsys, "download", "mini", "--out", str(tmp_path / "mini"), "--mirror", server.url)
    assert code == 1
    assert "No space left on device" in err
    assert f"kept in {tmp_path / '.mini.partial'}" in err
    assert not (tmp_path / ".mini.partial" / "images").exists()


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_place_without_a_name_is_refused(server, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        download_dataset("mini", Path(out), mirror=server.url)
    with pytest.raises(InputError), model_file("style_monet", Path(out), mirror=server.url):
        pass
    assert server.asked == []
    assert nothing_left(tmp_path)


def test_a_folder_in_use_is_left_alone_before_anything_is_asked_for(server, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "about.json").write_text('{"name": "horse2zebra"}')
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="not empty"):
            download("mini", out, mirror=server.url)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert server.asked == []


def checkpoint(content):
    """A file as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_model_becomes_a_model_directory_that_translates(server, tmp_path, monkeypatch, capsys):
    state = reference_state(ModelConfig(**TINY_MODEL))
    data = checkpoint(state)
    monkeypatch.chdir(tmp_path)
    server.script = [serve(data, kind="application/octet-stream")]
    code, out, err = run(capsys, "download", "style_monet", "--mirror", server.url)
    assert (code, out) == (0, f"{Path('models/style_monet')}\n")
    assert server.asked[0][0] == "/pretrained_models/style_monet.pth"
    assert [path.name for path in Path("models").iterdir()] == ["style_monet"]
    assert hashlib.sha256(data).hexdigest() in err
    assert "cyclegan translate models/style_monet" in err
    network = Translator.load("models/style_monet", device="cpu").network
    assert torch.equal(network.stem.weight, state["model.1.weight"])

    server.asked.clear()
    assert run(capsys, "download", "style_monet", "--mirror", server.url)[:2] == (0, out)
    code, _, err = run(capsys, "download", "style_cezanne", "--out", "models/style_monet", "--mirror", server.url)
    assert code == 2
    assert "not empty" in err
    assert server.asked == []


def test_a_model_that_would_run_code_is_refused_and_leaves_nothing(server, tmp_path, monkeypatch, capsys):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    monkeypatch.chdir(tmp_path)
    server.script = [serve(checkpoint({"model.1.weight": Payload()}), kind="application/octet-stream")]
    code, out, err = run(capsys, "download", "style_monet", "--mirror", server.url)
    assert (code, out) == (2, "")
    assert "cyclegan: The downloaded style_monet.pth is refused" in err
    assert "nothing was executed" in err
    assert nothing_left(tmp_path)
    Path("mine").mkdir()
    assert run(capsys, "download", "style_monet", "--mirror", server.url, "--out", "mine/x")[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_other_files_beside_the_model_are_neither_used_nor_removed(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("models/style_monet.pth").write_bytes(checkpoint(reference_state(ModelConfig(**TINY_MODEL), seed=1)))
    theirs = reference_state(ModelConfig(**TINY_MODEL), seed=2)
    server.script = [serve(checkpoint(theirs), kind="application/octet-stream")]
    assert run(capsys, "download", "style_monet", "--mirror", server.url)[0] == 0
    network = Translator.load("models/style_monet", device="cpu").network
    assert torch.equal(network.stem.weight, theirs["model.1.weight"])
    assert sorted(path.name for path in Path("models").iterdir()) == ["style_monet", "style_monet.pth"]

    server.asked.clear()
    Path("models/map2sat").mkdir()
    Path("models/map2sat/mine.txt").write_text("mine")
    code, _, err = run(capsys, "download", "map2sat", "--mirror", server.url)
    assert code == 2
    assert "not empty" in err
    assert server.asked == []


def test_a_name_of_both_kinds_is_the_dataset_unless_the_model_is_asked_for(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    server.script = [status(404)]
    for flags in ((), ("--model",)):
        run(capsys, "download", "horse2zebra", "--mirror", server.url, *flags)
    assert [asked[0] for asked in server.asked] == ["/datasets/horse2zebra.zip", "/pretrained_models/horse2zebra.pth"]
    assert nothing_left(tmp_path)


def test_a_page_in_place_of_a_model_is_refused(server, tmp_path):
    server.script = [serve(b"Not a model at all", kind="text/plain")]
    out = tmp_path / "models" / "style_monet"
    with (
        pytest.raises(DownloadError, match="is no .pth file"),
        model_file("style_monet", out, mirror=server.url, patience=PATIENT),
    ):
        pass
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "mirror",
    [
        "ftp://x.org",
        "file:///x",
        "x.org/y",
        "http://",
        "http://u:p@x.org",
        "http://x.org/ y",
        "http://x.org/?q",
        "http://x:y",
    ],
)
def test_a_mirror_that_is_no_web_address_is_refused(tmp_path, mirror):
    with pytest.raises(InputError, match="The mirror .* cannot be used; expected an address like"):
        download_dataset("mini", tmp_path / "mini", mirror=mirror)
    assert nothing_left(tmp_path)


def test_addresses_are_those_of_the_reference(monkeypatch):
    monkeypatch.delenv("CYCLEGAN_MIRROR", raising=False)
    assert HOME == "http://efrosgans.eecs.berkeley.edu/cyclegan"
    assert address(STANDARD["maps"]) == f"{HOME}/datasets/maps.zip"
    assert address(MODELS["map2sat"]) == f"{HOME}/pretrained_models/map2sat.pth"
    assert len(STANDARD) == 12
    assert len(MODELS) == 18
    for entry in STANDARD.values():
        assert (entry.num_bytes is None) == (entry.sha256 is None) == (entry.name in ("ae_photos", "mini"))
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)


def test_the_list_shows_every_name_with_its_size_and_whether_it_is_checked(capsys):
    code, out, _ = run(capsys, "download", "--list")
    assert code == 0
    rows = {tuple(cell.strip() for cell in line.split("│")) for line in out.splitlines() if "│" in line}
    assert ("horse2zebra", "dataset", "horses", "zebras", "116.9 MB", "checked") in rows
    assert ("style_monet", "model", "landscape photos", "style of Monet", "unknown", "unknown") in rows
    names = {row[0] for row in rows}
    assert {"earth", "cityscapes", *STANDARD, *MODELS} <= names


def test_cityscapes_shows_the_terms_of_its_licence(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "download", "cityscapes")
    assert (code, out) == (2, "")
    for words in ("non-commercial", "register at https://www.cityscapes-dataset.com", "leftImg8bit_trainvaltest.zip"):
        assert words in err
    assert "gtFine_trainvaltest.zip" in err
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("hors2zebra", "no dataset 'hors2zebra'; did you mean horse2zebra?"),
        ("style_mone", "did you mean style_monet?"),
        ("cityscape", "did you mean cityscapes?"),
        ("cityscapes --model", "no pretrained model 'cityscapes'; did you mean cityscapes_"),
        ("maps --variant etopo1", "--variant is for earth; maps has one form"),
        ("", "no NAME was given; --list shows"),
    ],
)
def test_mistakes_are_answered_with_a_remedy(capsys, command, message):
    code, out, err = run(capsys, "download", *command.split())
    assert (code, out) == (2, "")
    assert message in err
