"""Medical files through the commands: train on slices, translate volumes and series into their kind."""

import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from test_dicom import make_image, save
from test_not_finite import Overflows, make_info

from conftest import TINY
from cyclegan import Translator, evaluate, inspect_folders, train, translate_folder
from cyclegan.cli import main
from cyclegan.config import DataConfig, read_config_file
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.splits import split_held_out
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.images.file_list import list_images
from cyclegan.images.filetypes import dicom
from cyclegan.images.filetypes.nifti import open_volume
from cyclegan.images.formats import ImageFormat
from cyclegan.images.raster import Raster
from cyclegan.images.zip_folder import ZipFolder
from cyclegan.sequences.dicom_files import read_dicom, write_dicom
from cyclegan.sequences.formats import SequenceTarget
from cyclegan.storage.model import read_info
from cyclegan.translate.files import translate_files
from cyclegan.translate.plan import TranslationPlan
from cyclegan.translate.sequence import translate_sequence
from medical_files import AFFINE, SHAPE, hounsfield, write_series, write_volume

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on axial slices. A: int16 of three volumes; B: float32 of two."""
    root = tmp_path_factory.mktemp("medical")
    for seed in range(3):
        write_volume(root / "a" / f"{seed}.nii.gz", hounsfield(seed))
    for seed in range(2):
        write_volume(root / "b" / f"{seed}.nii", ((hounsfield(seed + 5) + 1000) / 2500).astype(np.float32))
    return train(
        root / "a",
        root / "b",
        out=root / "run",
        quiet=True,
        preset="paper",
        channels_a=1,
        channels_b=1,
        range_a=(-1000, 1000),
        range_b=(0, 1),
        **{**TINY, "steps": 2},
    )


@pytest.fixture(scope="module")
def translator(run):
    return Translator.load(run, device="cpu")


def test_training_takes_the_slices_of_volumes_without_air(tmp_path, capsys):
    write_volume(tmp_path / "a" / "1.nii.gz", hounsfield(1))
    write_volume(tmp_path / "b" / "1.nii.gz", hounsfield(2))
    ranges = ["--range-a", "-1000", "1000", "--range-b", "-1000", "1000"]
    tiny = shlex.split(
        "--steps 1 --crop-size 16 --load-size 18 --width 4 --blocks 1 --discriminator-width 4 --device cpu "
        "--discriminator-layers 1 --num-samples 0 --num-validation 0 --no-tensorboard --axis coronal "
        "--channels-a 1 --channels-b 1"
    )
    main(["train", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "run"), *tiny, *ranges])
    said = " ".join(capsys.readouterr().err.split())
    assert "A: 20 images to train on" in said  # 24 coronal slices, 2 of air at each end
    assert "4 slices of a single value, such as air, are passed over" in said
    assert read_config_file(tmp_path / "run" / "config.toml")["data"]["axis"] == "coronal"
    assert read_info(tmp_path / "run" / "model").a.axis == "coronal"


def test_the_range_of_a_volume_leaves_out_nan(tmp_path):
    values = np.random.default_rng(0).random((20, 20, 8)).astype(np.float32)
    values[:3] = np.nan
    for name in "ab":
        write_volume(tmp_path / name / "1.nii.gz", values + ord(name) - ord("a"))
    found = train(
        tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, channels_a=1, channels_b=1, **TINY, steps=1
    )
    info = read_info(found / "model")
    assert 0 <= info.a.low < info.a.high <= 1
    assert 1 <= info.b.low < info.b.high <= 2


def test_a_model_is_trained_and_scored_on_dicom_files_without_a_suffix(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / name / "series", count=6 + (name == "b"))
        write_series(tmp_path / f"test_{name}", count=4 + (name == "b"))
    found = train(
        tmp_path / "a",
        tmp_path / "b" / "series",
        out=tmp_path / "run",
        quiet=True,
        channels_a=1,
        channels_b=1,
        **TINY,
        steps=1,
    )
    info = read_info(found / "model")
    assert (info.a.dtype, info.a.low, info.b.low) == ("int16", -1000, -1000)
    scores = evaluate(
        found, tmp_path / "test_a", tmp_path / "test_b", out=tmp_path / "s", quiet=True, num_bootstrap=100
    )
    assert scores is not None


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nii", "v.img"])
def test_a_volume_becomes_a_volume_in_the_same_place(tmp_path, translator, name):
    source, target = tmp_path / name, tmp_path / "out" / name
    nibabel.save((nibabel.Nifti1Pair if name == "v.img" else nibabel.Nifti1Image)(hounsfield(4), AFFINE), source)
    result = translate_folder(translator, source, tmp_path / "out")
    assert [path.name for _, path in result.written] == [name]
    made = nibabel.load(target)
    assert made.shape == SHAPE
    assert made.get_data_dtype() == np.float32
    assert np.array_equal(made.affine, AFFINE)
    volume = open_volume(source)
    for index in (0, 9, 21):  # each slice is what the translator makes of it
        expected = translator(volume.read_slice("axial", index))
        assert np.allclose(open_volume(target).read_slice("axial", index), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{"batch_size": 5}, {"stabilise": True}, {"short_side": 16}])
def test_slices_are_translated_as_frames_are(tmp_path, translator, options):
    source = write_volume(tmp_path / "v.nii.gz", hounsfield(4))
    translate_sequence(translator, source, tmp_path / "plain.nii.gz")
    translate_sequence(translator, source, tmp_path / "made.nii.gz", **options)
    plain, made = (np.asarray(nibabel.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("plain", "made"))
    assert made.shape == plain.shape
    assert np.allclose(made, plain, atol=1e-5) == ("batch_size" in options)


def test_another_axis_gives_the_same_place_and_other_values(tmp_path, run):
    source = write_volume(tmp_path / "v.nii.gz", hounsfield(4))
    main(["translate", str(run), str(source), "--out", str(tmp_path / "c.nii.gz"), "--axis", "coronal"])
    made, translator = open_volume(tmp_path / "c.nii.gz"), Translator.load(run)
    assert np.array_equal(made.image.affine, AFFINE)
    expected = translator(open_volume(source).read_slice("coronal", 7))
    assert np.allclose(made.read_slice("coronal", 7), expected, atol=1e-5)


def test_a_series_of_volumes_stays_one(tmp_path, translator):
    values = np.stack([hounsfield(1), hounsfield(2)], -1)
    source = write_volume(tmp_path / "v.nii.gz", values)
    translate_sequence(translator, source, tmp_path / "out.nii.gz")
    made = nibabel.load(tmp_path / "out.nii.gz")
    assert made.shape == (*SHAPE, 2)
    assert made.header.get_xyzt_units() == ("mm", "sec")
    single = write_volume(tmp_path / "one.nii.gz", hounsfield(2))
    translate_sequence(translator, single, tmp_path / "one_out.nii.gz")
    alone = np.asarray(nibabel.load(tmp_path / "one_out.nii.gz").dataobj)
    assert np.allclose(np.asarray(made.dataobj)[..., 1], alone, atol=1e-6)


def test_holes_of_a_volume_are_holes_again(tmp_path, run):
    back = Translator.load(run, direction="b2a")
    values = np.random.default_rng(0).random((20, 20, 4)).astype(np.float32)
    values[:4, :4] = np.nan
    translate_sequence(back, write_volume(tmp_path / "v.nii", values), tmp_path / "out.nii")
    assert (np.asarray(nibabel.load(tmp_path / "out.nii").dataobj)[:4, :4] == 0).all()  # int16 has no NaN


def test_a_series_becomes_a_series(tmp_path, run, capsys):
    source, out = write_series(tmp_path / "ct"), tmp_path / "derived"
    main(["translate", str(run), str(source), "--out", str(out), "--batch-size", "2"])
    assert f"5 frames translated into {out}" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in source.iterdir())
    translator, made = Translator.load(run), [pydicom.dcmread(path) for path in sorted(out.iterdir())]
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({image[keyword].value for image in made}) == 1
    assert len({image.SOPInstanceUID for image in made}) == 5
    for path in source.iterdir():
        before, after = pydicom.dcmread(path), pydicom.dcmread(out / path.name)
        assert after.ImagePositionPatient == before.ImagePositionPatient
        assert after.SeriesInstanceUID != before.SeriesInstanceUID
        assert "Doe" not in str(after)
        assert list(after.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert after.DerivationDescription.startswith("Translated a2b by cyclegan")
        assert "not for diagnosis" in after.DerivationDescription
        expected = translator(before.pixel_array[..., None].astype(np.int16))[..., 0]
        values = after.pixel_array * float(after.RescaleSlope) + float(after.RescaleIntercept)
        assert np.abs(values - expected).max() < 1e-4


def test_existing_series_and_volumes_are_skipped(tmp_path, translator):
    source, out = write_series(tmp_path / "in" / "ct", count=3), tmp_path / "out"
    save(source / "screen", make_image(np.zeros((8, 8), np.uint8), SeriesInstanceUID="1.7"))  # never has a result
    volume = write_volume(tmp_path / "v.nii", hounsfield(1))

    def translated(path, target):
        return translate_folder(translator, path, target, skip_existing=True)

    for path, target in ((source, out), (volume, tmp_path / "made.nii")):
        assert len(translated(path, target).written) == 1
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        result = translated(path, target)
        assert (list(result.existing), len(result.written)) == ([(path, target)], 0)
        assert all(file.read_bytes() == content for file, content in before.items())
    first, *others = sorted(out.iterdir())
    first.unlink()
    assert len(translated(source, out).written) == 1
    assert len({pydicom.dcmread(path).SeriesInstanceUID for path in (first, *others)}) == 1


def test_padding_of_a_scanner_is_padding_again(tmp_path, translator):
    stored = np.ascontiguousarray(hounsfield(1)[:, :, 8].T)
    stored[:4, :6] = -2000
    save(tmp_path / "x.dcm", make_image(stored, RescaleSlope=1, RescaleIntercept=0, PixelPaddingValue=-2000))
    translate_folder(translator, tmp_path / "x.dcm", tmp_path / "out")
    made = pydicom.dcmread(tmp_path / "out" / "x.dcm")
    assert np.array_equal(made.pixel_array == made.PixelPaddingValue, stored == -2000)


def test_what_is_known_of_the_patient_is_kept_on_request(tmp_path, run):
    source = write_series(tmp_path / "ct", count=2)
    main(["translate", str(run), str(source), "--out", str(tmp_path / "out"), "--patient-data", "keep"])
    made = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert (str(made.PatientName), made.StudyInstanceUID) == ("Doe^Jane", "1.2.3")


def test_one_bad_file_of_a_series_is_left_out(tmp_path, run, capsys):
    source = write_series(tmp_path / "ct")
    bad = sorted(source.iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:-300])
    with pytest.raises(SystemExit) as stop:
        main(["translate", str(run), str(source), "--out", str(tmp_path / "out")])
    assert stop.value.code == 1
    assert f"Left out: {bad}: The number of bytes of pixel data is less than expected" in " ".join(
        capsys.readouterr().err.split()
    )
    assert len(list((tmp_path / "out").iterdir())) == 4


def overflowing():
    """A translator of Hounsfield units that changes none, and gives NaN for 1000."""
    ct = ImageFormat(channels=1, dtype="int16", low=-1000, high=1000)
    info = make_info().model_copy(update={"a": ct, "b": ct})
    return Translator(Overflows(), info, "a2b", name="runs/odd")


def test_a_slice_whose_translation_is_not_finite_is_left_out_of_its_series_alone(tmp_path):
    source = write_series(tmp_path / "ct" / "1", count=3).parent
    write_series(source / "2", count=3, SeriesInstanceUID="1.2.3.99")
    frames = hounsfield(3)[:, :, 4:8].transpose(2, 1, 0).clip(-1000, 900).copy()
    save(source / "several", make_image(frames, NumberOfFrames=4, SeriesInstanceUID="1.3", RescaleSlope=1))
    frames[2, 8, 8] = 1000
    save(source / "many", make_image(frames, NumberOfFrames=4, SeriesInstanceUID="1.4", RescaleSlope=1))
    bad = pydicom.dcmread(source / "1" / "IM00001")
    bad.PixelData = np.where(bad.pixel_array == bad.pixel_array.max(), 1000, bad.pixel_array).astype(np.int16).tobytes()
    bad.save_as(source / "1" / "IM00001")
    result = translate_folder(overflowing(), source, tmp_path / "out", batch_size=2)
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*[0-9l]"))
    assert [n for n in names if "/" in n] == ["1/IM00000", "1/IM00002", "2/IM00000", "2/IM00001", "2/IM00002"]
    assert (tmp_path / "out" / "several").exists()
    assert not (tmp_path / "out" / "many").exists()
    first, second = sorted(result.damage)
    assert first.startswith(f"Left out: {source / '1' / 'IM00001'}: runs/odd gives NaN or infinity for this image")
    assert second.startswith(f"Left out: {source / 'many'}: frame 3 of its 4: runs/odd gives NaN or infinity")
    shutil.rmtree(source / "2")
    for path in (source / "1" / "IM00000", source / "1" / "IM00002", source / "several"):
        path.unlink()
    with pytest.raises(InputError, match="runs/odd gives NaN or infinity"):
        translate_folder(overflowing(), source, tmp_path / "none")


def test_a_volume_with_a_slice_whose_translation_is_not_finite_is_left_out_and_others_go_on(tmp_path):
    values = hounsfield(1).clip(-1000, 900)
    write_volume(tmp_path / "in" / "c.nii", values)
    values[9, 9, 7] = 1000
    bad = write_volume(tmp_path / "in" / "b.nii", values)
    result = translate_folder(overflowing(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.nii"]
    [(source, reason)] = result.skipped
    assert source == bad
    assert reason.startswith(f"{bad}: picture 8 of 22: runs/odd gives NaN or infinity for this image")
    with pytest.raises(InputError, match=r"b.nii: picture 8 of 22: runs/odd gives NaN"):
        translate_folder(overflowing(), bad, tmp_path / "x.nii")


def test_no_count_of_zero_images_stands_beside_volumes(tmp_path, run, capsys):
    write_volume(tmp_path / "in" / "a.nii", hounsfield(1))
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out == f"22 frames translated into {tmp_path / 'out' / 'a.nii'}\n"


def test_what_is_no_slice_of_the_kind_is_left_out_of_a_folder(tmp_path, translator):
    source = write_series(tmp_path / "ct", count=2)
    save(source / "screen", make_image(np.zeros((8, 8), np.uint8), SeriesInstanceUID="1.7"))
    dose = make_image(
        hounsfield(1)[:, :, 5].T.copy(), SeriesInstanceUID="1.8", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"
    )
    save(source / "dose", dose)
    result = translate_folder(translator, source, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["IM00000", "IM00001"]
    said = " ".join(result.damage)
    assert "screen: it is an 8-bit picture, and the model takes 1 x int16" in said
    assert "dose: it is of the kind RT Dose Storage" in said
    with pytest.raises(InputError, match="screen is an 8-bit picture, and the model takes"):
        translate_sequence(translator, source / "screen", tmp_path / "x.dcm")


def test_of_many_files_that_are_left_out_ten_are_named(tmp_path, run, capsys):
    source = write_series(tmp_path / "ct", count=2)
    for index in range(13):
        save(source / f"screen{index}", make_image(np.zeros((8, 8), np.uint8), SeriesInstanceUID="1.7"))
    frames = np.zeros((2, 8, 8), np.uint8)
    save(source / "frames", make_image(frames, NumberOfFrames=2, SeriesInstanceUID="1.0"))
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(source), "--out", str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Left out: ") == 11
    assert f"Left out: 4 more, 14 files of {source} in all." in said
    result = translate_folder(run, source, tmp_path / "again")
    assert len(result.damage) == 14
    assert all(message.count(str(source)) == 1 for message in result.damage)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("invalid literal for int() with base 10: 'x'", "its header has text where a number belongs"),
        (
            "Unable to decode as exceptions were raised by all available plugins: a: b",
            "its compressed pixels are damaged",
        ),
    ],
)
def test_what_a_library_says_becomes_plain_words(tmp_path, translator, monkeypatch, error, said):
    source = write_series(tmp_path / "ct", count=2)
    decode, bad = dicom.read, sorted(source.iterdir())[0]

    def read(path):
        if path == bad:
            raise ValueError(error)
        return decode(path)

    monkeypatch.setitem(FILE_FORMATS, "dicom", replace(FILE_FORMATS["dicom"], read=read))
    result = translate_folder(translator, source, tmp_path / "out")
    assert [message.startswith(f"Left out: {bad}: {said}") for message in result.damage] == [True]


def test_series_of_one_folder_stay_apart(tmp_path, translator):
    write_series(tmp_path / "ct" / "1", count=3)
    write_series(tmp_path / "ct" / "2", count=3, SeriesInstanceUID="1.2.3.99", PatientID="99", StudyInstanceUID="1.99")
    result = translate_folder(translator, tmp_path / "ct", tmp_path / "out")
    assert "holds 2 series" in " ".join(result.notes)
    made = {path.relative_to(tmp_path / "out"): pydicom.dcmread(path) for path in (tmp_path / "out").rglob("IM*")}
    assert len(made) == 6
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        assert len({image[keyword].value for image in made.values()}) == 2


@pytest.mark.parametrize(("bright", "window"), [(1, (40, 400)), (4, (0, 2000))])
def test_all_images_of_a_series_have_one_window(tmp_path, bright, window):
    # A viewer shows one after the other; `bright` of the five slices alone would not stay in the window of the source.
    source, image_format = write_series(tmp_path / "ct"), ImageFormat(channels=1, dtype="int16", low=-1000, high=1000)
    with read_dicom(source, image_format) as sequence:
        frames = [
            replace(frame, raster=Raster(np.full_like(frame.raster.values, 900 if index < bright else 100)))
            for index, frame in enumerate(sequence.frames)
        ]
        for frame in frames:
            frame.raster.values[0, 0] = -1000
        write_dicom(tmp_path / "out", iter(frames), SequenceTarget(tmp_path / "out", image_format, sequence))
    made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert [(image.WindowCenter, image.WindowWidth) for image in made] == [window] * 5
    assert sorted(int(image.pixel_array[9, 9]) for image in made) == [100] * (5 - bright) + [900] * bright


def test_a_series_gets_no_name_of_a_file(tmp_path, translator):
    series = write_series(tmp_path / "ct", count=2)
    for name in ("mr.nii.gz", "mr.dcm", "mr.gif"):
        with pytest.raises(
            InputError, match=f"{name} is the name of a file, and .*ct is a DICOM series, .*; name a folder"
        ):
            translate_folder(translator, series, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_frames_of_a_file_become_frames(tmp_path, translator):
    frames = np.ascontiguousarray(hounsfield(1)[:, :, 4:8].T)
    image = make_image(frames, NumberOfFrames=4, RescaleSlope=1, RescaleIntercept=0)
    save(tmp_path / "cine.dcm", image)
    translate_folder(translator, tmp_path / "cine.dcm", tmp_path / "out")
    made = pydicom.dcmread(tmp_path / "out" / "cine.dcm")
    assert made.NumberOfFrames == 4
    assert made.pixel_array.shape == frames.shape


def test_other_files_beside_a_series_are_translated_one_by_one(tmp_path, translator):
    write_series(tmp_path / "in", count=2)
    write_volume(tmp_path / "in" / "v.nii.gz", hounsfield(1))
    result = translate_folder(translator, tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for _, path in result.written) == ["IM00000", "IM00001", "v.nii.gz"]
    uids = {pydicom.dcmread(tmp_path / "out" / f"IM0000{index}").SeriesInstanceUID for index in (0, 1)}
    assert len(uids) == 1


def test_one_slice_becomes_a_picture(tmp_path, run):
    source, series = write_volume(tmp_path / "v.nii.gz", hounsfield(1)), write_series(tmp_path / "ct", count=1)
    for index, path in enumerate((source / "z9", next(series.iterdir()))):
        main(["translate", str(run), str(path), "--out", str(tmp_path / f"{index}.tif")])
        with Image.open(tmp_path / f"{index}.tif") as picture:
            assert (picture.mode, picture.size) == ("F", (20, 24))


def test_a_picture_of_a_slice_says_that_its_place_is_lost(tmp_path, translator):
    volume, series = write_volume(tmp_path / "v.nii.gz", hounsfield(1)), write_series(tmp_path / "ct", count=1)
    for source in (volume / "z9", next(series.iterdir())):
        notes = []
        files = TranslationPlan.of([(source, tmp_path / "x.tif")])
        translate_files(translator, files, on_note=notes.append)
        assert notes == ["The place in the patient of 1 image is not kept: .tif files have no place for it."]
    made = translate_sequence(translator, volume, tmp_path / "all.tif")
    assert f"The place in the patient of {SHAPE[2]} frames is not kept" in " ".join(made.notes)
    for source, target in ((volume, "made.nii.gz"), (series, "made")):
        assert "place in the patient" not in " ".join(translate_sequence(translator, source, tmp_path / target).notes)


def test_what_cannot_be_is_one_sentence(tmp_path, run, translator):
    series, volume = write_series(tmp_path / "ct", count=2), write_volume(tmp_path / "v.nii.gz", hounsfield(1))
    one = next(series.iterdir())
    with pytest.raises(InputError, match="lies in .*ct, which it is made from; choose a place outside"):
        translate_sequence(translator, series, series / "out")
    with pytest.raises(InputError, match="does not say where its pictures lie in space"):
        translate_sequence(translator, one, tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="is a DICOM file, and .*v.nii.gz is none"):
        translate_sequence(translator, volume, tmp_path / "x.dcm")
    with pytest.raises(InputError, match=r"patient_data is 'some'; expected none or keep\."):
        translate_folder(translator, volume, tmp_path / "out", patient_data="some")
    coronal = Translator.load(run).with_reading(axis="coronal")
    with pytest.raises(InputError, match="are axial, and the model takes coronal ones; .* pass --axis axial"):
        translate_sequence(coronal, series, tmp_path / "out")
    wrong = write_volume(tmp_path / "f.nii.gz", np.zeros(SHAPE, np.float64))
    with pytest.raises(InputError, match=r"f.nii.gz/z00 is 1 x float64, and the model takes 1 x int16"):
        translate_sequence(translator, wrong, tmp_path / "x.nii.gz")


def test_inspect_reads_volumes(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write_volume(tmp_path / name / "1.nii.gz", hounsfield(seed))
    found = inspect_folders(tmp_path / "a", tmp_path / "b")
    assert len(found.folders["A"].files) == SHAPE[2]


def damaged_frame(path, **attributes):
    """A file of four frames, JPEG-LS, of which the third is damaged."""
    import imagecodecs
    from pydicom.encaps import encapsulate

    frames = np.ascontiguousarray(hounsfield(1)[:, :, 4:8].T)
    packed = [imagecodecs.jpegls_encode(frame.astype(np.uint16)) for frame in frames + 2000]
    packed[2] = packed[2][:40]
    image = make_image(frames, NumberOfFrames=4, RescaleSlope=1, RescaleIntercept=-2000, BitsStored=15, **attributes)
    image.PixelRepresentation = 0
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    image.PixelData = encapsulate(packed)
    image["PixelData"].is_undefined_length = True
    return save(path, image)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_file_with_a_damaged_frame_is_left_out_and_the_others_are_written(tmp_path, translator, batch_size):
    source = write_series(tmp_path / "ct", count=2)
    # Its number puts it between the others.
    bad = damaged_frame(source / "cine", InstanceNumber=1, ImagePositionPatient=[0, 0, 1])
    result = translate_folder(translator, source, tmp_path / "out", batch_size=batch_size)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["IM00000", "IM00001"]
    (message,) = result.damage
    assert message.startswith(f"Left out: {bad}: frame 3 of its 4: ")
    for name in ("IM00000", "IM00001"):
        before, after = pydicom.dcmread(source / name), pydicom.dcmread(tmp_path / "out" / name)
        assert after.ImagePositionPatient == before.ImagePositionPatient
        expected = translator(before.pixel_array[..., None].astype(np.int16))[..., 0]
        values = after.pixel_array * float(after.RescaleSlope) + float(after.RescaleIntercept)
        assert np.abs(values - expected).max() < 1e-4
    assert translate_sequence(translator, source, tmp_path / "more", batch_size=batch_size).num_frames == 2
    again = translate_folder(translator, source, tmp_path / "out", skip_existing=True)
    assert (len(again.existing), len(again.written)) == (1, 0)


def test_one_damaged_volume_or_file_of_frames_does_not_end_the_others(tmp_path, translator):
    write_volume(tmp_path / "in" / "1.nii.gz", hounsfield(1))
    cut = write_volume(tmp_path / "in" / "2.nii.gz", hounsfield(2))
    cut.write_bytes(cut.read_bytes()[:-3000])
    damaged_frame(tmp_path / "in" / "3.dcm")
    write_volume(tmp_path / "in" / "4.nii.gz", hounsfield(4))
    result = translate_folder(translator, tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.nii.gz", "4.nii.gz"]
    reasons = {path.name: reason for path, reason in result.skipped}
    assert reasons.keys() == {"2.nii.gz", "3.dcm"}
    assert reasons["3.dcm"].startswith("frame 3 of its 4: ")


def test_series_mixed_in_one_folder_are_translated_each_in_its_order(tmp_path, run):
    """Files of two series take turns by name; both have one frame of reference."""
    for number in (1, 2):
        write_series(tmp_path / f"{number}", count=3, SeriesInstanceUID=f"1.2.{number}", SeriesNumber=number)
        for path in list((tmp_path / f"{number}").iterdir()):
            (tmp_path / "study").mkdir(exist_ok=True)
            path.rename(tmp_path / "study" / f"{path.name}_{number}")
    translator = Translator.load(run, device="cpu")
    options = {"stabilise": True, "memory_frames": 3.0}
    result = translate_folder(translator, tmp_path / "study", tmp_path / "out", **options)
    assert "holds 2 series" in " ".join(result.notes)
    made = {path.name: pydicom.dcmread(path) for path in (tmp_path / "out").iterdir()}
    assert len({image.FrameOfReferenceUID for image in made.values()}) == 1
    assert len({image.StudyInstanceUID for image in made.values()}) == 1
    of_series = [{image.SeriesInstanceUID for name, image in made.items() if name.endswith(f"_{n}")} for n in (1, 2)]
    assert [len(uids) for uids in of_series] == [1, 1]
    assert not of_series[0] & of_series[1]
    assert {image.SeriesNumber for image in made.values()} == {1001, 1002}
    # Both series hold the same slices, and stabilising begins anew with the second.
    for name in ("IM00000", "IM00001", "IM00002"):
        assert np.array_equal(made[f"{name}_1"].pixel_array, made[f"{name}_2"].pixel_array)


def test_stabilising_begins_anew_with_the_next_volume_of_a_file(tmp_path, translator):
    both = write_volume(tmp_path / "v.nii.gz", np.stack([hounsfield(1), hounsfield(2)], -1))
    alone = write_volume(tmp_path / "one.nii.gz", hounsfield(2))
    for source in (both, alone):
        translate_sequence(translator, source, tmp_path / f"made_{source.name}", stabilise=True, memory_frames=5.0)
    made, expected = (np.asarray(nibabel.load(tmp_path / f"made_{path.name}").dataobj) for path in (both, alone))
    assert np.allclose(made[..., 1], expected, atol=1e-6)


def test_slices_of_air_are_nobodys_copies(tmp_path):
    for name, seeds in (("a", (1, 2)), ("b", (3,)), ("t", (4,))):
        for seed in seeds:
            write_volume(tmp_path / name / f"{seed}.nii.gz", hounsfield(seed))
    for index in range(3):  # DICOM images of 8 bits, of one value
        save(tmp_path / "b" / f"{index}.dcm", make_image(np.full((24, 20), 7, np.uint8)))
    found = inspect_folders(tmp_path / "a", tmp_path / "b", test_a=tmp_path / "t", channels_a=1, channels_b=1)
    air = {f"{seed}.nii.gz/z{index:02}" for seed in range(1, 5) for index in (0, 1, 20, 21)}
    air |= {f"{index}.dcm" for index in range(3)}
    named = {path.as_posix() for each in found.copies for copy in each.copies for path in (copy.file, copy.of)}
    assert not named & air
    assert {name: len(folder.air) for name, folder in found.folders.items()} == {"A": 8, "B": 7, "test A": 4}
    assert any("8 of the 44 images of A have a single value each" in advice.text for advice in found.advice)


def test_slices_of_air_are_not_scored(tmp_path, run):
    write_volume(tmp_path / "a" / "1.nii.gz", hounsfield(7))
    truth = ((hounsfield(7) + 1000) / 2500).astype(np.float32)
    truth[:, :, 4] = 0  # a slice without content, of an image with some
    write_volume(tmp_path / "b" / "1.nii.gz", truth)
    options = {"quiet": True, "num_bootstrap": 100}
    scores = evaluate(run, tmp_path / "a", tmp_path / "b", out=tmp_path / "s", **options)
    assert [len(scores.directions[each].images) for each in ("a2b", "b2a")] == [18, 17]
    notes = " ".join(scores.directions["a2b"].notes)
    assert "images of A that are left out, because they have a single value, as slices of air: 4." in notes
    assert "images of B that are left out, because they have a single value, as slices of air: 5." in notes
    paired = evaluate(run, tmp_path / "a", tmp_path / "b", out=tmp_path / "p", paired=True, **options)
    assert len(paired.directions["a2b"].images) == 18  # what is made of the slice without truth counts
    assert "4 pairs are left out, because both are slices of air." in " ".join(paired.directions["a2b"].notes)


def zipped(path, folder):
    """A zip of all files of a folder."""
    with ZipFile(path, "w") as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(folder).as_posix())
    return path


def test_a_volume_in_a_zip_is_unpacked_once_for_all_its_slices(tmp_path, run, monkeypatch):
    for seed in range(2):
        write_volume(tmp_path / "in" / f"{seed}.nii.gz", hounsfield(seed))
        nibabel.save(nibabel.Nifti1Pair(hounsfield(seed), AFFINE), tmp_path / "in" / f"{seed}.img")
    frames = np.ascontiguousarray(hounsfield(3)[:, :, 3:15].T)
    save(tmp_path / "in" / "cine.dcm", make_image(frames, NumberOfFrames=12, RescaleSlope=1, RescaleIntercept=0))
    path = zipped(tmp_path / "in.zip", tmp_path / "in")
    read, unpacked = ZipFolder.read, []

    def counted(folder, name, *, most=None):
        unpacked.append(name)
        return read(folder, name, most=most)

    monkeypatch.setattr(ZipFolder, "read", counted)
    scanned = scan_folder(path, 1, None, DataConfig(crop_size=16, load_size=18))
    assert len(scanned) == 4 * 18 + 12
    for image in scanned.paths:
        expected = read_raster(tmp_path / "in" / image.relative_to(path), scanned.image_format)
        assert np.array_equal(read_raster(image, scanned.image_format).values, expected.values)
    counts = Counter(name for name in unpacked if not name.endswith(".dcm"))
    assert set(counts.values()) == {1}
    assert unpacked.count("cine.dcm") <= 3  # to list it, and for its frames
    split_held_out(scanned, 2, seed=0)
    assert Counter(unpacked)["1.nii.gz"] <= 2  # compared by content

    result = translate_folder(run, path, tmp_path / "out", direction="a2b")
    translate_folder(run, tmp_path / "in", tmp_path / "expected", direction="a2b")
    assert len(result.written) == 5
    for name in ("1.nii.gz", "1.img"):
        made, expected = (nibabel.load(tmp_path / folder / name) for folder in ("out", "expected"))
        assert np.array_equal(np.asarray(made.dataobj), np.asarray(expected.dataobj))


def test_dicom_files_without_a_suffix_are_found_in_a_zip(tmp_path, run):
    write_series(tmp_path / "in" / "1", count=3)
    (tmp_path / "in" / "README").write_text("no DICOM")
    path = zipped(tmp_path / "in.zip", tmp_path / "in")
    found = list_images(path)
    assert list(found.names()) == ["1/IM00000", "1/IM00001", "1/IM00002"]
    assert found.left_out == {"without suffix": 1}
    result = translate_folder(run, path, tmp_path / "out", direction="a2b")
    assert not result.skipped
    made = [pydicom.dcmread(tmp_path / "out" / name) for name in found.names()]
    assert len({each.SeriesInstanceUID for each in made}) == 1
    for name, each in zip(found.names(), made, strict=True):
        assert each.ImagePositionPatient == pydicom.dcmread(tmp_path / "in" / name).ImagePositionPatient


def test_unpacked_volumes_are_removed_when_others_take_their_place_and_at_the_end(tmp_path):
    for seed in range(4):
        write_volume(tmp_path / "in" / f"{seed}.nii.gz", hounsfield(seed))
    path = zipped(tmp_path / "in.zip", tmp_path / "in")
    (tmp_path / "tmp").mkdir()
    script = f"""
import os, tempfile
from pathlib import Path
tempfile.tempdir = {str(tmp_path / "tmp")!r}
from cyclegan.images import pages
from cyclegan.images.codecs import probe_image
pages._KEPT_FILES = 2
for seed in range(4):
    for index in range(3):
        probe_image(Path({str(path)!r}) / f"{{seed}}.nii.gz" / f"z0{{index}}")
    assert len(os.listdir(tempfile.tempdir)) <= 2
assert os.listdir(tempfile.tempdir)
if os.name == "posix" and os.fork() == 0:  # a child removes nothing of its parent
    probe_image(Path({str(path)!r}) / "3.nii.gz" / "z00")
    pages._remove_copies()
    os._exit(0)
os.name == "posix" and os.wait()
assert len(os.listdir(tempfile.tempdir)) == 2
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_files_that_show_text_are_named_wherever_they_are_in_a_folder(tmp_path, translator):
    source = write_series(tmp_path / "ct", count=4)
    for name in ("IM00000", "IM00001"):
        image = pydicom.dcmread(source / name)
        image.BurnedInAnnotation = "YES"
        image.save_as(source / name)
    notes = " ".join(translate_folder(translator, source, tmp_path / "out").notes)
    # IM00001 lies before IM00000.
    assert (
        f"{source / 'IM00001'} and 1 more of these files say that the pixels show text, which may name the patient"
        in notes
    )


def test_a_forged_file_is_passed_over_by_every_command(tmp_path, run, translator):
    """A header that claims 60,000 x 60,000 pixels, among good ones; nothing is decoded for it."""
    for name in ("a", "b"):
        source = write_series(tmp_path / name, count=6)
        forged = pydicom.dcmread(source / "IM00003")
        forged.Rows = forged.Columns = 60000
        forged.save_as(source / "IM00003")
    write_volume(tmp_path / "b" / "large.nii.gz", hounsfield(1, (40, 40, 22)))  # 35,200 voxels
    limits = {"channels_a": 1, "channels_b": 1, "max_pixels": 20000}
    options = {**TINY, "steps": 1, "quiet": True, "num_samples": 0, "range_b": (-1000, 1000)}
    trained = train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", **limits, **options)
    log = (trained / "log.jsonl").read_text()
    assert "60,000x60,000 pixels, more than the limit of 20,000" in log
    assert "22 slices of 40x40 pixels, more than the limit of 20,000" in log
    found = inspect_folders(tmp_path / "a", tmp_path / "b", **limits)
    reasons = {path.name: reason for path, reason in found.folders["B"].unreadable}
    assert "60,000x60,000 pixels" in reasons["IM00003"]
    assert "22 slices of 40x40 pixels" in reasons["z00"]
    result = translate_folder(translator, tmp_path / "a", tmp_path / "out", max_pixels=20000)
    assert len(list((tmp_path / "out").iterdir())) == 5
    assert "60,000x60,000 pixels, more than the limit of 20,000" in " ".join(result.damage)
    skipped = translate_folder(run, tmp_path / "b" / "large.nii.gz", tmp_path / "large", max_pixels=20000).skipped
    assert "22 slices of 40x40 pixels, more than the limit of 20,000" in skipped[0][1]
    with pytest.raises(UnreadableError, match="60,000x60,000 pixels"):
        translator(tmp_path / "a" / "IM00003")
