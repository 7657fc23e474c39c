"""The studio's Data page: what it may open, inspections, the command that trains, and trainings that it starts."""

import os
import shlex
import shutil
import socket
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient
from test_studio_translate import assert_accessible, serving

from conftest import make_folder
from cyclegan.cli import _parser
from cyclegan.config import make_config
from cyclegan.errors import InputError
from cyclegan.inspection import inspect_folders
from cyclegan.serving import uploads
from cyclegan.serving.settings import ServeSettings
from cyclegan.storage.run import list_checkpoints
from cyclegan.storage.stop_request import is_training, request_stop
from cyclegan.studio import inspecting
from cyclegan.studio.app import create_studio
from cyclegan.studio.folders import OpenFolders
from cyclegan.studio.starting import OUTPUT
from test_report import browser


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder that may be opened: photos with copies and a damaged file, paintings, and the folder of runs."""
    home = tmp_path / "home"
    photos, paintings = make_folder(home / "my photos", 8), make_folder(home / "it's art", 7, seed=1)
    shutil.copy(photos / "3.png", photos / "again.png")
    Image.open(photos / "5.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "mirror.png")
    (photos / "broken.png").write_bytes(b"nothing")
    shutil.copy(photos / "2.png", paintings / "stray.png")
    (home / ".secret").mkdir()
    (home / "runs").mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    return home


def client(home, **options):
    return TestClient(create_studio(home / "runs", ServeSettings(port=0), **options), base_url="http://127.0.0.1")


def detail(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def inspected(ask, a, b=""):
    """The results of an inspection, and its address."""
    job = ask.post("/api/data/inspections", json={"a": str(a), "b": str(b)}).json()
    path, deadline = f"/api/data/inspections/{job['id']}", time.monotonic() + 60
    while (state := ask.get(path).json())["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    return state, path


# ---- folders


def test_the_browser_shows_folders_and_how_many_images_they_hold(home):
    ask = client(home)
    top = ask.get("/api/data/folders").json()
    assert [folder["path"] for folder in top["folders"]] == [str(home)]
    found = ask.get("/api/data/folders", params={"path": str(home)}).json()
    assert {folder["name"]: folder["num_images"] for folder in found["folders"]} == {
        "it's art": 8, "my photos": 11, "runs": 0,
    }  # fmt: skip
    assert found["parent"] == ""
    make_folder(home / "both" / "trainA", 1)
    make_folder(home / "both" / "trainB", 1)
    found = ask.get("/api/data/folders", params={"path": "both"}).json()
    assert (found["holds_both"], found["parent"]) == (True, str(home))


@pytest.mark.parametrize(
    "place", ["/", "..", "../outside", "my photos/../../outside", "link", "/etc", "~root", "s3://bucket/x"]
)
def test_no_other_folder_is_opened(home, place):
    make_folder(home.parent / "outside", 1)
    (home / "link").symlink_to(home.parent / "outside")
    ask = client(home)
    answers = [
        ask.get("/api/data/folders", params={"path": place}),
        ask.post("/api/data/inspections", json={"a": place}),
        ask.post("/api/data/inspections", json={"a": "my photos", "b": place}),
        ask.post("/api/data/command", json={"a": place, "name": "x"}),
    ]
    for answer in answers:
        said = detail(answer, 422 if "s3" in place else 403)
        assert ("There is no folder" if "s3" in place else f"opens folders below {home} only") in said


def test_what_is_no_folder_of_images_is_one_sentence(home, tmp_path):
    ask = client(home)
    assert "There is no folder" in detail(ask.post("/api/data/inspections", json={"a": "nothing"}), 422)
    assert "is a file" in detail(ask.post("/api/data/inspections", json={"a": "my photos/1.png"}), 422)
    assert "No folder is given" in detail(ask.post("/api/data/inspections", json={"a": " "}), 422)
    assert "no path" in detail(ask.post("/api/data/inspections", json={"a": "a\0b"}), 422)
    # A run names folders that may lie elsewhere.
    run = home / "runs" / "maps"
    run.mkdir()
    (run / "config.toml").write_text(f'a = "{tmp_path}"')
    assert "belongs to a run" in detail(ask.post("/api/data/inspections", json={"a": str(run)}), 422)
    assert ask.post("/api/data/inspections", json={"a": "x", "test_a": "y"}).status_code in (400, 422)
    (home / "empty").mkdir()
    state, _ = inspected(ask, "empty")
    assert state["state"] == "failed"
    assert "holds no images" in state["problem"]


def test_the_whole_disk_is_never_open(home, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/")
    assert OpenFolders.usual().roots == ()
    ask = client(home)
    assert ask.get("/api/data/folders").json()["folders"] == []
    said = detail(ask.post("/api/data/inspections", json={"a": str(home / "my photos")}), 403)
    assert said.startswith("The studio opens no folders here; start it in a folder above ")


def test_folders_inside_of_others_are_not_listed_twice(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert OpenFolders.of([tmp_path / "a" / "b", tmp_path / "a", tmp_path / "none"]).roots == (tmp_path / "a",)
    with pytest.raises(InputError, match="There is no folder"):
        OpenFolders((tmp_path,)).check(str(tmp_path / "none"))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_that_are_no_text_keep_no_other_folder_from_being_shown(home):
    (home / os.fsdecode(b"caf\xe9")).mkdir()
    (home / "my photos" / os.fsdecode(b"\xff.png")).write_bytes(b"nothing")
    ask = client(home)
    found = ask.get("/api/data/folders", params={"path": str(home)}).json()["folders"]
    assert [folder["name"] for folder in found] == ["caf?", "it's art", "my photos", "runs"]
    state, _ = inspected(ask, home / "my photos")
    assert sorted(name for name, _ in state["result"]["folders"][0]["unreadable"]) == ["?.png", "broken.png"]


def test_a_request_that_is_too_large_or_too_slow_is_not_waited_for(home, monkeypatch):
    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.3)
    with serving(create_studio(home / "runs", ServeSettings(port=0))) as address:
        url = f"{address}/api/data/inspections"
        answer = httpx.post(url, content=iter([b" " * 30_000] * 5), headers={"Content-Type": "application/json"})
        assert "more than 65,536 bytes" in detail(answer, 413)
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as connection:
            head = "POST /api/data/inspections HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            assert connection.recv(9999).startswith(b"HTTP/1.1 408 ")


# ---- inspections


def test_an_inspection_says_what_the_command_says_and_has_its_pictures(home):
    ask = client(home)
    state, path = inspected(ask, "my photos", "it's art")
    assert state["state"] == "done", state
    found, expected = state["result"], inspect_folders(home / "my photos", home / "it's art", quiet=True)
    assert [one["text"] for one in found["advice"]] == [advice.text for advice in expected.advice]
    assert [one["problem"] for one in found["advice"]] == [advice.problem for advice in expected.advice]
    assert [folder["num_images"] for folder in found["folders"]] == [10, 8]
    assert found["folders"][0]["unreadable"][0][0] == "broken.png"
    facts = {label: cells for label, *cells in found["facts"]}
    assert facts["images"] == ["10", "8"]
    assert found["suggestions"] == {"crop_size": 32}
    inside, across = found["copies"][0], found["copies"][-1]
    assert {pair["text"].split()[0] for pair in inside["pairs"]} == {"again.png", "mirror.png"}
    assert [pair["exact"] for pair in inside["pairs"]] == [False, True]
    assert across["pairs"][0]["text"] == "stray.png = 2.png"
    folder, file = across["pairs"][0]["one"]
    picture = ask.get(f"{path}/pictures/{folder}/{file}")
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(picture.content)).size == (224, 224)
    for wrong in ("0/10", "2/0", "0/-1", "a/b"):
        assert ask.get(f"{path}/pictures/{wrong}").status_code in (400, 404), wrong


def test_an_inspection_shows_its_progress_and_is_cancelled(home, monkeypatch):
    going, seen = threading.Event(), []

    def slow(*_, on_progress, **__):
        for done in range(1000):
            on_progress("Reading A", done, 1000)
            seen.append(done)
            going.set()
            time.sleep(0.01)

    monkeypatch.setattr(inspecting, "inspect_folders", slow)
    ask = client(home)
    job = ask.post("/api/data/inspections", json={"a": "my photos"}).json()
    going.wait(10)
    assert "is running" in detail(ask.post("/api/data/inspections", json={"a": "my photos"}), 409)
    path = f"/api/data/inspections/{job['id']}"
    state = ask.get(path).json()
    assert (state["state"], state["task"], state["total"]) == ("running", "Reading A", 1000)
    ask.delete(path)
    deadline = time.monotonic() + 10
    while ask.get(path).json()["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ask.get(path).json()["state"] == "cancelled"
    assert len(seen) < 1000
    assert "no longer kept" in detail(ask.get("/api/data/inspections/0"), 404)


def test_what_the_progress_raises_ends_an_inspection(home):
    def stop(task, done, total):
        assert (task, total) == ("Reading A", 11)
        if done == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        inspect_folders(home / "my photos", quiet=True, on_progress=stop)


# ---- the command


def test_the_command_is_quoted_for_a_shell_and_means_what_was_chosen(home):
    wish = {
        "a": "my photos",
        "b": "it's art",
        "name": "run-1",
        "preset": "conservative",
        "minutes": 30,
        "crop_size": 64,
    }
    answer = client(home).post("/api/data/command", json=wish | {"flip": False})
    command = answer.json()["command"]
    words = shlex.split(command)
    assert words[:4] == ["cyclegan", "train", str(home / "my photos"), str(home / "it's art")]
    parsed = _parser(words[1:]).parse_args(words[1:])
    given = {name: value for name, value in vars(parsed).items() if name in ("minutes", "crop_size", "flip", "out")}
    config = make_config({"a": parsed.paths[0], "b": parsed.paths[1], **given}, preset=parsed.preset)
    assert (config.preset, config.minutes, config.data.crop_size, config.data.flip) == ("conservative", 30, 64, False)
    assert config.out == home / "runs" / "run-1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "cannot be that of a run"),
        ({"name": "-x"}, "cannot be that of a run"),
        ({"name": ""}, "cannot be that of a run"),
        ({"name": "taken"}, "There is something named taken"),
        ({"preset": "best"}, "There is no preset 'best'"),
        ({"minutes": -1}, "minutes is -1"),
        ({"minutes": 1, "epochs": 2}, "not both"),
        ({"crop_size": 3}, "crop_size"),
        ({"a": "nothing"}, "There is no folder"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(home, change, message):
    (home / "runs" / "taken").mkdir()
    (home / "runs" / "taken" / "notes.txt").touch()
    wish = {"a": "my photos", "b": "it's art", "name": "run-1", "crop_size": 64, **change}
    ask = client(home, allow_train=True)
    assert message in detail(ask.post("/api/data/command", json=wish), 422)
    assert message in ask.post("/api/data/trainings", json=wish).json()["detail"]
    assert not any(path.name == "run-1" for path in (home / "runs").iterdir())


def test_no_training_is_started_without_consent(home):
    ask = client(home)
    assert ask.get("/api/data").json()["allow_train"] is False
    wish = {"a": "my photos", "b": "it's art", "name": "run-1"}
    assert "open it with --allow-train" in detail(ask.post("/api/data/trainings", json=wish), 403)
    allowed = client(home, allow_train=True)
    elsewhere = {"Origin": "http://example.org"}
    assert allowed.post("/api/data/trainings", json=wish, headers=elsewhere).status_code == 403
    assert list((home / "runs").iterdir()) == []


def test_a_training_that_cannot_begin_shows_why(home):
    ask = client(home, allow_train=True)
    (home / "one").mkdir()
    shutil.copy(home / "my photos" / "broken.png", home / "one")
    wish = {"a": "one", "b": "it's art", "name": "run-1", "minutes": 1, "crop_size": 32}
    assert ask.post("/api/data/trainings", json=wish).status_code == 201
    deadline = time.monotonic() + 60
    while (found := ask.get("/api/data/trainings").json()["trainings"][0])["state"] != "ended":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found["status"] not in (0, None)
    assert "cyclegan: " in found["output"]
    assert "Traceback" not in found["output"]
    assert not found["has_begun"]
    # Its hidden output is in nobody's way.
    assert ask.post("/api/data/command", json=wish).status_code == 200


# ---- in a browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


def test_folders_are_looked_at_and_a_training_is_started_from_the_page(chromium, home):
    context = chromium.new_context(
        viewport={"width": 1200, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page, errors = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    run = home / "runs" / "first-try"
    with serving(create_studio(home / "runs", ServeSettings(port=0), allow_train=True)) as address:
        page.goto(f"{address}/#data")
        # One folder is found by keyboard in the browser of folders, the other one is typed.
        page.get_by_role("button", name="Browse for folder A").press("Enter")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name=str(home)).press("Enter")
        dialog.get_by_role("button", name="my photos").press("Enter")
        dialog.get_by_text("This folder: 11 images.").wait_for()
        dialog.get_by_role("button", name="Choose this folder").press("Enter")
        dialog.wait_for(state="detached")  # its label is that of the field
        assert page.get_by_role("textbox", name="Folder A: ").input_value() == str(home / "my photos")
        page.get_by_role("textbox", name="Folder B: ").fill(str(home / "it's art"))
        page.get_by_role("button", name="Look at the pictures").click()

        page.get_by_role("heading", name="Advice").wait_for()
        page.get_by_text("1 of the 11 images of A cannot be read").wait_for()
        pairs = page.locator(".copies li")
        assert pairs.count() == 3
        pairs.first.scroll_into_view_if_needed()
        page.wait_for_function("[...document.querySelectorAll('.copies img')].every((img) => img.naturalWidth === 224)")

        # The command follows the choices.
        page.get_by_label("Name of the run").fill("no name")
        page.get_by_text("cannot be that of a run").wait_for()
        page.get_by_label("Name of the run").fill("first-try")
        page.get_by_label("Quick try").check()
        page.locator("pre", has_text="--preset demo").wait_for()
        page.get_by_role("button", name="Copy the command that trains").click()
        words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
        assert words[2:6] == [str(home / "my photos"), str(home / "it's art"), "--out", str(run)]
        assert words[6:] == ["--preset", "demo", "--minutes", "60", "--crop-size", "32"]

        # It starts, the page Runs shows it, and it is stopped from there.
        page.get_by_role("button", name="Start the training").click()
        page.get_by_role("link", name="Watch it on the page Runs").click()
        page.locator(".state", has_text="training").wait_for()
        assert is_training(run)
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Save and stop").click()
        page.locator(".state", has_text="stopped").wait_for()
        assert list_checkpoints(run)
        assert "Stopped and saved after step" in (run / OUTPUT).read_text()
    context.close()
    assert errors == []


def test_a_page_that_fails_leaves_nothing_on_the_others(chromium, home):
    with serving(create_studio(home / "runs", ServeSettings(port=0))) as address:
        page = chromium.new_page()
        page.route("**/api/data", lambda route: route.abort())
        page.goto(f"{address}/#data")
        page.get_by_text("The studio does not answer").wait_for()
        page.goto(f"{address}/#runs/%E0%A4%A")  # no text
        page.get_by_text("There is no run in").wait_for()
        assert page.get_by_text("The studio does not answer").count() == 0
        page.unroute("**/api/data")
        page.goto(f"{address}/#data")
        page.get_by_role("textbox", name="Folder A: what you have").wait_for()
        page.close()


def test_a_training_goes_on_when_the_studio_ends(home):
    run = home / "runs" / "first"
    wish = {"a": "my photos", "b": "it's art", "name": "first", "preset": "demo", "minutes": 60, "crop_size": 32}
    with client(home, allow_train=True) as ask:
        assert ask.post("/api/data/trainings", json=wish).status_code == 201
        assert "is training already" in detail(ask.post("/api/data/trainings", json=wish), 409)
    deadline = time.monotonic() + 60
    while not is_training(run):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    request_stop(run)
    while not list_checkpoints(run):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_nothing_serious_on_the_page_of_data(chromium, home, look):
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": 360, "height": 700} if look == "phone" else {"width": 1200, "height": 900}
    with serving(create_studio(home / "runs", ServeSettings(port=0))) as address:
        page = chromium.new_page(viewport=size, color_scheme="dark" if look == "dark" else "light")
        page.set_default_timeout(60_000)  # the first inspection of a process imports much
        page.goto(f"{address}/#data")
        page.get_by_role("button", name="Browse for folder A").click()
        page.get_by_role("dialog").get_by_role("button", name=str(home)).click()
        page.get_by_role("button", name="my photos").wait_for()
        assert_accessible(page, Axe())
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").wait_for(state="detached")
        page.get_by_role("textbox", name="Folder A: ").fill("my photos")
        page.get_by_role("textbox", name="Folder B: ").fill("it's art")
        page.get_by_role("button", name="Look at the pictures").click()
        page.get_by_role("heading", name="Advice").wait_for()
        page.locator("pre", has_text="cyclegan train").wait_for()
        for closed in page.locator("summary").all():
            closed.click()
        assert_accessible(page, Axe())
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert not page.get_by_role("button", name="Start the training").is_visible()
        page.close()
    assert Path.cwd() == home
