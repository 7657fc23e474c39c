"""Clips, animations and images in one command."""

import os
import signal
import subprocess
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import level, make_clip, noisy, numbered, read, sound
from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.cli import main
from cyclegan.system.signals import signals_interrupt
from cyclegan.translate.plan import describe_other_files
from cyclegan.video import plan_translation, translate_video
from pictures import Negative, make_translator

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", preset="paper", quiet=True, **{**TINY, "steps": 2})


def test_clips_and_images_are_translated_by_one_command(run, tmp_path, capsys):
    folder = tmp_path / "in"
    make_folder(folder / "frames", count=3)
    make_clip(folder / "x.mp4", numbered(3))
    make_clip(folder / "x.avi", numbered(3), codec="mjpeg", pix_fmt="yuvj420p", options={})
    (folder / "bad.mkv").write_text("words")
    with pytest.raises(SystemExit) as end:
        main(["translate", str(run), str(folder), "--out", str(tmp_path / "out"), "--stabilise", "--batch-size", "2"])
    assert end.value.code == 1
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["frames/0.png", "frames/1.png", "frames/2.png", "x.avi.mp4", "x.mp4"]
    shown = capsys.readouterr()
    assert "bad.mkv cannot be read as a clip" in shown.err
    assert "3 images translated" in shown.out
    assert "3 frames, 0.12 s, translated into" in shown.out


def test_one_clip_becomes_the_file_that_out_names(run, tmp_path, capsys):
    source = make_clip(tmp_path / "clip.mp4", numbered(4), tone="aac")
    main(["translate", str(run), str(source), "--out", str(tmp_path / "clip_b.mp4"), "--stabilise"])
    assert len(read(tmp_path / "clip_b.mp4")[0]) == 4
    assert sound(tmp_path / "clip_b.mp4")[0] == sound(source)[0]
    assert "4 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip.mp4", "clip.mp4", "--out", "y.mp4"], "give a folder as --out"),
        (["in", "--out", "y.mp4"], "give a folder as --out"),
        (["in/0.png", "--out", "y.mp4"], "is an image; give a folder"),
        (["clip.mp4", "--out", "y.avi"], "clips are written as .mp4"),
        (["clip.mp4", "--out", "."], "would be overwritten"),
        (["clip.mp4", "--out", "y.mp4", "--memory-frames", "5"], "is for --stabilise"),
        (["clip.mp4", "--out", "y.mp4", "--stabilise", "--memory-frames", "0"], "expected at least 1"),
        (["clip.mp4", "--out", "y.mp4", "--stabilise", "--memory-frames", "nan"], "expected at least 1"),
        (["clip.mp4", "--out", "y.png"], "the input is not one image file"),
        (["none.mp4", "--out", "out"], "There is no file or folder"),
        (["empty", "--out", "out"], "no images and no clips"),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "in", count=2)
    (tmp_path / "empty").mkdir()
    make_clip(tmp_path / "clip.mp4", numbered(2))
    with pytest.raises(SystemExit):
        main(["translate", str(run), *words])
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "empty", "in"]


def test_stabilise_says_where_it_does_nothing(run, tmp_path, capsys):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "x.png")
    main(["translate", str(run), str(tmp_path / "x.png"), "--out", str(tmp_path / "out"), "--stabilise"])
    assert "x.png is a single picture: no sequence of frames, so stabilising does nothing for it." in (
        capsys.readouterr().err
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.fromarray(numbered(1)[0]).save(tmp_path / name / "x.png")
    words = [str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "out3")]
    main(["translate", str(run), *words, "--stabilise"])
    assert "2 pictures stand alone: no sequence of frames, so stabilising does nothing for them." in (
        capsys.readouterr().err
    )
    folders = [make_folder(tmp_path / name, seed=index) for index, name in enumerate("ab")]
    batch = train(*folders, out=tmp_path / "batch", quiet=True, **{**TINY, "steps": 1, "norm": "batch"})
    main(["translate", str(batch), str(folders[0]), "--out", str(tmp_path / "out2"), "--stabilise"])
    assert "Stabilising changes nothing here" in capsys.readouterr().err


def animate(path, **options):
    first, *more = (Image.fromarray(frame) for frame in numbered(5))
    first.save(path, save_all=True, append_images=more, duration=[40, 40, 120, 40, 80], **options)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_becomes_a_clip_where_out_names_one(run, tmp_path, capsys, suffix):
    source, target = animate(tmp_path / f"x{suffix}"), tmp_path / "y.mp4"
    images, clips = plan_translation([source], target, make_translator())
    assert (images, list(clips)) == ([], [(source, target)])
    made = translate_video(make_translator(), source, target)
    assert (made.num_frames, made.seconds) == (5, pytest.approx(0.32))
    arrays, times, about = read(target)
    assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(5)], abs=2)
    assert times == pytest.approx([0, 0.04, 0.08, 0.2, 0.24], abs=0.001)
    assert (about["matrix"], about["range"]) == (1, 1)
    main(["translate", str(run), str(source), "--out", str(target)])
    assert "5 frames, 0.32 s, translated into" in capsys.readouterr().out


def test_transparent_pixels_become_white_in_a_clip(tmp_path):
    frames = [Image.new("RGBA", (64, 48), (200, 30, 30 + index, 255 if index else 0)) for index in range(3)]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:], duration=40)
    made = translate_video(make_translator(), tmp_path / "x.png", tmp_path / "y.mp4")
    arrays, _, _ = read(tmp_path / "y.mp4")
    assert arrays[0].min() > 250
    assert np.abs(arrays[2][24, 32].astype(int) - (200, 30, 30)).max() <= 4
    assert made.notes == ("The transparency of 3 frames is not kept: .mp4 files have no place for it.",)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_a_clip_becomes_an_animation_where_out_names_one(run, tmp_path, capsys, suffix):
    ticks = [0, 40, 80, 200, 240]
    source = make_clip(tmp_path / "x.mp4", numbered(5), pts=ticks, time_base=Fraction(1, 1000), tone="aac")
    target = tmp_path / f"y{suffix}"
    images, clips = plan_translation([source], target, make_translator())
    assert (images, list(clips)) == ([], [(source, target)])
    made = translate_video(make_translator(Negative()), source, target)
    assert made.num_frames == 5
    assert made.notes[0] == "The sound of x.mp4 is left out."
    with Image.open(target) as picture:
        durations, means = [], []
        for index in range(picture.n_frames):
            picture.seek(index)
            means.append(np.asarray(picture.convert("RGB")).mean())
            durations.append(picture.info["duration"])
    assert means == pytest.approx([255 - level(i) for i in range(5)], abs=3)
    assert durations[:4] == pytest.approx([40, 40, 120, 40], abs=1)
    main(["translate", str(run), str(source), "--out", str(target)])
    assert "5 frames" in capsys.readouterr().out


def test_animations_become_animations_among_clips_and_images(run, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    make_folder(folder, count=1)
    make_clip(folder / "c.mp4", numbered(3))
    for name in ("a.gif", "a.webp", "a.png"):
        animate(folder / name)
    Image.fromarray(numbered(1)[0]).save(folder / "still.gif")
    (folder / "bad.gif").write_bytes(b"GIF89a words")
    with pytest.raises(SystemExit) as end:
        main(["translate", str(run), str(folder), "--out", str(out), "--stabilise"])
    assert end.value.code == 1
    shown = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "a.gif", "a.png", "a.webp", "c.mp4", "still.png"]
    for name in ("a.gif", "a.webp", "a.png"):
        with Image.open(out / name) as picture:
            assert picture.n_frames == 5
    assert "2 images translated" in shown.out
    assert f"5 frames translated into {out / 'a.gif'}" in shown.out.replace("\n", "")
    assert "bad.gif" in shown.err
    assert "a PNG, which keeps all colours" in shown.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["12:30.mp4", "concat:x.mp4", "data:x.mp4"])
def test_a_name_with_a_colon_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "x.mp4", numbered(3)).rename(name)
    (tmp_path / "out:put").mkdir()
    for target in (Path("y:1.mp4"), Path("out:put/y.mp4")):
        assert translate_video(make_translator(), Path(name), target).num_frames == 3
        assert target.is_file()


def test_clips_keep_their_names_in_a_folder(tmp_path):
    make_clip(tmp_path / "one.MP4", numbered(2))
    for name in ("two.ts", "two.mkv"):
        (tmp_path / name).write_text("")
    images, clips = plan_translation([tmp_path], tmp_path / "out", make_translator())
    assert images == []
    assert [target.name for _, target in clips] == ["one.MP4", "two.mkv", "two.mp4"]


def test_clips_lie_beside_the_images_of_their_folder_where_a_zip_is_another_input(tmp_path):
    (tmp_path / "day").mkdir()
    Image.fromarray(noisy(1)[0]).save(tmp_path / "day" / "x.png")
    (tmp_path / "day" / "y.mp4").write_text("")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "day" / "x.png", "x.png")
        archive.writestr("y.mp4", b"clip")
    out = tmp_path / "out"
    images, clips = plan_translation([tmp_path / "day", tmp_path / "more.zip"], out, make_translator())
    assert [target for _, target in images] == [out / "day" / "x.png", out / "more" / "x.png"]
    assert list(clips) == [(tmp_path / "day" / "y.mp4", out / "day" / "y.mp4")]
    assert describe_other_files(images, clips) == "1 file is left out: 1 .mp4."


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGHUP"))]
)
def test_a_killed_command_leaves_no_clip_and_says_so(run, tmp_path, name):
    source = make_clip(tmp_path / "x.mp4", [frame.repeat(6, 0).repeat(6, 1) for frame in noisy(30)])
    code = (
        "import sys, os, signal, cyclegan.video as v\n"
        # As in a terminal: what runs in the background of a shell has SIGINT ignored, and under nohup SIGHUP.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "real = v.PictureWriter.write\n"
        "def write(self, *rest):\n"
        "    real(self, *rest)\n"
        "    self.count = getattr(self, 'count', 0) + 1\n"
        f"    if self.count == 5: os.kill(os.getpid(), signal.{name})\n"
        "v.PictureWriter.write = write\n"
        "from cyclegan.cli import main\n"
        f"main(['translate', {str(run)!r}, {str(source)!r}, '--out', {str(tmp_path / 'y.mp4')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True)
    assert done.returncode == 130
    *_, last = done.stderr.splitlines()  # the engine is printed before
    assert last == "Stopped; images and clips that are done are kept, no partial file is left."
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_signals_that_are_ignored_stay_so_and_others_are_put_back():
    def handler(*_):
        pass

    tidied = []

    def terminate_twice():
        signal.raise_signal(signal.SIGHUP)
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            tidied.append("all")

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(KeyboardInterrupt), signals_interrupt():
            terminate_twice()
        assert tidied == ["all"]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])
