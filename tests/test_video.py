"""The picture of clips: number, order, times, size, colours and tags of their frames."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from torch import nn

from clips import level, make_clip, noisy, numbered, read
from conftest import count_waiting
from cyclegan import InputError
from cyclegan.video import translate_video
from pictures import make_translator

av = pytest.importorskip("av")


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


def test_no_more_frames_than_a_batch_are_waiting(tmp_path):
    source = make_clip(tmp_path / "x.mp4", numbered(30))
    translator = make_translator()
    waiting = count_waiting(translator, "translate_each")
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
