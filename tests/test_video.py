import builtins
import errno
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import TINY, count_waiting, make_folder
from cyclegan import InputError, ModelConfig, Translator, train
from cyclegan.cli import main
from cyclegan.images.formats import ImageFormat
from cyclegan.storage.model import ModelInfo
from cyclegan.system.signals import signals_interrupt
from cyclegan.translate.plan import describe_other_files
from cyclegan.video import plan_translation, translate_video
from cyclegan.video.writing import open_output

av = pytest.importorskip("av")
Interpolation = pytest.importorskip("av.video.reformatter").Interpolation


EXACT = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


class Same(nn.Module):
    def forward(self, x):
        return x


class Negative(nn.Module):
    def forward(self, x):
        return -x


def make_translator(network=None, a=3, b=3, dtype="uint8"):
    about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": 0, "translate_with": "final"}
    formats = {"a": ImageFormat(channels=a, dtype=dtype), "b": ImageFormat(channels=b, dtype=dtype)}
    info = ModelInfo(
        cyclegan_version="0", model=ModelConfig(norm="none", channels_a=a, channels_b=b), **formats, **about
    )
    return Translator(network or Same(), info, "a2b", torch.device("cpu"))


def level(index):
    return 30 + 7 * index


def numbered(count, width=64, height=48):
    """Frames that tell their number by their brightness."""
    return [np.full((height, width, 3), level(index), np.uint8) for index in range(count)]


def make_clip(
    path,
    frames,
    *,
    codec="libx264",
    pix_fmt="yuv420p",
    rate=25,
    pts=None,
    time_base=None,
    tone=None,
    tone_start=0.0,
    tone_rate=48000,
    layout="mono",
    options=None,
    matrix=None,
    full=None,
    aspect=None,
    rotation=None,
):
    """tone: the codec of a 440 Hz tone as long as the clip, which begins at tone_start seconds."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or ({"crf": "5"} if codec == "libx264" else {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if time_base:
            stream.codec_context.time_base = time_base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if full is not None:
            stream.codec_context.color_range = 2 if full else 1
        if rotation:
            stream.set_display_rotation(rotation)
        if tone:
            sound = out.add_stream(tone, rate=tone_rate, layout=layout)
            seconds = len(frames) / rate
            time = np.arange(round(tone_rate * seconds)) / tone_rate
            wave = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
            wave = wave[None].repeat(av.AudioLayout(layout).nb_channels, 0)
            for begin in range(0, wave.shape[1], 960):
                frame = av.AudioFrame.from_ndarray(wave[:, begin : begin + 960].copy(), "fltp", layout)
                frame.sample_rate, frame.time_base = tone_rate, Fraction(1, tone_rate)
                frame.pts = round(tone_start * tone_rate) + begin
                out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(
                format=pix_fmt,
                src_color_range="JPEG",
                dst_colorspace={1: "ITU709"}.get(matrix, "ITU601"),
                dst_color_range="JPEG" if full else "MPEG",
            )
            frame.pts = index if pts is None else pts[index]
            frame.time_base = stream.codec_context.time_base if time_base else Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def read(path):
    """Frames as RGB by the tags that they carry, their times in seconds, and the stream's properties."""
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        about = {
            "size": (stream.width, stream.height),
            "rate": stream.average_rate,
            "aspect": stream.sample_aspect_ratio,
            "seconds": clip.duration / 1e6,
            "codec": stream.codec_context.name,
            "pix_fmt": stream.pix_fmt,
        }
        arrays, times = [], []
        for frame in clip.decode(video=0):
            about |= {"matrix": frame.colorspace, "range": frame.color_range, "rotation": frame.rotation}
            about |= {"primaries": stream.codec_context.color_primaries, "transfer": stream.codec_context.color_trc}
            matrix = {1: "ITU709"}.get(frame.colorspace, "ITU601")
            color_range = "JPEG" if frame.color_range == 2 else "MPEG"
            rgb = frame.reformat(
                format="rgb24",
                src_colorspace=matrix,
                src_color_range=color_range,
                dst_color_range="JPEG",
                interpolation=EXACT,
            )
            arrays.append(rgb.to_ndarray())
            times.append(float(frame.pts * frame.time_base))
    return arrays, times, about


def sound(path):
    """Packets of the first stream of sound, and when it begins in seconds."""
    with av.open(str(path)) as clip:
        packets = [p for p in clip.demux(clip.streams.audio[0]) if p.dts is not None]
        return [bytes(p) for p in packets], float(packets[0].pts * packets[0].time_base), packets[0].stream.codec.name


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".m4v"])
def test_number_order_times_size_rate_and_sound_stay(tmp_path, suffix):
    source = make_clip(tmp_path / "x.mp4", numbered(20), rate=30, tone="aac")
    target = tmp_path / f"y{suffix}"
    made = translate_video(make_translator(Negative()), source, target)
    (arrays, times, about), (_, times_before, about_before) = read(target), read(source)
    assert made.num_frames == len(arrays) == 20
    assert [round(array.mean()) for array in arrays] == pytest.approx([255 - level(i) for i in range(20)], abs=2)
    # Matroska has no time before 0, where the encoder's run-up of AAC lies: there picture and sound both move by it.
    shift = times[0] - times_before[0]
    assert times == pytest.approx([time + shift for time in times_before], abs=0.001)
    assert shift == 0 if suffix != ".mkv" else 0 <= shift < 0.03
    assert about == {**about_before, "seconds": pytest.approx(about_before["seconds"], abs=0.03)}
    assert made.seconds == pytest.approx(20 / 30, abs=0.001)
    packets, start, _ = sound(target)
    assert packets == sound(source)[0]
    assert start - shift == pytest.approx(sound(source)[1], abs=0.001)
    assert made.notes == made.damage == ()
    assert [path.name for path in tmp_path.iterdir() if path not in (source, target)] == []


def test_webm_has_vp9_and_opus_and_says_that_the_sound_is_new(tmp_path):
    source = make_clip(tmp_path / "x.mp4", numbered(20), tone="aac")
    made = translate_video(make_translator(), source, tmp_path / "y.webm")
    arrays, times, about = read(tmp_path / "y.webm")
    assert about["codec"] == "vp9"
    assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(20)], abs=3)
    assert times == pytest.approx([i / 25 for i in range(20)], abs=0.002)
    packets, start, codec = sound(tmp_path / "y.webm")
    assert "opus" in codec
    assert abs(start) < 0.05
    assert len(packets) == pytest.approx(0.8 / 0.02, abs=3)
    assert "aac sound; it was re-encoded" in made.notes[0]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_odd_sizes_stay(tmp_path, suffix):
    frames = [np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8).repeat(9, 0).repeat(9, 1)] * 3
    source = make_clip(tmp_path / "x.mkv", frames, codec="ffv1", pix_fmt="yuv444p")
    made = translate_video(make_translator(), source, tmp_path / f"y{suffix}")
    arrays, _, about = read(tmp_path / f"y{suffix}")
    assert about["size"] == (45, 27)
    assert np.median(np.abs(arrays[2].astype(int) - frames[2])) <= 3
    assert [("odd size, 45x27" in note) for note in made.notes] == ([True] if suffix == ".mp4" else [])


def test_the_times_of_a_variable_frame_rate_stay(tmp_path):
    ticks = [0, 40, 50, 190, 200, 333, 1000]
    source = make_clip(tmp_path / "x.mp4", numbered(7), pts=ticks, time_base=Fraction(1, 1000))
    for suffix in (".mp4", ".mkv"):
        translate_video(make_translator(), source, tmp_path / f"y{suffix}", batch_size=3)
        arrays, times, _ = read(tmp_path / f"y{suffix}")
        assert times == pytest.approx([tick / 1000 for tick in ticks], abs=0.0011)
        assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(7)], abs=2)


@pytest.mark.parametrize(("matrix", "full"), [(1, False), (1, True), (6, False), (6, True), (None, None)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_and_their_tags_stay(tmp_path, matrix, full, suffix):
    corners = np.array([[r, g, b] for r in (20, 235) for g in (20, 235) for b in (20, 235)], np.uint8)
    picture = corners.reshape(2, 4, 3).repeat(32, 0).repeat(32, 1)
    source = make_clip(tmp_path / "x.mp4", [picture] * 3, matrix=matrix, full=full)
    translate_video(make_translator(), source, tmp_path / f"y{suffix}")
    (before, _, tags_before), (after, _, tags) = read(source), read(tmp_path / f"y{suffix}")
    inner = np.zeros(picture.shape[:2], bool)
    for row in range(16, 64, 32):
        for column in range(16, 128, 32):
            inner[row - 8 : row + 8, column - 8 : column + 8] = True
    assert np.abs(after[1].astype(int) - before[1])[inner].max() <= 6
    assert np.abs(after[1].astype(int) - picture)[inner].max() <= 8
    for name in ("matrix", "primaries", "transfer"):
        assert tags[name] == tags_before[name]
    if full is not None or suffix == ".mp4":  # VP9 always tells its range
        assert tags["range"] == tags_before["range"]


def test_nothing_becomes_darker_on_the_way(tmp_path):
    values = np.random.default_rng(0).integers(60, 190, (12, 16, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(values).resize((128, 96), Image.Resampling.BICUBIC))
    source = make_clip(tmp_path / "x.mp4", [picture] * 3)
    translate_video(make_translator(), source, tmp_path / "y.mp4")
    before, after = read(source)[0][1], read(tmp_path / "y.mp4")[0][1]
    assert after.mean() == pytest.approx(before.mean(), abs=0.4)


def test_an_hdr_clip_keeps_its_tags_and_is_reported(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1
        for index, array in enumerate(numbered(3)):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace="BT2020", dst_color_range="MPEG")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    made = translate_video(make_translator(), tmp_path / "x.mp4", tmp_path / "y.mp4")
    before, after = read(tmp_path / "x.mp4"), read(tmp_path / "y.mp4")
    assert "is HDR" in made.notes[0]
    for name in ("matrix", "primaries", "transfer", "range"):
        assert after[2][name] == before[2][name]
    assert after[0][1].mean() == pytest.approx(before[0][1].mean(), abs=1.5)


def test_other_streams_are_left_out_and_reported(tmp_path):
    source = make_clip(tmp_path / "x.mp4", numbered(3), tone="aac")
    with av.open(str(source)) as clip, av.open(str(tmp_path / "two.mkv"), "w") as out:
        streams = [out.add_stream_from_template(clip.streams[index]) for index in (0, 1, 1)]
        out.add_attachment("note.txt", "text/plain", b"words")
        for packet in clip.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    made = translate_video(make_translator(), tmp_path / "two.mkv", tmp_path / "y.mkv")
    with av.open(str(tmp_path / "y.mkv")) as clip:
        assert [stream.type for stream in clip.streams] == ["video", "audio", "audio"]
    assert "left out" in made.notes[0]


def test_a_clip_of_rgb_becomes_one_of_bt709(tmp_path):
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (220, 40, 30), (30, 60, 200)
    with av.open(str(tmp_path / "x.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "bgr0"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    translate_video(make_translator(), tmp_path / "x.mkv", tmp_path / "y.mp4")
    arrays, _, about = read(tmp_path / "y.mp4")
    assert (about["matrix"], about["range"]) == (1, 1)
    assert np.abs(arrays[0].astype(int) - picture)[:, 4:28].max() <= 6


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_clips_of_turned_phones_become_upright(tmp_path, rotation):
    picture = np.full((32, 64, 3), 40, np.uint8)
    picture[:8, :8] = 220  # a mark in a corner
    source = make_clip(tmp_path / "x.mp4", [picture] * 3, rotation=rotation, aspect=Fraction(4, 3))
    assert read(source)[2]["rotation"] in (rotation, rotation - 360)
    translate_video(make_translator(), source, tmp_path / "y.mp4")
    arrays, _, about = read(tmp_path / "y.mp4")
    assert about["rotation"] == 0
    # The tag says by how much a player turns the picture, counter-clockwise.
    upright = np.rot90(picture, rotation // 90)
    assert arrays[0].shape == upright.shape
    assert np.abs(arrays[0].astype(int) - upright).mean() < 3
    assert about["aspect"] == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))


@pytest.mark.parametrize(
    ("codec", "layout", "rate", "before", "after", "made_of"),
    [
        ("pcm_s16le", "stereo", 44100, ".avi", ".mp4", ("aac", "stereo", 44100)),
        ("pcm_u8", "mono", 11025, ".avi", ".mp4", ("aac", "mono", 11025)),
        ("pcm_s24le", "5.1(side)", 96000, ".mkv", ".mp4", ("aac", "5.1", 96000)),
        ("libopus", "stereo", 48000, ".mkv", ".mov", ("aac", "stereo", 48000)),
        ("flac", "stereo", 192000, ".mkv", ".mov", ("aac", "stereo", 96000)),
        ("pcm_s16le", "mono", 6000, ".avi", ".mp4", ("aac", "mono", 7350)),
        ("ac3", "5.1(side)", 48000, ".mkv", ".webm", ("opus", "5.1", 48000)),
    ],
)
def test_sound_that_the_container_refuses_is_reencoded(tmp_path, codec, layout, rate, before, after, made_of):
    tone = {"tone": codec, "layout": layout, "tone_rate": rate}
    source = make_clip(tmp_path / f"x{before}", numbered(20), codec="mpeg4", **tone)
    made = translate_video(make_translator(), source, tmp_path / f"y{after}")
    assert "it was re-encoded as " in made.notes[0]
    assert made.num_frames == 20
    with av.open(str(tmp_path / f"y{after}")) as clip:
        context = clip.streams.audio[0].codec_context
        assert (context.name, context.layout.name, context.sample_rate) == made_of
        frames = list(clip.decode(audio=0))
    loud = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert len(loud) / made_of[2] == pytest.approx(0.8, abs=0.1)
    assert np.sqrt(np.mean(np.square(loud))) == pytest.approx(0.3 / 2**0.5, rel=0.25)


def test_sound_that_nothing_can_hold_is_left_out_and_reported(tmp_path, monkeypatch):
    source = make_clip(tmp_path / "x.mp4", numbered(3), tone="aac")
    monkeypatch.setattr("cyclegan.video.writing._holds", lambda *_: False)
    made = translate_video(make_translator(), source, tmp_path / "y.mp4")
    assert made.notes == ("Sound of the kind aac is left out.",)
    assert made.num_frames == 3


def test_sound_that_begins_later_still_does(tmp_path):
    source = make_clip(tmp_path / "x.mkv", numbered(20), tone="libopus", tone_start=0.3)
    for suffix in (".mkv", ".mp4", ".webm"):
        translate_video(make_translator(), source, tmp_path / f"y{suffix}")
        packets, start, _ = sound(tmp_path / f"y{suffix}")
        assert packets == sound(source)[0]
        assert start - read(tmp_path / f"y{suffix}")[1][0] == pytest.approx(sound(source)[1], abs=0.003)


def test_a_recorded_broadcast_begins_at_zero_with_its_sound_in_place(tmp_path):
    source = make_clip(tmp_path / "x.ts", numbered(20), pts=list(range(100, 120)), tone="aac", tone_start=4.2)
    assert read(source)[1][0] > 3.9
    translate_video(make_translator(), source, tmp_path / "y.mp4")
    _, times_before, _ = read(source)
    _, times, _ = read(tmp_path / "y.mp4")
    assert times[0] < 0.1
    assert np.diff(times) == pytest.approx(np.diff(times_before), abs=0.001)
    assert sound(tmp_path / "y.mp4")[1] - times[0] == pytest.approx(sound(source)[1] - times_before[0], abs=0.002)


@pytest.mark.parametrize(("bframes", "tone"), [(2, None), (2, "aac"), (0, None)])
def test_times_in_avi_which_are_in_the_order_of_decoding_are_put_right(tmp_path, bframes, tone):
    options = {"crf": "5", "bf": str(bframes), "b-adapt": "0"}
    source = make_clip(tmp_path / "x.avi", numbered(20), options=options, tone=tone)
    made = translate_video(make_translator(), source, tmp_path / "y.mp4")
    arrays, times, _ = read(tmp_path / "y.mp4")
    assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(20)], abs=2)
    assert np.diff(times) == pytest.approx([1 / 25] * 19, abs=0.001)
    assert times[0] <= 0.081
    assert made.damage == ()


@pytest.mark.parametrize(("starts", "suffix"), [((3, 1), ".mp4"), ((3, 1), ".webm"), ((100, 0), ".mp4")])
def test_a_clock_that_jumps_back_ends_neither_picture_nor_sound(tmp_path, starts, suffix):
    parts = []
    for start in starts:
        pts = range(25 * start, 25 * start + 20)
        parts.append(make_clip(tmp_path / f"{start}.ts", numbered(20), pts=pts, tone="aac", tone_start=start))
    source = tmp_path / "x.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    made = translate_video(make_translator(), source, tmp_path / f"y{suffix}")
    arrays, times, _ = read(tmp_path / f"y{suffix}")
    assert made.num_frames == 40
    assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(20)] * 2, abs=3)
    assert np.diff(times[:20]) == pytest.approx([1 / 25] * 19, abs=0.0011)
    assert np.diff(times[20:]) == pytest.approx([1 / 25] * 19, abs=0.0011)
    assert 0 < times[20] - times[19] < 0.15
    with av.open(str(tmp_path / f"y{suffix}")) as clip:
        heard = [packet.pts * packet.time_base for packet in clip.demux(audio=0) if packet.pts is not None]
    assert heard == sorted(heard)
    assert 1.5 < heard[-1] < 1.8
    assert made.damage == ("x.ts: its clock jumps once; the parts are joined.",)


def test_sound_that_comes_a_little_too_late_is_left_out_and_reported(tmp_path):
    content = b""
    for start in (3.0, 3.5):
        pts = [round(start * 25) + 5 + index for index in range(20)]
        part = make_clip(tmp_path / "part.ts", numbered(20), pts=pts, tone="aac", tone_start=start)
        content += part.read_bytes()
    (tmp_path / "x.ts").write_bytes(content)
    made = translate_video(make_translator(), tmp_path / "x.ts", tmp_path / "y.mp4")
    assert made.num_frames == 40
    assert "packets of sound came twice or too late" in made.damage[0]
    _, times, _ = read(tmp_path / "y.mp4")
    assert min(np.diff(times)) > 0


def test_reencoded_sound_stays_in_sync_with_the_picture(tmp_path):
    source = make_clip(tmp_path / "x.ts", numbered(20), pts=list(range(100, 120)), tone="aac", tone_start=4.3)
    translate_video(make_translator(), source, tmp_path / "y.webm")
    _, start, codec = sound(tmp_path / "y.webm")
    assert codec == "opus"
    _, start_before, _ = sound(source)
    (_, times, _), (_, times_before, _) = read(tmp_path / "y.webm"), read(source)
    # The encoders have a run-up before the first sound, of 21 ms in AAC and of 6.5 ms in Opus.
    assert start - times[0] == pytest.approx(start_before - times_before[0], abs=0.035)
    assert times[0] < 0.4


def test_frames_without_times_come_one_after_another(tmp_path):
    source = make_clip(tmp_path / "x.h264", numbered(20), options={"crf": "5", "bf": "0"})
    made = translate_video(make_translator(), source, tmp_path / "y.mp4")
    arrays, times, _ = read(tmp_path / "y.mp4")
    assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(20)], abs=2)
    assert np.diff(times) == pytest.approx([1 / 25] * 19, abs=0.002)
    assert made.seconds == pytest.approx(20 / 25, abs=0.002)


def test_frames_of_one_time_are_all_kept(tmp_path):
    ticks = [0, 4, 400, 802, 804, 1200]  # of 0.1 ms, of which Matroska makes whole ones
    source = make_clip(tmp_path / "x.mkv", numbered(6), codec="ffv1", pts=ticks, time_base=Fraction(1, 10000))
    assert min(np.diff(read(source)[1])) == 0
    assert translate_video(make_translator(), source, tmp_path / "y.mp4").num_frames == 6
    arrays, times, _ = read(tmp_path / "y.mp4")
    assert [round(array.mean()) for array in arrays] == pytest.approx([level(i) for i in range(6)], abs=2)
    assert times == pytest.approx([0, 0.001, 0.04, 0.08, 0.081, 0.12], abs=0.0011)
    assert min(np.diff(times)) > 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_titles_and_languages_stay_and_tags_of_the_old_file_do_not(tmp_path, suffix):
    source = make_clip(tmp_path / "x.mp4", numbered(3), tone="aac")
    with av.open(str(source)) as clip, av.open(str(tmp_path / "tags.mkv"), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in clip.streams]
        out.metadata["title"] = "A walk in Genève"
        streams[1].metadata["language"] = "fre"
        for packet in clip.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    translate_video(make_translator(), tmp_path / "tags.mkv", tmp_path / f"y{suffix}")
    with av.open(str(tmp_path / f"y{suffix}")) as clip:
        assert {key.lower(): value for key, value in clip.metadata.items()}["title"] == "A walk in Genève"
        assert clip.streams.audio[0].metadata["language"] == "fre"


def test_damaged_sound_does_not_end_a_clip(tmp_path):
    source = make_clip(tmp_path / "x.mkv", numbered(20), tone="aac")
    packets, _, _ = sound(source)
    content = bytearray(source.read_bytes())
    for packet in packets[10:13]:
        place = content.find(packet)
        content[place : place + len(packet)] = b"\xff" * len(packet)
    source.write_bytes(content)
    made = translate_video(make_translator(), source, tmp_path / "y.webm")
    assert made.num_frames == 20
    assert "packets could not be decoded" in made.damage[0]
    assert len(sound(tmp_path / "y.webm")[0]) > 20


def _put_tags_first(path):
    """In the index of an MP4 the box of the tags, with the cover, comes before those of the streams."""
    content = path.read_bytes()
    begin = content.index(b"moov") + 4
    boxes, place = [], begin
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        boxes.append(content[place : place + size])
        place += size
    boxes.sort(key=lambda box: box[4:8] != b"udta")
    path.write_bytes(content[:begin] + b"".join(boxes))


def test_packets_of_sound_shorter_than_the_ticks_of_matroska_are_kept(tmp_path):
    source = tmp_path / "x.mkv"
    with av.open(str(source), "w") as out:
        picture = out.add_stream("ffv1", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        tone = out.add_stream("pcm_s16le", rate=48000, layout="mono")
        for begin in range(0, 960, 24):  # half a millisecond each
            frame = av.AudioFrame.from_ndarray(np.full((1, 24), begin, np.int16), "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), begin
            out.mux(tone.encode(frame))
        out.mux(picture.encode(av.VideoFrame.from_ndarray(numbered(1)[0], "rgb24").reformat(format="yuv420p")))
        out.mux(picture.encode(None))
    made = translate_video(make_translator(), source, tmp_path / "y.mkv")
    assert sound(tmp_path / "y.mkv")[0] == sound(source)[0]
    assert len(sound(source)[0]) == 40
    assert made.damage == ()


def test_a_cover_is_not_taken_for_the_clip(tmp_path):
    source = make_clip(tmp_path / "x.mp4", numbered(5), tone="aac")
    picture = make_clip(tmp_path / "cover.mkv", noisy(1), codec="mjpeg", pix_fmt="yuvj420p", options={})
    with av.open(str(source)) as clip, av.open(str(picture)) as image, av.open(str(tmp_path / "c.mp4"), "w") as out:
        cover = out.add_stream_from_template(image.streams.video[0])
        cover.disposition = av.stream.Disposition.attached_pic
        streams = [out.add_stream_from_template(stream) for stream in clip.streams]
        packet = next(image.demux())
        packet.stream = cover
        out.mux(packet)
        for packet in clip.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    _put_tags_first(tmp_path / "c.mp4")
    with av.open(str(tmp_path / "c.mp4")) as clip:
        assert clip.streams.video[0].disposition == av.stream.Disposition.attached_pic
    made = translate_video(make_translator(), tmp_path / "c.mp4", tmp_path / "y.mp4")
    assert made.num_frames == 5
    assert "1 more video" in made.notes[0]
    assert [round(array.mean()) for array in read(tmp_path / "y.mp4")[0]] == pytest.approx(
        [level(i) for i in range(5)], abs=2
    )


def test_frames_of_another_size_are_brought_to_that_of_the_first(tmp_path):
    content = b""
    for start, (width, height) in ((1, (64, 48)), (2, (96, 64))):
        pts = range(25 * start, 25 * start + 20)
        part = make_clip(tmp_path / "part.ts", numbered(20, width, height), codec="mpeg2video", pts=pts)
        content += part.read_bytes()
    (tmp_path / "x.ts").write_bytes(content)
    made = translate_video(make_translator(), tmp_path / "x.ts", tmp_path / "y.mp4")
    arrays, _, about = read(tmp_path / "y.mp4")
    assert about["size"] == (64, 48)
    assert {array.shape for array in arrays} == {(48, 64, 3)}
    assert made.num_frames >= 39  # the decoder may lose the last one before the change
    assert arrays[-1].mean() == pytest.approx(level(19), abs=3)


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


def noisy(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


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


def test_no_more_frames_than_a_batch_are_waiting(tmp_path):
    source = make_clip(tmp_path / "x.mp4", numbered(30))
    translator = make_translator()
    waiting = count_waiting(translator, "translate")
    assert translate_video(translator, source, tmp_path / "y.mp4", batch_size=4).num_frames == 30
    assert 1 <= max(waiting) <= 5


def test_short_side_changes_the_scale_and_not_the_size(tmp_path):
    source = make_clip(tmp_path / "x.mp4", noisy(3))
    translate_video(make_translator(), source, tmp_path / "y.mp4", short_side=12)
    arrays, _, about = read(tmp_path / "y.mp4")
    assert about["size"] == (64, 48)
    assert arrays[0].std() < 0.6 * read(source)[0][0].std()


def test_grey_models_take_and_make_grey_clips_and_deep_ones_refuse(tmp_path):
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[..., 0] = 200
    source = make_clip(tmp_path / "x.mp4", [picture] * 2)
    translate_video(make_translator(a=1, b=1), source, tmp_path / "y.mp4")
    middle = read(tmp_path / "y.mp4")[0][0][16, 16].astype(int)
    assert np.ptp(middle) <= 2
    assert middle.mean() == pytest.approx(0.299 * 200, abs=4)
    for wrong in (make_translator(a=4, b=4), make_translator(dtype="uint16")):
        with pytest.raises(InputError, match="8-bit grey or colour"):
            translate_video(wrong, source, tmp_path / "z.mp4")


def test_a_missing_package_is_reported(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "av":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[video\]'"):
        translate_video(make_translator(), tmp_path / "x.mp4", tmp_path / "y.mp4")


def test_stabilised_clips_differ_and_begin_alike(tmp_path):
    model = make_translator(nn.Sequential(nn.InstanceNorm2d(3)))
    frames = [
        np.clip(frame // 2 + 25 * (index % 2), 0, 255).astype(np.uint8) for index, frame in enumerate(noisy(1) * 8)
    ]
    source = make_clip(tmp_path / "x.mp4", frames)
    results = []
    for stabilise in (False, True):
        translate_video(model, source, tmp_path / "y.mp4", stabilise=stabilise)
        results.append([frame.mean() for frame in read(tmp_path / "y.mp4")[0]])
    plain, stable = results
    assert stable[0] == pytest.approx(plain[0], abs=1)
    assert max(np.abs(np.diff(plain))) < 4 < max(np.abs(np.diff(stable)))  # instance norm hides the light's changes


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
