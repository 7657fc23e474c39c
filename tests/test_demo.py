"""Real images, real training: short, but with a result that has to be there."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from cyclegan import InputError, cli, evaluate, train
from cyclegan.datasets import download
from cyclegan.demo.run import EARTH_MODEL, demo, quick_demo
from cyclegan.images.file_list import list_images
from cyclegan.storage.scores import read_scores


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    return download("earth", tmp_path_factory.mktemp("data") / "earth")


@pytest.mark.slow
def test_a_short_training_brings_held_out_places_closer_to_their_truth(earth, tmp_path):
    run = train(earth, preset="demo", out=tmp_path / "run", steps=250, device="cpu", precision="fp32", quiet=True)
    scores = evaluate(run, paired=True, quiet=True)
    for direction, result in scores.directions.items():
        l1, psnr = result.metrics["l1"], result.metrics["psnr"]
        assert l1.value.value < 0.5 * l1.ceiling.value, direction
        assert psnr.value.value > psnr.ceiling.value + 3, direction


@pytest.mark.slow
def test_the_demo_writes_a_report_that_holds_all_it_shows(earth, tmp_path):
    report = demo(tmp_path / "run", earth, minutes=0.2)
    page = report.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", page)  # one file, no network
    scores = read_scores(tmp_path / "run")
    for direction, source in (("a2b", "A"), ("b2a", "B")):
        l1 = scores.directions[direction].metrics["l1"]
        assert f"{l1.value.value:.3f}" in page
        assert f"{l1.mean_image.value:.3f}" in page
        names = [path.name for path in list_images(earth / f"test{source}")]
        written = list_images(tmp_path / "run" / "translated" / direction)
        assert [path.name for path in written] == names
        assert Image.open(written[0]).size == Image.open(earth / f"test{source}" / names[0]).size
    assert "mean image" in page
    assert Image.open(tmp_path / "run" / "overview.png").size[0] > 8 * 100
    # The same call again trains no more and shows the same.
    assert demo(tmp_path / "run", earth, minutes=0.2) == report
    again = read_scores(tmp_path / "run")
    assert again.directions == scores.directions


@pytest.mark.slow
def test_the_quick_demo_shows_generators_that_are_installed(earth, tmp_path):
    report = quick_demo(tmp_path / "quick", earth)
    scores = read_scores(tmp_path / "quick")
    for direction, source in (("a2b", "A"), ("b2a", "B")):
        l1 = scores.directions[direction].metrics["l1"]
        assert l1.value.value < 0.25 * l1.ceiling.value, direction
        assert f"{l1.value.value:.3f}" in report.read_text()
        written = list_images(tmp_path / "quick" / "translated" / direction)
        assert [path.name for path in written] == [path.name for path in list_images(earth / f"test{source}")]
    assert (tmp_path / "quick" / "overview.png").is_file()


def test_the_generators_of_the_quick_demo_are_small():
    files = [path for path in EARTH_MODEL.iterdir() if path.suffix == ".safetensors"]
    assert [path.stem for path in sorted(files)] == ["a2b", "b2a"]
    assert sum(path.stat().st_size for path in files) < 8e6


@pytest.mark.parametrize("flag", [["--minutes", "3"], ["--seed", "1"], ["--fresh"]])
def test_the_quick_demo_takes_nothing_that_is_for_training(flag, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["demo", "--quick", *flag, "--out", str(tmp_path / "out")])
    assert exit.value.code != 0
    assert f"--quick does not train, so {flag[0]} is not for it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_quick_demo_refuses_data_that_its_generators_do_not_know(tmp_path, capsys):
    data = tmp_path / "earth"
    data.mkdir()
    (data / "about.json").write_text(json.dumps({"name": "earth", "b": "NOAA ETOPO1 map", "tile_pixels": 240}))
    with pytest.raises(SystemExit):
        cli.main(["demo", "--quick", "--data", str(data), "--out", str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().err.split())
    assert "'NOAA ETOPO1 map'" in said
    assert "choose another --data" in said
    assert not (tmp_path / "out").exists()


def test_the_quick_demo_leaves_a_run_alone(tmp_path):
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(InputError, match="is a run, whose scores would be replaced"):
        quick_demo(tmp_path, tmp_path / "data")


# ---- the studio at the end

# The command with a demo that is over at once.
SHORT_DEMO = """
import sys
from cyclegan.demo import run
run.quick_demo = lambda out, data: (out.mkdir(parents=True), out / "report.html")[1]
from cyclegan.cli import main
main(["demo", "--quick", *sys.argv[1:]])
"""


class Terminal:
    """The short demo in a terminal of its own."""

    def __init__(self, folder, *arguments, **variables):
        pty = pytest.importorskip("pty")  # not on Windows
        self._own, theirs = pty.openpty()
        environment = {
            key: value for key, value in os.environ.items() if key not in ("CI", "DISPLAY", "WAYLAND_DISPLAY")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHORT_DEMO, *arguments],
            **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
            cwd=folder,
            env=environment | variables,
        )
        os.close(theirs)
        self.text = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._own)

    def read(self, until=None):
        """What is shown, until this pattern is in it, or to the end."""
        while until is None or not re.search(until, self.text):
            try:
                part = os.read(self._own, 4096)
            except OSError:  # the end, on Linux
                part = b""
            if not part:
                assert until is None, self.text
                break
            self.text += part.decode()
        return self.text

    def answer(self, text):
        os.write(self._own, text.encode())


def test_in_a_terminal_the_demo_asks_and_opens_the_studio_on_its_result(tmp_path):
    with Terminal(tmp_path, "--out", "quick") as terminal:
        terminal.read(r"open the studio\? \[Y/n\] ")
        assert "quick/report.html" in terminal.text
        terminal.answer("\n")
        port = re.search(r"http://127\.0\.0\.1:(\d+)/?\r?\n", terminal.read(r"http://127\.0\.0\.1:(\d+)/?\r?\n"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/healthz") as reply:
            assert reply.status == 200
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60) in (0, 130)


@pytest.mark.parametrize("answer", ["n\n", "nein\n", "\x04"])
def test_another_answer_names_the_command(tmp_path, answer):
    with Terminal(tmp_path, "--out", "quick") as terminal:
        terminal.read(r"\[Y/n\] ")
        terminal.answer(answer)
        assert "Later: cyclegan studio quick" in terminal.read()
        assert terminal.process.wait(60) == 0


def test_in_ci_and_on_request_nothing_is_asked(tmp_path):
    with Terminal(tmp_path, "--out", "quick", CI="true") as terminal:
        assert "in the browser: cyclegan studio quick" in terminal.read()
        assert "[Y/n]" not in terminal.text
    with Terminal(tmp_path, "--out", "silent", "--no-studio") as terminal:
        assert "studio" not in terminal.read()
        assert terminal.process.wait(60) == 0


def test_in_a_pipe_the_demo_prints_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SHORT_DEMO, "--out", "my runs/quick"],
        **{"cwd": tmp_path, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "check": True},
    )
    assert done.stdout == f"{Path('my runs/quick/report.html')}\n"
    assert done.stderr == "Translate images of your own in the browser: cyclegan studio 'my runs/quick'\n"


def test_without_the_extra_the_demo_names_its_install_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cyclegan.demo.run.quick_demo", lambda out, _data: out / "report.html")
    monkeypatch.setattr("cyclegan.cli.demo.find_spec", lambda name: None if name == "uvicorn" else name)
    cli.main(["demo", "--quick", "--out", str(tmp_path)])
    assert f"pip install 'cyclegan[serve]', then cyclegan studio {tmp_path}" in capsys.readouterr().err
