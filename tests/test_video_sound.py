"""The sound of clips, and what else lies beside their picture: it stays, in place, or is reported."""

from fractions import Fraction

import numpy as np
import pytest

from clips import level, make_clip, noisy, numbered, read, sound
from cyclegan.video import translate_video
from pictures import Negative, make_translator

av = pytest.importorskip("av")


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
