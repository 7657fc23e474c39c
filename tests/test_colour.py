"""Colours with a profile, and those that a file names in other ways, become sRGB; `--keep-profile` converts back."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, features

from cyclegan import InputError
from cyclegan.config import Reading
from cyclegan.images.codecs import load_raster, write_image
from cyclegan.images.raster import Metadata, Raster
from cyclegan.translate.folder import translate_folder
from cyclegan.translate.sequence import translate_sequence
from pictures import make_translator
from profiles import _profile, cmyk_profile, grey_profile, rgb_matrix, rgb_profile, scanner_profile, srgb_profile
from test_png import png

imagecodecs = pytest.importorskip("imagecodecs")

SPACES = ("display-p3", "adobe-rgb", "prophoto")
SRGB = ImageCms.createProfile("sRGB")


def colours(seed=0, height=24, width=32):
    """Flat squares of random colours, 8 bits."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)


def encode_srgb(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def exact_srgb(values, space):
    """Values from 0 to 1 of a colour space as sRGB, by their definitions."""
    linear = values ** (563 / 256)
    if space == "display-p3":
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return encode_srgb(linear @ np.linalg.solve(rgb_matrix("srgb"), rgb_matrix(space)).T)


def littlecms(picture, profile):
    """A Pillow picture with a profile as sRGB."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE
    return np.asarray(ImageCms.profileToProfile(picture, opened, SRGB, 1, outputMode="RGB", flags=flags))


# ---- values


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif"])
@pytest.mark.parametrize("space", SPACES)
def test_8_bits_become_what_littlecms_makes_of_them(tmp_path, suffix, space):
    lossless = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}, ".avif": {"quality": 100}}
    path = tmp_path / f"x{suffix}"
    Image.fromarray(colours()).save(path, icc_profile=rgb_profile(space), **lossless.get(suffix, {}))
    with Image.open(path) as stored:
        expected = littlecms(stored.convert("RGB"), rgb_profile(space))
        assert np.abs(exact_srgb(np.asarray(stored) / 255, space) * 255 - expected).max() < 1
    found = load_raster(path, 3)
    assert found.metadata.is_srgb
    assert np.abs(found.values.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("space", SPACES)
def test_16_bits_are_exact(tmp_path, suffix, space):
    # A table in the place of the conversion was up to 27 of 255 levels off.
    values = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    write_image(tmp_path / f"x{suffix}", Raster(values, metadata=Metadata(profile=rgb_profile(space))))
    found = load_raster(tmp_path / f"x{suffix}", 3)
    assert found.values.dtype == np.uint16
    assert np.abs(found.values / 65535 - exact_srgb(values / 65535, space)).max() * 255 < 0.25


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_with_a_gamma_is_exact(tmp_path, gamma, dtype):
    most = np.iinfo(dtype).max
    values = np.linspace(0, most, 256).astype(dtype).reshape(16, 16)
    alpha = np.full_like(values, most)
    profile, expected = grey_profile(gamma), encode_srgb((values / most) ** (round(gamma * 256) / 256))
    files = {
        "x.png": Raster(values[..., None], metadata=Metadata(profile=profile)),
        "x.tif": Raster(values[..., None], metadata=Metadata(profile=profile)),
        "alpha.png": Raster(values[..., None], alpha, metadata=Metadata(profile=profile)),
    }
    for name, raster in files.items():
        write_image(tmp_path / name, raster)
        found = load_raster(tmp_path / name, 1)
        assert np.abs(found.values[..., 0] / most - expected).max() * 255 < (0.51 if dtype == np.uint8 else 0.02)


def test_profiles_of_version_4(tmp_path):
    primaries = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06]
    profile = imagecodecs.cms_profile("rgb", whitepoint=(0.3127, 0.329), primaries=primaries, gamma=2.2)
    assert profile[8] == 4
    Image.fromarray(colours()).save(tmp_path / "x.png", icc_profile=profile)
    found = load_raster(tmp_path / "x.png", 3)
    assert np.abs(found.values.astype(int) - littlecms(Image.fromarray(colours()), profile)).max() <= 1


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["x.png", "x.tif", "deep.png", "deep.tif"])
def test_transparent_pictures_are_converted_whatever_the_model_takes(tmp_path, name, channels):
    values, alpha = colours(), np.random.default_rng(1).integers(1, 256, (24, 32), dtype=np.uint8)
    raster = Raster(values, alpha, metadata=Metadata(profile=rgb_profile("display-p3")))
    if name.startswith("deep"):
        raster = Raster(values.astype(np.uint16) * 257, alpha.astype(np.uint16) * 257, metadata=raster.metadata)
    write_image(tmp_path / name, raster)
    found = load_raster(tmp_path / name, channels)
    assert found.metadata.is_srgb
    full = 65535 if name.startswith("deep") else 255
    difference = found.values[..., :3] / full - exact_srgb(values / 255, "display-p3")
    assert np.abs(difference).max() * 255 < 1
    np.testing.assert_array_equal(found.values[..., 3] if channels == 4 else found.alpha, raster.alpha)


def test_bands_in_another_order_are_no_colours_of_the_profile(tmp_path):
    values = colours().astype(np.uint16) * 257
    write_image(tmp_path / "x.tif", Raster(values, metadata=Metadata(profile=rgb_profile("adobe-rgb"))))
    found = load_raster(tmp_path / "x.tif", 3, Reading(bands="1,2,3"))
    assert found.metadata.is_srgb
    found = load_raster(tmp_path / "x.tif", 3, Reading(bands="3,2,1"))
    assert not found.metadata.is_srgb
    np.testing.assert_array_equal(found.values, values[..., ::-1])


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path, suffix):
    inks = np.concatenate([colours(), colours(1)[..., :1] // 3], -1)
    options = {"quality": 100} if suffix == ".jpg" else {}
    for name, profile in (("with", cmyk_profile()), ("without", None), ("other", rgb_profile("display-p3"))):
        path = tmp_path / f"{name}{suffix}"
        Image.fromarray(inks, "CMYK").save(path, **options, **({"icc_profile": profile} if profile else {}))
        with Image.open(path) as stored:
            stored.load()
            expected = littlecms(stored, profile) if name == "with" else np.asarray(stored.convert("RGB"))
        # A profile of other colours is passed over. A table in the place of four inks is a little coarse.
        difference = np.abs(load_raster(path, 3).values.astype(int) - expected)
        assert difference.max() <= (4 if name == "with" else 0)
        assert difference.mean() < 0.5


def test_lab(tmp_path):
    lab = ImageCms.profileToProfile(Image.fromarray(colours()), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    lab.save(tmp_path / "x.tif")
    expected = ImageCms.profileToProfile(lab, ImageCms.createProfile("LAB"), SRGB, outputMode="RGB")
    np.testing.assert_array_equal(load_raster(tmp_path / "x.tif", 3).values, expected)
    for photometric, values in (("cielab", colours().astype(np.uint16)), ("icclab", colours())):
        tifffile.imwrite(tmp_path / "y.tif", values, photometric=photometric)
        with pytest.raises(InputError, match=r"y.tif has CIELAB colours of \d+ bits, which are not read"):
            load_raster(tmp_path / "y.tif", 3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_profile_of_a_jpeg_2000(tmp_path, dtype):
    values, profile = colours().astype(dtype), rgb_profile("display-p3")
    values = values if dtype == "uint8" else values * 257
    write_image(tmp_path / "plain.jp2", values)
    content = (tmp_path / "plain.jp2").read_bytes()
    head, at = content.index(b"jp2h") - 4, content.index(b"colr") - 4
    size, old = (int.from_bytes(content[place : place + 4], "big") for place in (head, at))
    box = struct.pack(">I4sBBB", len(profile) + 11, b"colr", 2, 0, 0) + profile
    content = content[:at] + box + content[at + old :]
    size = struct.pack(">I", size - old + len(box))
    (tmp_path / "x.jp2").write_bytes(content[:head] + size + content[head + 4 :])
    stored = load_raster(tmp_path / "plain.jp2", 3).values / np.iinfo(dtype).max
    found = load_raster(tmp_path / "x.jp2", 3)
    assert np.abs(found.values / np.iinfo(dtype).max - exact_srgb(stored, "display-p3")).max() * 255 < 1


# ---- there and back


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("space", SPACES[:2])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", "uint8"), (".jpg", "uint8"), (".webp", "uint8"), (".avif", "uint8"), (".tif", "uint8"),
     (".heic", "uint8"), (".png", "uint16"), (".tif", "uint16")],
)  # fmt: skip
def test_a_profile_is_kept_where_that_is_asked_for(tmp_path, suffix, dtype, space, tile):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    # Within the smaller gamut, since what lies outside of sRGB is lost on the way.
    values = (colours() // 4 + 96).astype(dtype) * (257 if dtype == "uint16" else 1)
    values[:4] = values[:4].mean(-1, keepdims=True).astype(dtype)
    source = tmp_path / f"x{suffix}"
    write_image(source, Raster(values, metadata=Metadata(profile=rgb_profile(space))))
    stored = load_raster(source, 3).values.astype(float)
    translator = make_translator(dtype=dtype, high=float(np.iinfo(dtype).max))
    plain = translate_folder(translator, source, tmp_path / "plain", tile=tile)
    kept = translate_folder(translator, source, tmp_path / "kept", tile=tile, keep_profile=True)
    assert any("were converted from" in note and "to sRGB" in note for note in plain.notes)
    assert not any("were converted" in note or "profile" in note for note in kept.notes)
    found = [load_raster(tmp_path / name / f"x{suffix}", 3) for name in ("plain", "kept")]
    # The suffix of a HEIC and the like stands for compression with loss, twice.
    tolerance = (257 if dtype == "uint16" else 1) * (10 if suffix in (".jpg", ".webp", ".avif", ".heic") else 1.5)
    for raster, profile in zip(found, (None, rgb_profile(space)), strict=True):
        assert raster.metadata.profile == profile
        assert np.abs(raster.values - stored).mean() < tolerance
    if suffix in (".png", ".tif"):
        assert np.abs(found[1].values - stored).max() <= 2 * tolerance


def test_a_profile_without_a_way_back_is_said(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "x.png", icc_profile=scanner_profile())
    found = load_raster(tmp_path / "x.png", 3)
    assert np.abs(found.values.astype(int) - littlecms(Image.fromarray(colours()), scanner_profile())).max() <= 4
    result = translate_folder(make_translator(), tmp_path / "x.png", tmp_path / "out", keep_profile=True)
    why = "results cannot be converted to it, and are sRGB"
    assert result.notes == (f"The colour profile of 1 image is not kept: {why}.",)
    assert load_raster(tmp_path / "out" / "x.png", 3).metadata.profile is None


P3 = rgb_profile("display-p3")
UNUSABLE = {
    "cut": P3[:300],
    "junk": b"x" * 500,
    "flipped": bytes(byte ^ (255 if 140 < at < 200 else 0) for at, byte in enumerate(P3)),
    "of grey": grey_profile(1.8),
    "of inks": cmyk_profile(),
    "without curves": _profile("empty", b"mntr", b"RGB ", b"XYZ ", {}),
}


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_profile_that_is_damaged_or_of_other_colours_is_said_and_goes(tmp_path, name, suffix, tile):
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(colours()).save(tmp_path / f"x{suffix}", icc_profile=UNUSABLE[name], **options)
    with Image.open(tmp_path / f"x{suffix}") as stored:
        np.testing.assert_array_equal(load_raster(tmp_path / f"x{suffix}", 3).values, np.asarray(stored))
    for keep_profile in (False, True):
        result = translate_folder(
            make_translator(), tmp_path / f"x{suffix}", tmp_path / "out", tile=tile, keep_profile=keep_profile
        )
        assert [note for note in result.notes if "profile" in note] == [
            "The colour profile of 1 image is not used: it is damaged, or not for such values. The colours are taken "
            "for sRGB."
        ]
        assert load_raster(tmp_path / "out" / f"x{suffix}", 3).metadata.profile is None


def test_srgb_by_any_name_stays_and_is_not_said(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "x.png", icc_profile=srgb_profile())
    Image.fromarray(colours()[..., 0]).save(tmp_path / "grey.png", icc_profile=srgb_profile())
    for name in ("x.png", "grey.png"):
        result = translate_folder(make_translator(), tmp_path / name, tmp_path / "out")
        assert result.notes == ()
    assert load_raster(tmp_path / "out" / "x.png", 3).metadata.profile == srgb_profile()


# ---- colour spaces by name

GAMMA = b"gAMA"
LINEAR, MAC, USUAL = (struct.pack(">I", value) for value in (100000, 55556, 45455))
PLACES = {
    "srgb": (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    "display-p3": (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
CHRM = {
    name: (b"cHRM", struct.pack(">8I", *(round(place * 100000) for place in all_of))) for name, all_of in PLACES.items()
}
NAMED = {
    "usual": ([(GAMMA, USUAL), CHRM["srgb"]], lambda x: x),
    "linear": ([(GAMMA, LINEAR), CHRM["srgb"]], encode_srgb),
    "old Macs": ([(GAMMA, MAC)], lambda x: encode_srgb(x**1.8)),
    "sRGB overrules": ([(GAMMA, LINEAR), (b"sRGB", b"\0")], lambda x: x),
    "P3 by its places": ([(GAMMA, USUAL), CHRM["display-p3"]], lambda x: exact_srgb(x, "display-p3")),
    "P3 by its code": ([(b"cICP", bytes([12, 13, 0, 1]))], lambda x: exact_srgb(x, "display-p3")),
    "a code overrules": ([(b"cICP", bytes([1, 13, 0, 1])), (GAMMA, LINEAR)], lambda x: x),
    "nonsense": ([(GAMMA, bytes(4)), (b"cHRM", bytes(32))], lambda x: x),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_that_a_png_names_without_a_profile(tmp_path, name, bits):
    chunks, expected = NAMED[name]
    stored = colours().astype(np.uint16) * 257 if bits == 16 else colours()
    rows = [row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in stored]
    (tmp_path / "x.png").write_bytes(png(32, rows, bits, 2, *chunks))
    found = load_raster(tmp_path / "x.png", 3)
    assert found.metadata.is_srgb == (name in ("linear", "old Macs") or name.startswith("P3"))
    assert np.abs(found.values / (2**bits - 1) - expected(colours() / 255)).max() * 255 < 1
    # Converted back, it gets a profile.
    translate_folder(
        make_translator(dtype=f"uint{bits}", high=2.0**bits - 1),
        tmp_path / "x.png",
        tmp_path / "out",
        keep_profile=True,
    )
    again = load_raster(tmp_path / "out" / "x.png", 3)
    assert (again.metadata.profile is not None) == found.metadata.is_srgb
    assert np.abs(again.values / (2**bits - 1) - found.values / (2**bits - 1)).mean() * 255 < 1


def test_linear_grey_of_a_png(tmp_path):
    ramp = np.arange(256, dtype=np.uint8)
    (tmp_path / "x.png").write_bytes(png(256, [ramp.tobytes()], 8, 0, (GAMMA, LINEAR)))
    assert np.abs(load_raster(tmp_path / "x.png", 1).values[0, :, 0] / 255 - encode_srgb(ramp / 255)).max() * 255 < 0.51


@pytest.mark.parametrize("index", ["R03", "R98"])
def test_adobe_rgb_of_cameras_is_named_by_their_exif_data(tmp_path, index):
    exif = Image.Exif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ColorSpace] = 65535
    details[ExifTags.IFD.Interop] = {1: index}
    Image.fromarray(colours()).save(tmp_path / "x.jpg", quality=100, subsampling=0, exif=exif)
    with Image.open(tmp_path / "x.jpg") as stored:
        values = np.asarray(stored) / 255
    found = load_raster(tmp_path / "x.jpg", 3)
    expected = exact_srgb(values, "adobe-rgb") if index == "R03" else values
    assert np.abs(found.values / 255 - expected).max() * 255 < 1
    # The result is sRGB, and says so.
    translate_folder(make_translator(), tmp_path / "x.jpg", tmp_path / "out")
    again = load_raster(tmp_path / "out" / "x.jpg", 3)
    assert not again.metadata.is_srgb
    assert np.abs(again.values.astype(int) - found.values).mean() < 2
    with Image.open(tmp_path / "out" / "x.jpg") as picture:
        assert picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] == 1


def test_display_p3_of_a_heic_without_a_profile(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    picture = heif.from_pillow(Image.fromarray(colours()))
    options = {"save_nclx_profile": True, "color_primaries": 12, "transfer_characteristics": 13}
    picture.save(tmp_path / "x.heic", quality=100, chroma=444, **options)
    stored = np.asarray(heif.open_heif(tmp_path / "x.heic").to_pillow()) / 255
    found = load_raster(tmp_path / "x.heic", 3)
    assert np.abs(found.values / 255 - exact_srgb(stored, "display-p3")).max() * 255 < 1


@pytest.mark.skipif(not features.check("avif"), reason="needs AVIF")
def test_display_p3_of_an_avif_without_a_profile(tmp_path):
    frames = [Image.fromarray(colours(seed)) for seed in (0, 1)]
    for name, more in (("still", {}), ("moving", {"save_all": True, "append_images": frames[1:], "duration": 40})):
        path = tmp_path / f"{name}.avif"
        frames[0].save(path, quality=100, **more)
        with Image.open(path) as picture:
            stored = np.asarray(picture.convert("RGB")) / 255
        content = path.read_bytes()
        assert content.count(b"colrnclx")
        at = content.index(b"colrnclx") + 8
        path.write_bytes(content[:at] + struct.pack(">HH", 12, 13) + content[at + 4 :])
        found = load_raster(path, 3)
        assert np.abs(found.values / 255 - exact_srgb(stored, "display-p3")).max() * 255 < 1
    made = translate_sequence(make_translator(), tmp_path / "moving.avif", tmp_path / "y.png")
    assert any("The colours of 2 frames were converted" in note for note in made.notes)
    with Image.open(tmp_path / "y.png") as picture:
        assert np.abs(np.asarray(picture) / 255 - exact_srgb(stored, "display-p3")).max() * 255 < 1.5
