"""The studio's Runs page: what it says of runs, how little it reads and sends, and whole stories in a real browser."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient
from test_signals import SETTINGS
from test_studio_translate import assert_accessible, make_model, serving

from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.config import TrainConfig, to_toml
from cyclegan.report.record import read_record
from cyclegan.serving.settings import ServeSettings
from cyclegan.storage.run import list_checkpoints, step_of
from cyclegan.storage.stop_request import STOP_REQUEST
from cyclegan.studio import live_log, run_folder
from cyclegan.studio.app import create_studio
from cyclegan.studio.run_folder import Run
from cyclegan.studio.runs import runs_router
from cyclegan.system.atomic import locked
from make_run import LOSSES, make_run, write_log
from test_report import browser


def client(folder):
    return TestClient(create_studio(folder, ServeSettings(port=0)), base_url="http://127.0.0.1")


def get(ask, path, **headers):
    answer = ask.get(f"/api/runs{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def losses(first, last, every=50, **more):
    """Lines of losses, ten steps a second."""
    return [
        {"step": step, "epoch": step / 100, "seconds": step / 10, "images_per_second": 20.0, **LOSSES, **more}
        for step in range(first, last + 1, every)
    ]


def write_run(run, lines, **settings):
    run.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(a=run / "photos", b=run / "maps", out=run, **{"steps": 3000, **settings})
    (run / "config.toml").write_text(to_toml(config))
    write_log(run, lines)
    return run


# ---- the interface


def test_all_runs_below_the_folder_are_listed_and_named_for_addresses(tmp_path):
    make_run(tmp_path / "runs" / "maps", kid=0.12)
    make_run(tmp_path / "runs" / "deep" / "er" / "day 1", kid=0.3)
    make_run(tmp_path / "runs" / ".hidden")
    make_run(tmp_path / "elsewhere")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "photos").mkdir()
    found = get(client(tmp_path / "runs"), "")["runs"]
    assert {run["name"]: run["label"] for run in found} == {"deep--er--day_1": "deep/er/day 1", "maps": "maps"}
    (maps,) = (run for run in found if run["name"] == "maps")
    assert (maps["step"], maps["length"], maps["title"]) == (3000, "3,000 steps", "photos and maps")
    assert maps["best"] == {"step": 2000, "kid": 0.12}
    assert maps["num_samples"] == 13
    # The folder may be a run itself.
    (only,) = get(client(tmp_path / "runs" / "maps"), "")["runs"]
    assert (only["name"], only["label"]) == ("maps", "maps")


def test_a_run_has_its_scores_with_baselines_warnings_settings_and_evaluations(tmp_path):
    make_run(tmp_path / "maps")
    run = get(client(tmp_path), "/maps")
    kid = run["validation"]["series"][0]
    assert (kid["metric"], kid["direction"]) == ("kid", "a2b")
    assert kid["points"][1] == [2000, 0.12, pytest.approx(0.096), pytest.approx(0.144)]
    assert kid["baselines"] == {"real images": 0.001, "input": 0.9}
    assert run["validation"]["metrics"]["kid"]["better"] == "less"
    assert run["warnings"][0]["text"] == "The translations are all alike."
    own = {one["name"]: (one["value"], one["preset"]) for one in run["settings"] if "preset" in one}
    assert own == {"steps": ("3000", "none"), "epochs": ("none", "200")}
    (scores,) = run["evaluations"]
    assert scores["directions"][0]["scale"] == {"value": 0.12, "floor": 0.001, "ceiling": 0.9}
    assert "87 % of the way" in scores["directions"][0]["verdict"]
    assert run["resume"] == f"cyclegan train --out {tmp_path / 'maps'} --resume"
    assert run["evaluate"] == f"cyclegan evaluate {tmp_path / 'maps'} --a FOLDER --b FOLDER"
    write_run(tmp_path / "tested", losses(50, 100), test_a=tmp_path / "test a", test_b=tmp_path / "test b")
    tested = get(client(tmp_path), "/tested")
    assert tested["evaluate"] == f"cyclegan evaluate {tmp_path / 'tested'}"
    assert tested["problem"].endswith("Nothing was saved, so it starts from the beginning.")


def test_the_state_says_how_a_run_is(folders, tmp_path):
    runs = tmp_path / "runs"
    finished = train(*folders, out=runs / "finished", quiet=True, **TINY | {"steps": 2, "log_steps": 1})
    ask = client(runs)
    assert get(ask, "/finished")["state"] == "finished"

    # A run that is made longer is not finished any more, and has stopped where it was saved.
    stopped = shutil.copytree(finished, runs / "stopped")
    shutil.rmtree(stopped / "model")
    assert get(client(runs), "/stopped")["state"] == "stopped"

    broken = shutil.copytree(stopped, runs / "killed")
    with (broken / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 9, **LOSSES}) + '\n{"step": 10, "cyc')
    about = get(client(runs), "/killed")
    assert (about["state"], about["step"]) == ("broken", 9)
    assert about["problem"] == "It ended without saving, after step 9 or later. It goes on from step 2."

    write_run(runs / "nan", [*losses(50, 100), {"event": "not finite", "step": 120, "term": "cycle_a", "value": "nan"}])
    assert get(client(runs), "/nan")["problem"] == "The loss cycle_a became nan at step 120."

    write_run(runs / "odd", losses(50, 100))
    (runs / "odd" / "config.toml").write_text("steps = [")
    about = get(client(runs), "/odd")
    assert about["state"] == "broken"
    assert "is not the configuration of a run of this release" in about["problem"]

    with locked(runs / "nan" / ".lock", "in use"):
        assert get(client(runs), "/nan")["state"] == "training"


def test_the_time_left_follows_the_pace_of_the_session(tmp_path):
    # The second session is twice as fast: 20 steps a second.
    lines = [{"event": "session", "step": 0}, *losses(50, 1000), {"event": "session", "step": 1000}]
    lines += [{"step": step, "seconds": 100 + (step - 1000) / 20, **LOSSES} for step in range(1050, 2001, 50)]
    run = write_run(tmp_path / "maps", lines, steps=3000)
    with locked(run / ".lock", "in use"):
        about = get(client(tmp_path), "/maps")
        assert about["seconds_left"] == pytest.approx(50)
        assert about["share"] == pytest.approx(2 / 3)
        (row,) = get(client(tmp_path), "")["runs"]
        assert row["seconds_left"] == pytest.approx(50)
        write_run(run, lines, steps=None, minutes=5)
        assert get(client(tmp_path), "/maps")["seconds_left"] == pytest.approx(300 - 150)
    assert get(client(tmp_path), "/maps")["seconds_left"] is None  # nobody trains


def test_what_has_not_changed_is_not_sent_again(tmp_path):
    make_run(tmp_path / "maps")
    ask = client(tmp_path)
    for path in ("", "/maps", "/maps/losses", "/maps/samples", "/maps/samples/250"):
        first = ask.get(f"/api/runs{path}")
        again = ask.get(f"/api/runs{path}", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path


def test_a_million_steps_are_thinned_and_read_once(tmp_path):
    path = write_run(tmp_path / "maps", losses(50, 1_000_000, cycle_a=1.0), steps=1_000_000)
    run = Run("maps", path, "maps")
    first = run.curves("", 0)
    assert live_log.MAX_POINTS / 2 <= len(first["steps"]) <= live_log.MAX_POINTS
    assert first["stride"] > 1
    assert len(json.dumps(first)) < 250_000
    assert set(first["values"]["cycle_a"]) == {1.0}
    assert run.follow().num_read == 20_000

    # The next lines alone are read, and points come when they are whole.
    with (path / "log.jsonl").open("a") as log:
        log.writelines(
            json.dumps(line) + "\n" for line in losses(1_000_050, 1_000_000 + 50 * first["stride"], cycle_a=3.0)
        )
        log.write('{"step": 1')
    second = run.curves(first["version"], len(first["steps"]))
    assert run.follow().num_read == 20_000 + first["stride"]
    assert second["values"]["cycle_a"] == [3.0]
    assert second["since"] == len(first["steps"])
    assert run.curves(first["version"], second["total"])["steps"] == []

    # A resumed run drops lines, and the page gets its curves anew.
    fresh = tmp_path / "fresh"
    fresh.write_text("".join(json.dumps(line) + "\n" for line in losses(50, 500)))
    fresh.replace(path / "log.jsonl")
    third = run.curves(first["version"], second["total"])
    assert third["version"] != first["version"]
    assert (third["since"], third["steps"]) == (0, list(range(50, 501, 50)))


def test_thinned_points_are_means_and_gaps_stay_gaps():
    curves = live_log.Curves()
    for step in range(live_log.MAX_POINTS):
        curves.add({"step": step, "cycle_a": float(step), **({"late": 1.0} if step >= 1000 else {})})
    assert curves.stride == 2
    assert curves.steps[:2] == [1, 3]
    assert curves.columns["cycle_a"][:2] == [0.5, 2.5]
    assert curves.columns["late"][499] != curves.columns["late"][499]  # NaN
    assert curves.columns["late"][500] == 1.0


def test_many_runs_are_read_once(tmp_path, monkeypatch):
    make_run(tmp_path / "run0")
    for number in range(1, 60):
        shutil.copytree(tmp_path / "run0", tmp_path / f"run{number}")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1e9, 1e9))  # long settled
    read = []
    config, end = run_folder.read_run_config, run_folder.read_end
    monkeypatch.setattr(run_folder, "read_run_config", lambda path: read.append(path) or config(path))
    monkeypatch.setattr(run_folder, "read_end", lambda path: read.append(path) or end(path))
    ask = client(tmp_path)
    assert len(get(ask, "")["runs"]) == 60
    assert len(read) == 120
    assert len(get(ask, "")["runs"]) == 60
    assert len(read) == 120


def test_a_folder_that_takes_long_to_look_through_is_looked_through_less_often(tmp_path, monkeypatch):
    make_run(tmp_path / "maps")
    calls, find_runs = [], run_folder.find_runs

    def slow(folder):
        calls.append(folder)
        time.sleep(0.1)
        return find_runs(folder)

    monkeypatch.setattr(run_folder, "find_runs", slow)
    monkeypatch.setattr(run_folder, "_LIST_SECONDS", 0.0)
    ask = client(tmp_path)
    for _ in range(3):
        assert len(get(ask, "")["runs"]) == 1
    assert len(calls) == 1


def test_a_run_that_is_removed_while_it_is_shown_is_no_error(tmp_path):
    run = make_run(tmp_path / "maps")
    ask = client(tmp_path)
    get(ask, "/maps")
    shutil.rmtree(run)
    assert get(ask, "")["runs"][0]["state"] == "broken"
    assert get(ask, "/maps")["state"] == "broken"
    get(ask, "/maps/losses")
    assert get(ask, "/maps/samples") == {"samples": []}
    assert ask.get("/api/runs/maps/samples/250").status_code == 404


@pytest.mark.parametrize("place", ["samples", "checkpoints", "best"])
def test_a_folder_that_this_user_may_not_open_keeps_no_other_run_from_being_shown(tmp_path, monkeypatch, place):
    run = make_run(tmp_path / "maps")
    make_run(tmp_path / "other")
    (run / place).mkdir(exist_ok=True)

    def closed(call):
        def checked(path=".", *args, **options):
            if str(path).startswith(str(run / place)) and str(path) != str(run / place / "validation.json"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *args, **options)

        return checked

    # The user of the tests may be root, who may open all.
    monkeypatch.setattr(os, "scandir", closed(os.scandir))
    monkeypatch.setattr(os, "listdir", closed(os.listdir))
    monkeypatch.setattr(Path, "is_file", closed(Path.is_file))
    ask = client(tmp_path)
    assert {run["name"] for run in get(ask, "")["runs"]} == {"maps", "other"}
    assert ask.get("/api/models").status_code == 200
    assert get(ask, "/other/samples")["samples"]
    if place != "best":
        answer = ask.get("/api/runs/maps")
        assert answer.status_code == 422
        assert answer.json()["detail"] == "The run maps cannot be read: Permission denied."


def test_a_thousand_snapshots_stay_quick(tmp_path, monkeypatch):
    run = make_run(tmp_path / "maps")
    for step in range(5000, 1_005_000, 1000):
        os.link(run / "samples" / "step_0000250.png", run / "samples" / f"step_{step:07d}.png")
    for path in run.rglob("*"):
        os.utime(path, (1e9, 1e9))
    ask = client(tmp_path)
    listed, opened = [], []
    monkeypatch.setattr(run_folder.os, "scandir", lambda path, real=os.scandir: listed.append(str(path)) or real(path))
    monkeypatch.setattr(
        run_folder, "open_picture", lambda path, real=run_folder.open_picture: opened.append(path) or real(path)
    )
    answer = ask.get("/api/runs/maps/samples")
    assert len(answer.json()["samples"]) == 1013
    assert len(answer.content) < 50_000
    for _ in range(3):
        get(ask, "")
        get(ask, "/maps/samples")
    assert len([path for path in listed if path.endswith("samples")]) == 1
    assert opened == []  # none is opened that nobody looks at
    for _ in range(3):
        assert ask.get("/api/runs/maps/samples/7000?side=240").headers["content-type"] == "image/jpeg"
    assert len(opened) == 1


def test_pictures_may_be_kept_as_long_as_their_file_is_the_same(tmp_path):
    run = make_run(tmp_path / "maps")
    ask = client(tmp_path)
    (step, version), *_ = get(ask, "/maps/samples")["samples"]
    answer = ask.get(f"/api/runs/maps/samples/{step}?v={version}")
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.content == (run / "samples" / "step_0000000.png").read_bytes()
    assert ask.get(f"/api/runs/maps/samples/{step}?v=other").headers["cache-control"] == "no-cache"
    large = Image.new("RGB", (1200, 800), "red")
    large.save(tmp_path / "large.png")
    (tmp_path / "large.png").replace(run / "samples" / "step_0000000.png")
    (step, other), *_ = get(ask, "/maps/samples")["samples"]
    assert other != version
    small = ask.get(f"/api/runs/maps/samples/{step}?side=480&v={other}")
    with Image.open(__import__("io").BytesIO(small.content)) as picture:
        assert picture.size == (480, 320)
    assert ask.get(f"/api/runs/maps/samples/{step}?side=481").status_code == 422


def test_only_the_samples_of_runs_below_the_folder_are_served(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    run = make_run(tmp_path / "runs" / "maps")
    (run / "samples" / "step_0009999.png").symlink_to(secret)
    (run / "samples" / "secret.png").write_bytes(secret.read_bytes())
    other = make_run(tmp_path / "runs" / "other")
    shutil.rmtree(other / "samples")
    (tmp_path / "outside").mkdir()
    shutil.copy(secret, tmp_path / "outside" / "step_0000001.png")
    (other / "samples").symlink_to(tmp_path / "outside")
    make_run(tmp_path / "away")
    ask = client(tmp_path / "runs")
    assert 9999 not in dict(get(ask, "/maps/samples")["samples"])
    assert get(ask, "/other/samples")["samples"] == []
    for path in (
        "maps/samples/9999",
        "other/samples/1",
        "..--away/samples/250",
        "%2e%2e%2faway/samples/250",
        "..%5caway",
    ):
        assert ask.get(f"/api/runs/{path}").status_code == 404, path
    for name in ("secret.png", "..%2f..%2f..%2fsecret.png", "%2e%2e/config.toml", "step_0000250.png"):
        assert ask.get(f"/api/runs/maps/samples/{name}").status_code in (400, 404), name


def test_damaged_files_of_a_run_are_no_error_of_the_page(tmp_path):
    run = make_run(tmp_path / "maps")
    (run / "samples" / "step_0000250.png").write_bytes(b"no picture")
    (run / "scores.json").write_text("{")
    (run / "log.jsonl").write_bytes(b"\xff\xfe\n[]\n" + (run / "log.jsonl").read_bytes() + b'{"step": 3050')
    ask = client(tmp_path)
    about = get(ask, "/maps")
    assert about["step"] == 3000
    assert "Damaged, and left out: 2 lines of its log." in [warning["text"] for warning in about["warnings"]]
    assert "Evaluate the run again." in about["evaluations"][0]["problem"]
    assert ask.get("/api/runs/maps/samples/250?side=240").status_code == 404


def test_a_run_that_trains_is_asked_to_stop_and_no_other(tmp_path):
    run = make_run(tmp_path / "maps")
    ask = client(tmp_path)
    answer = ask.post("/api/runs/maps/stop")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"{run} is not training, so there is nothing to stop."
    assert not (run / STOP_REQUEST).exists()
    with locked(run / ".lock", "in use"):
        assert ask.post("/api/runs/maps/stop").status_code == 202
        assert get(ask, "/maps")["state"] == "stopping"
        assert ask.post("/api/runs/maps/stop", headers={"Origin": "http://example.org"}).status_code == 403
    assert (run / STOP_REQUEST).is_file()
    assert ask.post("/api/runs/nothing/stop").status_code == 404


def test_the_record_of_the_page_is_that_of_the_report(tmp_path):
    run = make_run(tmp_path / "maps")
    live, whole = Run("maps", run, "maps").follow().record, read_record(run)
    for name in ("step", "seconds", "best", "warnings", "scores", "sessions", "validation_images", "features"):
        assert getattr(live, name) == getattr(whole, name), name
    assert runs_router(tmp_path).prefix == "/api/runs"


# ---- in a browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


@pytest.fixture
def page(chromium):
    """A page of 1200 x 900, which must have no error of its scripts."""
    context = chromium.new_context(
        viewport={"width": 1200, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page, errors = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert errors == []


def start_training(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "cyclegan", "train", *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def curve_of(page, title):
    """The line of the first curve of a chart."""
    return page.locator(".chart", has_text=title).locator("path.curve.s1").first.get_attribute("d")


def test_a_training_appears_grows_live_is_stopped_and_goes_on(page, folders, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    train(
        *folders, out=runs / "before", quiet=True, seed=3, **TINY | {"steps": 60, "num_samples": 1, "sample_steps": 20}
    )
    shutil.move(runs / "before", tmp_path / "before")
    settings = [
        *SETTINGS[:-5],
        "--num-samples",
        "1",
        "--sample-steps",
        "20",
        "--num-validation",
        "0",
        "--no-tensorboard",
    ]
    run, training = runs / "maps 1", None
    with serving(create_studio(runs, ServeSettings(port=0))) as address:
        page.goto(f"{address}/#runs")
        page.get_by_text("There is no run in").wait_for()
        training = start_training(*folders, "--out", run, *settings)
        try:
            # It appears by itself, and its curves grow.
            page.get_by_role("link", name="maps 1").click()
            page.locator(".state", has_text="training").wait_for()
            page.locator(".chart", has_text="Cycle loss").wait_for()
            before = curve_of(page, "Cycle loss")
            page.wait_for_function(
                "before => [...document.querySelectorAll('.chart')].find(c => c.textContent.includes('Cycle loss'))"
                "?.querySelector('path.curve.s1').getAttribute('d') !== before",
                arg=before,
            )
            page.locator(".samples img").first.wait_for()
            assert page.get_by_text("Left, about").is_visible()

            # Stop it, but first change one's mind.
            page.get_by_role("button", name="Stop").click()
            page.get_by_role("button", name="Let it train").click()
            assert not (run / STOP_REQUEST).exists()
            page.get_by_role("button", name="Stop").click()
            page.get_by_role("button", name="Save and stop").click()
            assert training.wait(60) == 130
            page.locator(".state", has_text="stopped").wait_for()
            step = step_of(list_checkpoints(run)[0])
            page.get_by_text(f"Stopped and saved after step {step:,}.").wait_for()
            assert not (run / STOP_REQUEST).exists()
        finally:
            if training.poll() is None:
                os.killpg(training.pid, signal.SIGKILL)
                training.wait()

        # The command that is copied goes on from there.
        page.get_by_role("button", name="Copy the command that goes on").click()
        words = page.evaluate("navigator.clipboard.readText()")
        assert words == f"cyclegan train --out '{run}' --resume"
        train(out=run, resume=True, quiet=True, steps=step + 40)
        page.locator(".state", has_text="finished").wait_for()
        page.locator("dd", has_text=re.compile(f"^{step + 40:,}$")).wait_for()

        # Compare it with another one.
        shutil.move(tmp_path / "before", runs / "before")
        page.get_by_role("link", name="All runs").click()
        page.get_by_label("Compare maps 1").check()
        page.get_by_label("Compare before").check()
        page.get_by_role("button", name="Compare these two").click()
        keys = page.locator(".chart", has_text="Cycle loss").locator(".key")
        keys.nth(3).wait_for()
        assert keys.count() == 4
        pictures = page.locator(".samples figure img:visible")
        pictures.nth(1).wait_for()
        one, other = (re.search(r"/samples/(\d+)", picture.get_attribute("src"))[1] for picture in pictures.all())
        assert one == other
        assert int(one) in range(20, 61, 20)
        assert page.locator("tr", has_text="seed").locator("td").all_inner_texts() == ["0", "3"]


def test_samples_and_curves_are_read_by_keyboard(page, tmp_path):
    make_run(tmp_path / "maps")
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address:
        page.goto(f"{address}/#runs/maps")
        slider = page.get_by_label("Step of the samples")
        slider.focus()
        assert slider.get_attribute("aria-valuetext") == "step 3,000, 13 of 13"
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == "step 250, 2 of 13"
        assert "/samples/250?" in page.locator(".samples img").first.get_attribute("src")

        # It plays to the end, unless it is paused.
        page.get_by_role("button", name="Play").press("Enter")
        page.get_by_role("button", name="Pause").wait_for()
        page.get_by_role("button", name="Play").wait_for()
        assert slider.get_attribute("aria-valuetext") == "step 3,000, 13 of 13"

        chart = page.locator(".chart", has_text="KID").first
        chart.locator("svg[role=application]").focus()
        page.keyboard.press("Home")
        assert chart.locator("[aria-live]").inner_text().startswith("Step 1,000: photos (A) to maps (B) 0.24")
        page.keyboard.press("ArrowRight")
        assert chart.locator("[aria-live]").inner_text().startswith("Step 2,000: photos (A) to maps (B) 0.12")

        # The axis is logarithmic on demand, and a curve is hidden by its name.
        before = chart.locator("path.curve.s1").first.get_attribute("d")
        page.get_by_label("Logarithmic axis").check()
        assert chart.locator("path.curve.s1").first.get_attribute("d") != before
        chart.get_by_role("button", name="photos (A) to maps (B)").click()
        assert chart.locator("g path.curve.s1").count() == 0


def test_runs_without_samples_of_the_same_step_show_the_nearest_ones(page, tmp_path):
    for name, steps in (("maps", [100, 200, 300]), ("yes", [90, 290])):
        make_run(tmp_path / name)
        shutil.move(tmp_path / name / "samples", tmp_path / f"{name} samples")
        (tmp_path / name / "samples").mkdir()
        (tmp_path / name / "scores.json").unlink(missing_ok=True)
        sheets = sorted((tmp_path / f"{name} samples").glob("step_*.png"))
        for step, sheet in zip(steps, sheets, strict=False):
            shutil.copy(sheet, tmp_path / name / "samples" / f"step_{step:06d}.png")
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address:
        page.goto(f"{address}/#runs/maps/yes")
        slider = page.get_by_label("Step of the samples")
        slider.focus()
        seen = []
        for key in ("Home", *["ArrowRight"] * 4):
            page.keyboard.press(key)
            seen.append(slider.get_attribute("aria-valuetext"))
        assert seen == [
            "steps 100 and 90, 1 of 3", "steps 200 and 290, 2 of 3", "steps 300 and 290, 3 of 3",
            "steps 300 and 290, 3 of 3", "steps 300 and 290, 3 of 3",
        ]  # fmt: skip
        sources = [picture.get_attribute("src") for picture in page.locator(".samples figure img").all()]
        assert ["/samples/300?" in sources[0], "/samples/290?" in sources[1]] == [True, True]

        page.goto(f"{address}/#runs/maps")
        page.get_by_text("in the places of FOLDER, give one folder of each kind").wait_for()


def test_a_model_without_a_training_is_named_where_runs_are_missing(page, tmp_path):
    make_model(tmp_path / "quick")
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address:
        page.goto(f"{address}/#runs")
        page.get_by_text("The model quick is there without a training").wait_for()
        page.get_by_label("Runs").get_by_role("link", name="Translate").click()
        page.get_by_role("checkbox", name="quick").wait_for()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_nothing_serious_on_any_page_of_runs(chromium, tmp_path, look):
    from axe_playwright_python.sync_playwright import Axe

    first = make_run(tmp_path / "maps")
    make_run(tmp_path / "a rather long name of a run" / "yes")
    size = {"width": 360, "height": 700} if look == "phone" else {"width": 1200, "height": 900}
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address, locked(first / ".lock", "in use"):
        page = chromium.new_page(viewport=size, color_scheme="dark" if look == "dark" else "light")
        for path, text in (
            ("", "2 runs in"),
            ("/maps", "Settings"),
            ("/maps/a_rather_long_name_of_a_run--yes", "Settings that differ"),
        ):
            page.goto(f"{address}/#runs{path}")
            page.get_by_text(text).first.wait_for()
            page.wait_for_timeout(300)
            for closed in page.locator("summary").all():
                closed.click()
            assert_accessible(page, Axe())
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
        page.goto(f"{address}/#runs/maps")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("dialog").wait_for()
        assert_accessible(page, Axe())
        page.close()


def test_a_studio_that_ends_is_one_sentence_and_its_return_is_seen(page, tmp_path):
    make_run(tmp_path / "maps")
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address:
        page.goto(f"{address}/#runs")
        page.get_by_role("link", name="maps").wait_for()
        page.route("**/api/runs", lambda route: route.abort())
        page.get_by_text("The studio does not answer.").wait_for()
        page.unroute("**/api/runs")
        page.get_by_text("The studio does not answer.").wait_for(state="hidden")
        make_folder(tmp_path / "photos", 1)
        page.goto(f"{address}/#runs/nothing")
        page.get_by_text("There is no run 'nothing' in this folder").wait_for()
