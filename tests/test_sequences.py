import zipfile

import numpy as np
import pytest
from PIL import Image, ImageSequence
from torch import nn

from conftest import count_waiting
from cyclegan import InputError, inspect_folders
from cyclegan.errors import UnreadableError
from cyclegan.images.codecs import read_image
from cyclegan.images.limits import pixel_limit
from cyclegan.sequences.registry import find_sequence
from cyclegan.translate.folder import translate_folder
from cyclegan.translate.plan import plan_outputs
from cyclegan.translate.sequence import translate_sequence
from pictures import ANIMATIONS, DURATIONS, Black, Negative, level, make_translator, numbered, save_animation

KEEPS_LOOP = [suffix for suffix in ANIMATIONS if suffix != ".avif"]


def load(path):
    """Frames as RGBA, and durations in milliseconds, as Pillow reads them."""
    with Image.open(path) as picture:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.asarray(frame.convert("RGBA")))
            durations.append(frame.info.get("duration"))
        return frames, durations, picture.info.get("loop")


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_an_animation_becomes_one_of_its_kind(tmp_path, suffix):
    source = (
        save_animation(tmp_path / f"x{suffix}", loop=3)
        if suffix in KEEPS_LOOP
        else save_animation(tmp_path / f"x{suffix}")
    )
    target = tmp_path / f"y{suffix}"
    made = translate_sequence(make_translator(Negative()), source, target, batch_size=2)
    frames, durations, loop = load(target)
    assert made.num_frames == len(frames) == 5
    assert durations == DURATIONS
    assert loop == load(source)[2]
    assert (loop is None) == (suffix == ".avif")
    assert {frame.shape for frame in frames} == {(20, 24, 4)}
    assert [frame[-4:].mean(axis=(0, 1))[0] for frame in frames] == pytest.approx(
        [255 - level(i) for i in range(5)], abs=1.5
    )
    assert made.damage == ()
    assert [path.name for path in tmp_path.iterdir() if path not in (source, target)] == []


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_few_colours_are_kept_exactly(tmp_path, suffix):
    source = save_animation(tmp_path / f"x{suffix}")
    made = translate_sequence(make_translator(), source, tmp_path / f"y{suffix}")
    for before, after in zip(load(source)[0], load(tmp_path / f"y{suffix}")[0], strict=True):
        np.testing.assert_array_equal(before, after)
    assert made.notes == ()


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_equal_neighbours_are_all_kept(tmp_path, suffix):
    # Of their own accord Pillow and libwebp join them.
    same = make_translator(Black())
    source = save_animation(tmp_path / f"x{suffix}")
    assert translate_sequence(same, source, tmp_path / f"y{suffix}").num_frames == 5
    assert load(tmp_path / f"y{suffix}")[1] == DURATIONS


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_transparency_stays_and_moves(tmp_path, suffix):
    frames = []
    for index, frame in enumerate(numbered()):
        alpha = Image.new("L", frame.size, 255)
        if index:  # the first is opaque, and must not be seen through the others
            alpha.paste(0, (2 * index, 4, 2 * index + 6, 12))
        frame.putalpha(alpha)
        frames.append(frame)
    # Pillow's own writer of GIF forgets transparency if the first frame has none.
    source = save_animation(tmp_path / ("x.png" if suffix == ".gif" else f"x{suffix}"), frames)
    translate_sequence(make_translator(Negative()), source, tmp_path / f"y{suffix}")
    before, after = load(source)[0], load(tmp_path / f"y{suffix}")[0]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other[..., 3], one[..., 3], atol=0 if suffix != ".avif" else 8)
    assert (after[3][..., 3] < 128).sum() == 48


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("plays", [0, 1, 4])
def test_the_number_of_showings_stays_between_formats(tmp_path, suffix, plays):
    loop = {0: 0, 1: None, 4: 3}[plays]
    source = save_animation(tmp_path / "x.gif", **({} if loop is None else {"loop": loop}))
    translate_sequence(make_translator(), source, tmp_path / f"y{suffix}")
    written = load(tmp_path / f"y{suffix}")[2]
    assert written == (loop if suffix == ".gif" else plays)


def test_durations_of_milliseconds_in_a_gif_do_not_drift(tmp_path):
    frames = [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(60)]
    source = save_animation(tmp_path / "x.webp", frames, durations=[33] * 60)
    translate_sequence(make_translator(), source, tmp_path / "y.gif")
    assert sum(load(tmp_path / "y.gif")[1]) == pytest.approx(60 * 33, abs=10)


def test_a_gif_says_that_colours_are_dithered_and_stays_close(tmp_path):
    ramp = np.stack(np.broadcast_arrays(np.arange(128)[:, None], np.arange(128)[None], 60), -1).astype(np.uint8)
    source = save_animation(tmp_path / "x.webp", [Image.fromarray(ramp), Image.fromarray(ramp[::-1].copy())])
    made = translate_sequence(make_translator(), source, tmp_path / "y.gif")
    assert made.notes == ("y.gif is a GIF, which has 256 colours a frame: the others are dithered.",)
    before, after = load(source)[0], load(tmp_path / "y.gif")[0]
    assert np.abs(before[1].astype(int) - after[1])[..., :3].mean() < 5


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_turned_frames_become_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = save_animation(tmp_path / f"x{suffix}", exif=exif)
    translate_sequence(make_translator(), source, tmp_path / f"y{suffix}")
    frames, durations, _ = load(tmp_path / f"y{suffix}")
    assert durations == DURATIONS
    upright = np.rot90(np.asarray(numbered()[2]), -1)
    assert frames[2].shape == (24, 20, 4)
    assert np.abs(frames[2][..., :3].astype(int) - upright).mean() < 2
    with Image.open(tmp_path / f"y{suffix}") as picture:
        assert picture.getexif().get(0x0112, 1) == 1


def test_half_transparent_pixels_in_a_gif_are_said(tmp_path):
    frames = [frame.convert("RGBA") for frame in numbered(2)]
    for frame in frames:
        frame.putalpha(100)
    source = save_animation(tmp_path / "x.png", frames)
    made = translate_sequence(make_translator(), source, tmp_path / "y.gif")
    assert made.notes == ("The half transparency of 2 frames is not kept: .gif files have no place for it.",)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_grey_models_take_and_make_animations(tmp_path, suffix):
    source = save_animation(tmp_path / f"x{suffix}")
    translate_sequence(make_translator(Negative(), a=1, b=1), source, tmp_path / f"y{suffix}")
    frames, durations, _ = load(tmp_path / f"y{suffix}")
    assert durations == DURATIONS
    assert [frame[-4:].mean(axis=(0, 1))[0] for frame in frames] == pytest.approx(
        [255 - level(i) for i in range(5)], abs=1
    )


def test_the_picture_that_stands_in_for_an_apng_is_left_out_and_said(tmp_path):
    first, *more = numbered()
    first.save(tmp_path / "x.png", save_all=True, append_images=more, default_image=True, duration=DURATIONS[1:])
    made = translate_sequence(make_translator(), tmp_path / "x.png", tmp_path / "y.png")
    assert made.num_frames == 4
    assert load(tmp_path / "y.png")[1] == DURATIONS[1:]
    assert made.notes == ("The still picture that x.png shows instead of its animation is left out.",)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("share", [0.55, 0.9])
def test_frames_before_a_missing_end_are_kept(tmp_path, suffix, share):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(6)]
    source = save_animation(tmp_path / f"x{suffix}", noise, durations=[40] * 6)
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    made = translate_sequence(make_translator(), source, tmp_path / f"y{suffix}")
    expected = int(share * 6)
    assert expected - 1 <= made.num_frames <= expected + 1
    assert len(load(tmp_path / f"y{suffix}")[0]) == made.num_frames
    assert len(made.damage) == 1
    assert f"x{suffix}" in made.damage[0]


def test_frames_come_one_batch_at_a_time(tmp_path):
    frames = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(40)]
    source = save_animation(tmp_path / "x.gif", frames, durations=[40] * 40)
    translator, row = make_translator(), find_sequence(source)
    waiting = count_waiting(translator, "translate_each")
    assert translate_sequence(translator, source, tmp_path / "y.gif", batch_size=4, reader=row).num_frames == 40
    assert 1 <= max(waiting) <= 5


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_one_picture_is_no_sequence(tmp_path, suffix):
    numbered(1)[0].save(tmp_path / f"x{suffix}", **ANIMATIONS[suffix])
    assert find_sequence(tmp_path / f"x{suffix}") is None
    with pytest.raises(InputError, match="holds one picture, not several"):
        translate_sequence(make_translator(), tmp_path / f"x{suffix}", tmp_path / f"y{suffix}")


def test_what_cannot_be_is_refused_in_one_sentence(tmp_path):
    source = save_animation(tmp_path / "x.gif")
    for target, translator, message in (
        ("x.gif", make_translator(), "would be overwritten"),
        ("y.jpg", make_translator(), "cannot be written with several pictures"),
        ("y.gif", make_translator(b=2), "cannot hold 2 x uint8"),
        ("y.gif", make_translator(dtype="uint16"), "cannot hold 3 x uint16"),
        ("x.gif/y.gif", make_translator(), "could not be written"),
    ):
        with pytest.raises(InputError, match=message):
            translate_sequence(translator, source, tmp_path / target)
    with pytest.raises(InputError, match="does not exist"):
        translate_sequence(make_translator(), tmp_path / "none.gif", tmp_path / "y.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]


def test_an_apng_of_16_bits_is_refused(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), 1000 * index, np.uint16)) for index in range(3)]
    source = save_animation(tmp_path / "x.png", frames)
    with pytest.raises(InputError, match="x.png is an animation of 16 bits; the model takes 3 x uint8"):
        translate_sequence(make_translator(), source, tmp_path / "y.png")
    with pytest.raises(InputError, match="which holds 8-bit grey or colour, and the model takes 1 x uint16"):
        translate_sequence(make_translator(a=1, dtype="uint16"), source, tmp_path / "y.tif")


def test_an_animation_in_a_zip_keeps_its_frames(tmp_path):
    source = save_animation(tmp_path / "x.gif")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(source, "cats/x.gif")
    source.unlink()
    inside = tmp_path / "photos.zip" / "cats" / "x.gif"
    assert find_sequence(inside) is not None
    assert translate_sequence(make_translator(), inside, tmp_path / "y.gif").num_frames == 5
    plan = plan_outputs([tmp_path / "photos.zip"], tmp_path / "out", make_translator())
    assert [target.relative_to(tmp_path).as_posix() for _, target in plan] == ["out/cats/x.gif"]


def test_frames_of_more_pixels_than_the_limit_are_refused(tmp_path):
    source = save_animation(tmp_path / "x.gif")
    with pixel_limit(100), pytest.raises(UnreadableError, match="x.gif cannot be translated: it has 24x20 pixels"):
        translate_sequence(make_translator(), source, tmp_path / "y.gif")


def test_errors_of_the_network_are_not_taken_for_errors_of_writing(tmp_path):
    class Broken(nn.Module):
        def forward(self, _):
            raise OSError("a kernel could not be loaded")

    source = save_animation(tmp_path / "x.gif")
    with pytest.raises(OSError, match="a kernel could not be loaded"):
        translate_sequence(make_translator(Broken()), source, tmp_path / "y.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]


def test_an_interrupted_translation_leaves_nothing(tmp_path):
    source = save_animation(tmp_path / "x.png")

    def interrupt(done, _expected):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        translate_sequence(make_translator(), source, tmp_path / "y.png", on_frame=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_stabilised_animations_differ_and_begin_alike(tmp_path):
    rng = np.random.default_rng(0)
    still = rng.integers(60, 180, (20, 24, 3), dtype=np.uint8)
    frames = [Image.fromarray(still // 2 + 25 * (index % 2)) for index in range(8)]
    source = save_animation(tmp_path / "x.png", frames, durations=[40] * 8)
    model = make_translator(nn.Sequential(nn.InstanceNorm2d(3)))
    results = []
    for stabilise in (False, True):
        translate_sequence(model, source, tmp_path / "y.png", stabilise=stabilise)
        results.append([frame[..., :3].mean() for frame in load(tmp_path / "y.png")[0]])
    plain, stable = results
    assert stable[0] == pytest.approx(plain[0], abs=0.5)
    assert max(np.abs(np.diff(plain))) < 4 < max(np.abs(np.diff(stable)))


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_where_images_are_counted_an_animation_is_its_first_frame(tmp_path, suffix):
    for name, index in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        source = save_animation(tmp_path / name / f"x{suffix}")
        numbered(3)[index].save(tmp_path / name / "still.png")
    found = inspect_folders(tmp_path / "a", tmp_path / "b")
    assert [len(found.folders[name].files) for name in "AB"] == [2, 2]
    np.testing.assert_allclose(read_image(source, 3).mean(), np.asarray(numbered(1)[0]).mean(), atol=2)


def test_animations_that_are_not_read_are_refused_instead_of_their_first_picture(tmp_path):
    heif, imagecodecs = pytest.importorskip("pillow_heif"), pytest.importorskip("imagecodecs")
    folder = tmp_path / "in"
    folder.mkdir()
    stacked = np.stack([np.asarray(frame) for frame in numbered(3)])
    (folder / "moving.jxl").write_bytes(imagecodecs.jpegxl_encode(stacked, lossless=True))
    (folder / "still.jxl").write_bytes(imagecodecs.jpegxl_encode(stacked[0], lossless=True))
    heif.from_pillow(numbered(1)[0]).save(folder / "still.heic")
    track = (16).to_bytes(4, "big") + b"moov" + bytes(8)  # what a file with frames has beside its picture
    (folder / "moving.heic").write_bytes((folder / "still.heic").read_bytes() + track)
    result = translate_folder(make_translator(), folder, tmp_path / "out")
    assert sorted(target.name for _, target in result.written) == ["still.heic", "still.jxl"]
    reasons = {source.name: reason for source, reason in result.skipped}
    assert reasons.keys() == {"moving.heic", "moving.jxl"}
    assert all("cannot be written with several pictures; choose" in reason for reason in reasons.values())
    for name in reasons:
        with pytest.raises(InputError, match=f"{name} is an animation, and .* not translated frame by frame"):
            translate_folder(make_translator(), folder / name, tmp_path / f"{name}.gif")
        result = translate_folder(make_translator(), folder / name, tmp_path / "page", page=1)
        assert [source.name for source, _ in result.written] == [name]
