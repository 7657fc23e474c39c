"""`cyclegan serve`: the command, its signals, who may use the server, and the models that it holds."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import httpx
import numpy as np
import pytest

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train
from cyclegan.cli import main
from cyclegan.serving.models import ModelStore, name_models
from cyclegan.serving.settings import ServeSettings
from serving_client import Gate, detail, file_of, pixels, running

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
PNG = file_of(PHOTO, "PNG")
TRANSLATE = "/v1/models/one/a2b:translate"
TOKEN = "a-secret-of-some-length"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with different weights."""
    root = tmp_path_factory.mktemp("runs")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    for name, seed in (("one", 0), ("two", 1)):
        train(a, b, out=root / name, quiet=True, **{**TINY, "steps": 2, "seed": seed})
    return root


def expected(run):
    return np.asarray(Translator.load(run, device="cpu")(PHOTO))


class Command:
    """`cyclegan serve` in a process of its own."""

    def __init__(self, *words, environment=None):
        command = [sys.executable, "-m", "cyclegan", "serve", *map(str, words), "--port=0", "--device=cpu"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes)
        self.address = self.process.stdout.readline().strip()

    def __enter__(self):
        assert self.address.startswith("http://127.0.0.1:"), self.process.stderr.read()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def translate(self, content=PNG, name="one"):
        return httpx.post(f"{self.address}/v1/models/{name}/a2b:translate", content=content, timeout=60)

    def end(self, number):
        """Exit code and messages after a signal."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


# ---- the command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_under_way_end(runs, number):
    with Command(runs / "one") as server:
        assert np.array_equal(pixels(server.translate().content), expected(runs / "one"))
        large = file_of(np.zeros((700, 700, 3), np.uint8), "PNG")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(server.translate(large)))
        thread.start()
        time.sleep(0.3)
        code, err = server.end(number)
        thread.join()
        assert answers[0].status_code == 200
        assert (code, err.count("\n")) == (0, 1), err
        assert "Serving one; Ctrl-C stops." in err
        with pytest.raises(httpx.ConnectError):
            server.translate()


def test_until_requests_under_way_have_ended_others_are_turned_away(runs, monkeypatch):
    gate = Gate(monkeypatch)
    server = running({"one": runs / "one"})
    address, service = (client := server.__enter__()).address, client.service
    answers = []
    ask = partial(httpx.post, f"{address}{TRANSLATE}", content=PNG, timeout=60)
    asking = threading.Thread(target=lambda: answers.append(ask()))
    asking.start()
    with httpx.Client(base_url=address) as other:
        assert other.get("/readyz").status_code == 200  # and this connection stays open
        assert gate.come.wait(60)
        ending = threading.Thread(target=server.__exit__, args=(None, None, None))
        ending.start()
        while not service.is_stopping:
            time.sleep(0.01)
        for _ in range(3):
            for answer in (other.get("/readyz"), other.get("/v1/models"), ask()):
                assert detail(answer, 503) == "The server is stopping; try again later."
                assert answer.headers["retry-after"] == "10"
                assert answer.headers["connection"] == "close"
            assert other.get("/healthz").status_code == other.get("/metrics").status_code == 200
            time.sleep(0.2)
        gate.opened.set()
        asking.join()
        ending.join()
        assert answers[0].status_code == 200
        with pytest.raises(httpx.ConnectError):
            other.get("/readyz")


def test_log_writes_a_line_for_each_request_without_its_query(runs):
    with Command(runs / "one", "--log") as server:
        httpx.get(f"{server.address}/v1/models?token=secret")
        httpx.get(f"{server.address}/no%e9%0athing")
        _, err = server.end(signal.SIGTERM)
    lines = [re.sub(r"\d+ ms$", "N ms", line) for line in err.splitlines()[1:]]
    assert lines == ["GET /v1/models 200 N ms", "GET /no??thing 404 N ms"]


@pytest.mark.parametrize("flag", ["--cors=ftp://x", "--allowed-host=x:80"])
def test_flags_that_may_be_repeated_take_one_value_each(runs, capsys, flag):
    words = "--cors", "https://x.org", "--cors", "https://y.org", "--allowed-host", "x.org", "--allowed-host", "y.org"
    assert f"{flag.partition('=')[0]} is '{flag.partition('=')[2]}'" in fails(capsys, *words, flag, runs / "one")


def test_sighup_loads_the_models_again_and_keeps_one_that_is_damaged(runs, tmp_path):
    run = tmp_path / "maps"
    shutil.copytree(runs / "one" / "model", run)
    with Command(run) as server:
        stopped, failed = threading.Event(), []

        def ask():
            while not stopped.is_set():
                answer = server.translate(name="maps")
                if answer.status_code != 200:
                    failed.append(answer)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        before, after = expected(runs / "one"), expected(runs / "two")
        assert not np.array_equal(before, after)
        for name in ("a2b.safetensors", "b2a.safetensors"):
            shutil.copy(runs / "two" / "model" / name, run / name)
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 120
        while not np.array_equal(pixels(server.translate(name="maps").content), after):
            assert time.monotonic() < until
        (run / "a2b.safetensors").write_bytes(b"damage")
        server.process.send_signal(signal.SIGHUP)
        for line in server.process.stderr:
            if "stays as it was" in line:
                break
        assert "maps cannot be loaded again, and stays as it was: " in line
        assert np.array_equal(pixels(server.translate(name="maps").content), after)
        stopped.set()
        thread.join()
        assert not failed
        assert server.end(signal.SIGTERM)[0] == 0


def test_the_token_comes_from_the_environment(runs):
    with Command(runs / "one", environment={"CYCLEGAN_TOKEN": TOKEN}) as server:
        assert server.translate().status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{server.address}/v1/models", headers=headers).status_code == 200


def fails(capsys, *words):
    """The sentence with which the command ends."""
    with pytest.raises(SystemExit) as end:
        main(["serve", *map(str, words)])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.strip().splitlines()[-1].removeprefix("cyclegan: ")


def test_what_cannot_be_served_is_one_sentence(runs, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = fails(capsys, runs / "one", f"--port={port}")
    assert said == f"Another program uses port {port} on 127.0.0.1; choose another with --port, or 0 for a free one."
    assert "no address of this machine" in fails(capsys, runs / "one", "--host=192.0.2.1", "--port=0")
    assert "There is no" in fails(capsys, tmp_path / "nothing", "--port=0")
    shutil.copytree(runs / "one" / "model", tmp_path / "bad")
    (tmp_path / "bad" / "b2a.safetensors").write_bytes(b"damage")
    assert "does not hold the weights" in fails(capsys, tmp_path / "bad", "--port=0")
    both = f"{runs / 'one'} and {tmp_path / 'one'} would both be called one; name one: NAME={tmp_path / 'one'}"
    assert fails(capsys, runs / "one", tmp_path / "one", "--port=0") == both


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--port=65536", "--port is 65536; expected at most 65,535."),
        ("--host=a b", "--host is 'a b'; expected an address of this machine, such as 127.0.0.1 or 0.0.0.0."),
        ("--token=short", "--token is too weak; expected 8 to 1,000 ASCII characters without spaces."),
        ("--cors=example.com", "--cors is 'example.com'; expected one such as https://example.com."),
        ("--allowed-host=x:80", "--allowed-host is 'x:80'; expected a name without a port, such as example.com."),
        ("--max-body=0", "--max-body is 0; expected at least 1."),
        ("--max-body=-2", "--max-body is -2; expected at least 1."),
        ("--max-pixels=0", "--max-pixels is 0; expected at least 1."),
        ("--timeout=0", "--timeout is 0; expected at least 0.1, and a finite number."),
        ("--timeout=nan", "--timeout is nan; expected at least 0.1, and a finite number."),
        ("--queue=0", "--queue is 0; expected at least 1."),
    ],
)
def test_flags_that_cannot_be_used(runs, capsys, flag, said):
    assert fails(capsys, runs / "one", flag) == said


def test_a_server_for_other_computers_without_a_token_is_warned_of(runs, capsys, monkeypatch):
    words = ["serve", str(runs / "one"), "--host=192.0.2.1", "--port=0"]  # no address of this machine
    for token in (None, TOKEN):
        monkeypatch.setenv("CYCLEGAN_TOKEN", token or "")
        with pytest.raises(SystemExit):
            main(words)
        assert ("lets other computers in, and there is no --token" in capsys.readouterr().err) == (token is None)


def test_a_missing_package_is_named_with_its_install_line(runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert fails(capsys, runs / "one") == "serve needs the package uvicorn: pip install 'cyclegan[serve]'"


# ---- who may use it


def test_a_token_is_asked_for_everywhere_but_by_probes(runs):
    with running({"one": runs / "one"}, token=TOKEN) as client:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            refused = client.get(path)
            assert detail(refused, 401) == "The token is missing or wrong; send it as Authorization: Bearer TOKEN."
            assert refused.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz"):
            assert client.get(path).json() == {"status": "ok"}
        for given in ("Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff\xfe"):
            headers = {"authorization": given.encode("latin-1")}
            assert client.translate(PNG, "one", headers=headers).status_code == 401
        for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            assert client.translate(PNG, "one", headers={"authorization": given}).status_code == 200
        schemes = client.get("/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).json()["components"]
        assert schemes["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


def test_another_name_is_refused_as_by_dns_rebinding(runs):
    with running({"one": runs / "one"}, allowed_hosts=("images.example.com",)) as client:
        for host in ("localhost", "127.0.0.1:1234", "[::1]:80", "images.example.com", "IMAGES.example.com:443"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200
        for host in ("evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "192.168.1.5", "x" * 500, "\xff"):
            said = detail(client.get("/healthz", headers={"host": host.encode("latin-1")}), 400)
            assert "start it with --allowed-host" in said


def test_all_addresses_of_a_machine_are_its_own_but_no_other_names():
    settings = ServeSettings(host="0.0.0.0")
    assert settings.is_own_host("192.168.1.5:8000")
    assert settings.is_own_host("[fe80::1]")
    assert not settings.is_own_host("example.com")
    assert not settings.is_own_host("")


def test_pages_of_other_sites_are_refused_unless_cors_allows_them(runs):
    with running({"one": runs / "one"}, cors=("https://example.com",)) as client:
        own = client.address
        for headers in (
            {},
            {"origin": own},
            {"origin": own, "sec-fetch-site": "same-origin"},
            {"origin": "https://example.com", "sec-fetch-site": "cross-site"},
        ):
            assert client.translate(PNG, "one", headers=headers).status_code == 200
        for headers in (
            {"origin": "https://evil.example.com"},
            {"origin": "null"},
            {"origin": "http://[broken"},
            {"sec-fetch-site": "cross-site"},
            {"origin": own.replace("127.0.0.1", "localhost")},
        ):
            assert "Pages of other sites" in detail(client.translate(PNG, "one", headers=headers), 403)
        answer = client.translate(PNG, "one", headers={"origin": "https://example.com"})
        assert answer.headers["access-control-allow-origin"] == "https://example.com"
        asked = {"origin": "https://example.com", "access-control-request-method": "POST"}
        assert client.options("/v1/models/one/a2b:translate", headers=asked).status_code == 200
    with running({"one": runs / "one"}) as client:
        assert "access-control-allow-origin" not in client.get("/v1/models", headers={"origin": own}).headers


def test_answers_carry_safe_headers(runs):
    with running({"one": runs / "one"}) as client:
        for answer in (client.get("/v1/models"), client.get("/nothing"), client.translate(PNG, "one")):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_an_error_that_nobody_expected_is_said_once_and_not_told_to_clients(runs, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("secret detail")

    with running({"one": runs / "one"}) as client:
        monkeypatch.setattr("cyclegan.serving.picture.read_raster", fail)
        answer = client.translate(PNG, "one")
        assert detail(answer, 500) == "The server failed; its own messages say why."
        err = capsys.readouterr().err
        assert re.match(r"POST /v1/models/one/a2b:translate failed: RuntimeError: secret detail \(.*\)\n$", err)
        monkeypatch.undo()
        assert client.translate(PNG, "one").status_code == 200


@pytest.mark.parametrize(
    "garbage", [b"\0\1\2\3\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"a" * 99999, b"\r\n" * 99]
)
def test_what_is_no_http_is_refused_and_changes_nothing(runs, garbage):
    with running({"one": runs / "one"}) as client:
        with client.connect() as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                answer = file.read()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
        assert client.translate(PNG, "one").status_code == 200


# ---- models


def test_models_are_named_by_their_paths(tmp_path):
    (tmp_path / "a=b").mkdir()
    given = [tmp_path / "run 1", f"x={tmp_path / 'best'}", "hf:user/name@v1", tmp_path / "a=b"]
    assert name_models(map(str, given)) == {
        "run-1": str(tmp_path / "run 1"),
        "x": str(tmp_path / "best"),
        "name": "hf:user/name@v1",
        "a-b": str(tmp_path / "a=b"),
    }
    with pytest.raises(InputError, match="'a/b' cannot name a model; .*, and no slash"):
        name_models([f"a/b={tmp_path}"])
    with pytest.raises(InputError, match="cannot name a model"):
        ModelStore({"..": "x"})


def test_models_loaded_at_first_use_are_few_and_follow_their_files(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "maps")
    store = ModelStore({"maps": tmp_path / "maps", "two": runs / "two"}, device="cpu", most_loaded=2)
    store.load()
    assert store.num_loaded == 0
    first = store.translator("maps", "a2b")
    assert store.translator("maps", "a2b") is first
    for direction in ("a2b", "b2a"):
        store.translator("two", direction)
    assert store.num_loaded == 2
    assert store.translator("maps", "a2b") is not first
    shutil.rmtree(tmp_path / "maps" / "model")
    shutil.copytree(runs / "two" / "model", tmp_path / "maps" / "model")
    assert np.array_equal(np.asarray(store.translator("maps", "a2b")(PHOTO)), expected(runs / "two"))
    store.refresh({"new": runs / "one"})
    assert store.names == ["new"]
    with pytest.raises(KeyError):
        store.translator("maps", "a2b")
    assert store.translator("new", "b2a").direction == "b2a"


def test_a_model_that_cannot_be_loaded_later_is_503_without_a_path(runs, tmp_path):
    shutil.copytree(runs / "one" / "model", tmp_path / "maps")
    store = ModelStore({"maps": tmp_path / "maps"}, device="cpu", most_loaded=2)
    (tmp_path / "maps" / "a2b.safetensors").write_bytes(b"damage")
    with running({}, store=store) as client:
        answer = client.translate(PNG)
        assert detail(answer, 503) == "The model maps cannot be loaded; the server's own messages say why."
        assert answer.headers["retry-after"] == "60"
        assert client.translate(PNG, direction="b2a").status_code == 200


def test_an_application_may_have_more_addresses(runs):
    from fastapi import APIRouter
    from fastapi.responses import HTMLResponse
    from fastapi.testclient import TestClient

    from cyclegan.serving.app import create_app

    router = APIRouter()

    @router.get("/page")
    def page() -> HTMLResponse:
        return HTMLResponse("<p>", headers={"content-security-policy": "default-src 'self'"})

    app = create_app(ModelStore({"one": runs / "one"}, device="cpu", most_loaded=1), ServeSettings())
    app.include_router(router)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/page").headers["content-security-policy"] == "default-src 'self'"
        assert client.get("/v1/models").json()["models"][0]["name"] == "one"
        answer = client.post("/v1/models/one/a2b:translate", content=PNG)
        assert np.array_equal(pixels(answer.content), expected(runs / "one"))
