"""Damaged clips, and results that cannot be written."""

import builtins
import errno
from contextlib import contextmanager

import numpy as np
import pytest
from torch import nn

from clips import make_clip, noisy, numbered, read
from cyclegan import InputError
from cyclegan.video import translate_video
from cyclegan.video.writing import open_output
from pictures import make_translator

av = pytest.importorskip("av")


def test_a_clip_that_ends_a_little_early_is_whole(tmp_path):
    for missing, told in ((7, 0), (20, 1)):
        source = make_clip(tmp_path / "x.mkv", noisy(60), options={"g": "1", "bf": "0"})
        with av.open(str(source)) as clip:
            packets = [bytes(packet) for packet in clip.demux() if packet.size]
        content = source.read_bytes()
        source.write_bytes(content[: content.find(packets[-missing - 1]) + len(packets[-missing - 1])])
        made = translate_video(make_translator(), source, tmp_path / "y.mp4")
        assert made.num_frames == 60 - missing
        assert len(made.damage) == told, made.damage


def test_files_without_a_picture_are_refused(tmp_path):
    translator, target = make_translator(), tmp_path / "y.mp4"
    with av.open(str(tmp_path / "tone.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    (tmp_path / "words.mp4").write_text("these are words")
    for name, message in (
        ("tone.mp4", "holds no moving pictures"),
        ("words.mp4", "cannot be read as a clip"),
        ("nothing.mp4", "There is no clip"),
    ):
        with pytest.raises(InputError, match=message):
            translate_video(translator, tmp_path / name, target)
    source = make_clip(tmp_path / "x.mp4", numbered(3))
    with pytest.raises(InputError, match="clips are written as .mp4"):
        translate_video(translator, source, tmp_path / "y.xyz")
    with pytest.raises(InputError, match="would be overwritten"):
        translate_video(translator, source, source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tone.mp4", "words.mp4", "x.mp4"]


def test_a_target_that_cannot_be_written_is_reported(tmp_path):
    source = make_clip(tmp_path / "x.mp4", numbered(3))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="y.mp4 could not be written.*Nothing is left of it"):
        translate_video(make_translator(), source, tmp_path / "file" / "y.mp4")


def test_only_write_errors_are_reported_as_write_errors(tmp_path, monkeypatch):
    source, target = make_clip(tmp_path / "x.mp4", numbered(3)), tmp_path / "y.mp4"

    class Broken(nn.Module):
        def forward(self, _):
            raise OSError("a kernel could not be loaded")

    with pytest.raises(OSError, match="a kernel could not be loaded"):
        translate_video(make_translator(Broken()), source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    target.write_text("an earlier result")
    monkeypatch.setattr("cyclegan.system.atomic.os.fsync", full)
    with pytest.raises(InputError, match=r"y\.mp4 could not be written: No space .*\. What was there before stays\."):
        translate_video(make_translator(), source, target)
    assert target.read_text() == "an earlier result"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.mp4", "y.mp4"]


@pytest.mark.parametrize("kind", ["VideoStream", "AudioStream"])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_disk_that_is_full_in_the_middle_is_reported(tmp_path, monkeypatch, kind, suffix):
    source, target = make_clip(tmp_path / "x.mp4", noisy(20), tone="aac"), tmp_path / f"y{suffix}"

    class Full:
        def __init__(self, out):
            self._out = out

        def __getattr__(self, name):
            return getattr(self._out, name)

        def mux(self, packets):
            for packet in packets if isinstance(packets, list) else [packets]:
                if type(packet.stream).__name__ == kind:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self._out.mux(packet)

    @contextmanager
    def open_full(*arguments):
        with open_output(*arguments) as out:
            yield Full(out)

    monkeypatch.setattr("cyclegan.video.open_output", open_full)
    with pytest.raises(InputError, match="could not be written: No space left on device. Nothing is left of it."):
        translate_video(make_translator(), source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def test_a_truncated_clip_keeps_its_beginning_and_reports_the_rest(tmp_path):
    source = make_clip(tmp_path / "x.mp4", noisy(60), options={"movflags": "faststart", "g": "10"})
    whole = (tmp_path / "x.mkv", tmp_path / "x.mp4")
    make_clip(whole[0], noisy(60), options={"g": "10"})
    with (
        av.open(str(source)) as clip,
        av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(clip.streams.video[0])
        for packet in clip.demux():
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    for path in (tmp_path / "fast.mp4", whole[0]):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        made = translate_video(make_translator(), path, tmp_path / "y.mp4")
        assert 20 < made.num_frames < 40
        assert len(read(tmp_path / "y.mp4")[0]) == made.num_frames
        assert "early" in made.damage[-1]
    # Without its index, which an MP4 has at its end, nothing can be read.
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as a clip"):
        translate_video(make_translator(), source, tmp_path / "z.mp4")
    assert not (tmp_path / "z.mp4").exists()


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_damage_in_the_middle_does_not_end_a_clip(tmp_path, suffix):
    kind = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"q": "2"}} if suffix == ".avi" else {}
    source = make_clip(tmp_path / f"x{suffix}", noisy(30), **kind)
    with av.open(str(source)) as clip:
        packets = [bytes(packet) for packet in clip.demux() if packet.size]
    content = bytearray(source.read_bytes())
    for packet in packets[10:13]:
        place = content.find(packet)
        content[place : place + len(packet)] = bytes(len(packet))
    source.write_bytes(content)
    made = translate_video(make_translator(), source, tmp_path / "y.mp4")
    assert made.damage == (f"x{suffix}: 3 packets could not be decoded; the rest is translated.",)
    _, times, _ = read(tmp_path / "y.mp4")
    assert made.num_frames == len(times) == 27
    assert times[-1] == pytest.approx(29 / 25)


def test_an_interrupted_translation_leaves_nothing_and_keeps_what_was_there(tmp_path):
    source, target = make_clip(tmp_path / "x.mp4", numbered(20)), tmp_path / "y.mp4"
    target.write_text("an earlier result")

    def interrupt(done, _expected):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        translate_video(make_translator(), source, target, on_frame=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.mp4", "y.mp4"]
    assert target.read_text() == "an earlier result"


def test_a_missing_package_is_reported(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "av":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[video\]'"):
        translate_video(make_translator(), tmp_path / "x.mp4", tmp_path / "y.mp4")
