"""The server beside hostile clients: honest requests get the same bytes as without them, and nothing grows.

benchmarks/serve.py sends more of the same for longer. No test here asserts a speed.
"""

import importlib
import io
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import Translator, train
from fuzzing import examples

pytest.importorskip("fastapi", reason="needs the extra serve")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the server's process in /proc")

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guides" / "serve.md"


@pytest.fixture(scope="module")
def bench():
    """benchmarks/serve.py, which starts servers and sends requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # as for a script, which finds its neighbours
        yield importlib.import_module("serve")
    for name in ("serve", "hostile", "machine"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def hostile(bench):
    return sys.modules[bench.hostile.__name__]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for seed, name in enumerate("ab"):
        make_folder(root / name, 3, seed=seed)
    train(root / "a", root / "b", out=root / "maps", quiet=True, **TINY, steps=2)
    return root / "maps"


@pytest.fixture(scope="module")
def server(bench, run, tmp_path_factory):
    """One server for most tests of this file: what one of them does must not disturb the next."""
    with bench.serving(run, tmp_path_factory.mktemp("log"), threads=1) as server:
        yield server


def settled(read, at_most, seconds=60):
    """The value of read() as soon as it is at most `at_most`, else the last one after so many seconds."""
    ends = time.monotonic() + seconds
    while (value := read()) > at_most and time.monotonic() < ends:
        time.sleep(0.1)
    return value


def assert_nothing_stays(server, before, *, mib=100):
    """before: threads, files and MiB. Threads of pools may begin late; the allocator keeps some memory."""
    threads, files, memory = before
    assert settled(lambda: server.status_of("Threads"), threads + 8) <= threads + 8
    assert settled(server.num_files, files + 8) <= files + 8
    assert settled(server.resident_mib, memory + mib, seconds=20) <= memory + mib


def state_of(server):
    return server.status_of("Threads"), server.num_files(), server.resident_mib()


def test_hostile_requests_change_nothing_for_honest_ones(bench, hostile, server):
    number = len(hostile.Maker(server.path, server.host, {}).known())
    assert number > 400
    first = bench.besiege(server, 100, seed=1)  # allocates what stays
    before, said = state_of(server), server.log.read_text()
    found = bench.besiege(server, number + examples(100))
    assert (first.wrong, found.wrong) == ([], [])
    assert (first.differing, found.differing) == ([], [])
    assert found.honest > 0
    assert sum(found.counts.values()) == number + examples(100)
    assert {"200", "400", "404", "405", "413", "415", "422", "closed"} <= set(found.counts)
    assert_nothing_stays(server, before)
    # A bomb that is unpacked holds 256 MiB and more.
    assert server.status_of("VmHWM") / 1024 < before[2] + 400
    assert server.log.read_text(errors="replace") == said  # nor can they fill the disk
    assert not [*server.log.parent.rglob(hostile.MARKER)]


def test_an_honest_answer_is_what_the_translator_gives(bench, hostile, run, server):
    translator = Translator.load(run, device="cpu")
    picture = hostile.pictures()["png"]
    status, content = bench.fetch(server, "POST", server.path, picture)
    assert status == 200
    given = Image.open(io.BytesIO(picture))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(translator(given)))


def test_connections_that_say_nothing_more_hold_up_nobody(bench, hostile, server):
    picture = hostile.pictures(33, 21)["png"]
    _, right = bench.fetch(server, "POST", server.path, picture)
    before = state_of(server)
    head = hostile.Maker(server.path, server.host, {}).head(Content_Length="1000")
    beginnings = (b"", b"P", head[:30], head, head + b"\r\n", head + b"\r\n" + picture[:500])
    held = [socket.create_connection((hostile.ADDRESS, server.port)) for _ in range(120)]
    try:
        for index, connection in enumerate(held):
            connection.sendall(beginnings[index % len(beginnings)])
        for _ in range(20):
            assert bench.fetch(server, "POST", server.path, picture) == (200, right)
        assert bench.fetch(server, "GET", "/readyz")[0] == 200
    finally:
        for connection in held:
            connection.close()
    assert_nothing_stays(server, before)


def test_clients_that_hang_up_leave_nothing_behind(bench, hostile, server):
    picture, other = hostile.pictures(34, 21)["png"], hostile.pictures()["png"]
    _, right = bench.fetch(server, "POST", server.path, picture)
    large = bench.make_picture(1200, 1000)  # in tiles
    bench.fetch(server, "POST", server.path, large)
    before = state_of(server)
    for number in range(12):
        request = hostile.Maker(server.path, server.host, {}).post("large", large if number % 2 else other)
        hostile.send(server.port, hostile.replace(request, hang_up=True))
    assert bench.fetch(server, "POST", server.path, picture) == (200, right)
    assert settled(lambda: metric(bench, server, "cyclegan_queue_length"), 0) == 0
    assert bench.fetch(server, "POST", server.path, picture) == (200, right)
    assert_nothing_stays(server, before)


def metric(bench, server, name):
    _, text = bench.fetch(server, "GET", "/metrics")
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text.decode(), re.MULTILINE))


def test_many_clients_get_their_results_or_503(bench, server):
    pictures = [bench.make_picture(16 + 4 * index, 40, seed=index) for index in range(8)]
    right = [bench.fetch(server, "POST", server.path, picture)[1] for picture in pictures]
    counts, wrong, lock = Counter(), [], threading.Lock()

    def client(index):
        with bench.Connection(server) as connection:
            for number in range(6):
                place = (index + number) % len(pictures)
                status, content = connection.translate(pictures[place])
                with lock:
                    counts[status] += 1
                    # A batch rounds otherwise than an image alone.
                    if status == 200 and bench.difference(content, right[place]) > 1:
                        wrong.append(place)
                    if status == 503 and json.loads(content)["status"] != 503:
                        wrong.append(content)

    bench.in_threads(client, 64)  # allocates what stays
    before = state_of(server)
    bench.in_threads(client, 64)
    assert set(counts) <= {200, 503}
    assert counts[200] >= 64
    assert sum(counts.values()) == 2 * 64 * 6
    assert wrong == []
    assert_nothing_stays(server, before)


def test_reloading_loses_no_request(bench, hostile, run, tmp_path):
    # Of several sizes: none shares a batch, which would round otherwise.
    pictures = [hostile.pictures(30 + index, 20)["png"] for index in range(4)]
    with bench.serving(run, tmp_path, threads=1) as server:
        right = [bench.fetch(server, "POST", server.path, picture) for picture in pictures]
        assert {status for status, _ in right} == {200}
        ended, wrong = threading.Event(), []

        def client(index):
            with bench.Connection(server) as connection:
                while not ended.is_set():
                    answer = connection.translate(pictures[index])
                    if answer != right[index]:
                        wrong.append(answer)

        threads = [threading.Thread(target=client, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, 4):
            server.process.send_signal(signal.SIGHUP)
            settled(lambda number=number: number - server.log.read_text().count("again"), 0)
        ended.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert server.log.read_text().count("again") >= 3


def test_without_the_token_nothing_is_translated(bench, hostile, run, tmp_path, monkeypatch):
    monkeypatch.setenv("CYCLEGAN_TOKEN", "a-token-of-some-length")
    with bench.serving(run, tmp_path, threads=1) as server:
        picture = hostile.pictures()["png"]
        maker = hostile.Maker(server.path, server.host, {})
        tokens = (
            "",
            "Bearer",
            "Bearer ",
            "Bearer a-token-of-some-lengt",
            "Bearer a-token-of-some-length-",
            "Basic YTpi",
        )
        for token in (*tokens, "a-token-of-some-length", "Bearer \xe9\xff", "Bearer " + "x" * 5000):
            answer = hostile.send(server.port, maker.post("token", picture, Authorization=token))
            assert answer.status == 401, token
            assert b"www-authenticate: bearer" in answer.content.lower()
        statuses = Counter()
        for request in maker.known()[::5]:
            answer = hostile.send(server.port, request)
            statuses[answer.status] += 1
            assert answer.status != 200 or b'{"status":"ok"}' in answer.content, request.name
        assert statuses[401] > 50
        server.headers["Authorization"] = "Bearer a-token-of-some-length"
        assert bench.fetch(server, "POST", server.path, picture)[0] == 200
        assert "a-token" not in server.log.read_text()


# The interface


@pytest.mark.parametrize("known", [True, False], ids=["of the model", "any names"])
def test_the_server_does_what_its_openapi_says(hostile, server, known):
    """schemathesis: examples, coverage, random and chained requests, right and wrong ones, with all checks."""
    import schemathesis
    from hypothesis import strategies
    from schemathesis.engine import events, from_schema

    names = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/tiff": "tiff"}
    types = {**names, "application/x-npy": "npy", "application/octet-stream": "png", "image/avif": "png"}
    for kind, name in types.items():
        schemathesis.openapi.media_type(kind, strategies.just(hostile.pictures()[name]))
    schema = schemathesis.openapi.from_url(f"http://{server.host}/openapi.json")
    schema.config.generation.update(deterministic=True, max_examples=examples(5))
    # Random bytes, as a form has them, fit the schema and are no image.
    schema.config.checks.positive_data_acceptance.expected_statuses += ["415", "422"]
    if known:
        schema.config.parameters = {"name": server.model, "direction": "a2b"}
    statuses, failures = Counter(), []
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            failures.append(str(getattr(event, "info", event)))
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            statuses.update(each.response.status_code for each in recorder.interactions.values() if each.response)
            for check in (check for checks in recorder.checks.values() for check in checks):
                if check.failure_info is not None:
                    failures.append(f"{check.failure_info.failure} {check.failure_info.code_sample}")
    assert failures == []
    assert {200, 400, 404, 405} <= set(statuses) if not known else {200, 400, 405} <= set(statuses)


# The guide


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def at(server, text):
    """Text of the page for the address of a server of this test."""
    assert "http://127.0.0.1:8000" in text
    return text.replace("http://127.0.0.1:8000", f"http://{server.host}")


def test_the_client_of_the_guide_runs_as_printed(hostile, server, tmp_path, monkeypatch, capsys):
    (text,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("photo.jpg").write_bytes(hostile.pictures()["jpeg"])
    names = {"__name__": "client"}
    monkeypatch.setitem(sys.modules, "client", type(sys)("client"))  # dataclasses look their module up
    exec(compile(at(server, text), str(GUIDE), "exec"), names)
    assert capsys.readouterr().out.strip() == "{'maps': ['a2b', 'b2a']}"
    assert Image.open("map.png").format == "PNG"
    client, server_error = names["client"], names["ServerError"]
    picture = hostile.pictures()["png"]
    assert client.translate(picture, "maps", "b2a")[:4] == picture[:4]
    assert client.translate(picture, "maps", tile=16, quality=50, accept="image/webp")[8:12] == b"WEBP"
    for mistake, status in ((("maps", "c2d"), 404), (("other", "a2b"), 404)):
        with pytest.raises(server_error) as caught:
            client.translate(picture, *mistake)
        assert caught.value.status == status
        assert str(caught.value).endswith(".")
    with pytest.raises(server_error, match="image"):
        client.translate(b"no image", "maps")


def test_the_client_of_the_guide_has_types(tmp_path):
    pytest.importorskip("mypy", reason="is part of the extra dev")
    (text,) = blocks("python")
    (tmp_path / "client.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file", "", "client.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_curl_lines_of_the_guide_work(hostile, server, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes(hostile.pictures()["png"])
    (tmp_path / "photo.jpg").write_bytes(hostile.pictures()["jpeg"])
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    assert sum("curl" in line and "127.0.0.1" in line for line in lines) >= 5
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if "curl" not in line or "127.0.0.1" not in line:
            continue
        words = shlex.split(at(server, line))
        assert words[0] == "curl"
        words = ["curl", "--silent", "--noproxy", "*", *words[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if following.startswith("# {"):
            assert done.stdout == following.removeprefix("# ")
    for name in ("map.png", "map.webp", "photo.png"):
        assert Image.open(tmp_path / name).size == (24, 20), name
