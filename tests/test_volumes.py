"""Volumes of NIfTI and MGH files: how slices lie, what values they have, and what is written."""

import gzip
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import probe_image, read_raster
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.file_list import list_images
from cyclegan.images.filetypes import nifti
from cyclegan.images.formats import ImageFormat
from cyclegan.images.limits import pixel_limit

nibabel = pytest.importorskip("nibabel")

# Right, anterior, superior: the value of a voxel says where it is.
SHAPE = (4, 5, 6)


def patient_values(dtype="int16"):
    x, y, z = np.indices(SHAPE)
    return (100 * x + 10 * y + z).astype(dtype)


def save(path, values, *, axes="RAS", spacing=(1.0, 2.0, 3.0), slope=None, kind=None):
    """Write values (right, anterior, superior, ...) in a file whose voxels are in another order."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-10, 20, -30)
    image = (kind or nibabel.Nifti1Image)(values, affine)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    orientation = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(image.as_reoriented(orientation), path)
    return path


def write(path, voxels, source, **options):
    nifti.write_like(path, voxels, source, name=path, **options)


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPI", "PSR", "AIL"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".img"])
def test_slices_lie_as_radiologists_see_them_whatever_the_order_of_voxels(tmp_path, axes, suffix):
    kind = {".mgz": nibabel.MGHImage, ".img": nibabel.Nifti1Pair}.get(suffix)
    volume = nifti.open_volume(save(tmp_path / f"v{suffix}", patient_values(), axes=axes, kind=kind))
    x, y, z = (size - 1 for size in SHAPE)

    axial = volume.read_slice("axial", 2)[..., 0]  # anterior at the top, the patient's right at the left
    assert axial.shape == (5, 4)
    assert axial[0, 0] == 100 * x + 10 * y + 2
    assert axial[-1, 0] == 100 * x + 2
    assert axial[0, -1] == 10 * y + 2

    coronal = volume.read_slice("coronal", 1)[..., 0]  # superior at the top, the patient's right at the left
    assert coronal.shape == (6, 4)
    assert coronal[0, 0] == 100 * x + 10 + z
    assert coronal[-1, -1] == 10

    sagittal = volume.read_slice("sagittal", 3)[..., 0]  # superior at the top, anterior at the left
    assert sagittal.shape == (6, 5)
    assert sagittal[0, 0] == 300 + 10 * y + z
    assert sagittal[-1, -1] == 300


def test_slices_of_nifti_and_of_dicom_lie_alike():
    """An axial DICOM slice has rows towards the patient's left, columns towards posterior."""
    values, affine = patient_values(), np.eye(4)
    volume = nifti.Volume(Path("x"), SHAPE, 1, 1, "int16", 1, 0, nibabel.orientations.io_orientation(affine), None)
    plane = volume.view(values[..., None, None], "axial", 0)[..., 0]
    right_to_left, front_to_back = plane[0, 1] - plane[0, 0], plane[1, 0] - plane[0, 0]
    assert (right_to_left, front_to_back) == (-100, -10)


def test_an_img_is_a_volume_only_with_its_own_kind_of_header(tmp_path):
    save(tmp_path / "v.img", patient_values(), kind=nibabel.Nifti1Pair)
    assert file_format_of(tmp_path / "v.img") is FILE_FORMATS["volume"]
    assert file_format_of(tmp_path / "v.img" / "z0") is FILE_FORMATS["volume"]
    (tmp_path / "envi.img").write_bytes(bytes(100))
    (tmp_path / "envi.hdr").write_text("ENVI")
    (tmp_path / "alone.img").write_bytes(b"EHFA_HEADER_TAG")
    for name in ("envi", "alone"):
        assert file_format_of(tmp_path / f"{name}.img") is not FILE_FORMATS["volume"]
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["alone.img", "envi.img", *(f"v.img/z{index}" for index in range(6))]


def test_slices_are_pages_of_the_file_and_listed_in_a_folder(tmp_path):
    path = save(tmp_path / "brain.nii.gz", patient_values())
    assert [page.name for page in list_images(tmp_path)] == [f"z{index}" for index in range(6)]
    assert probe_image(path / "z3")[:4] == (5, 4, "int16", 1)
    assert probe_image(path / "x0")[:4] == (6, 5, "int16", 1)
    with pytest.raises(InputError, match=r"brain.nii.gz has no slice z6; its axial slices are z0 to z5\."):
        nifti.read_slice(path, "z6")
    with pytest.raises(InputError, match="has no slice top"):
        nifti.read_slice(path, "top")
    with pytest.raises(InputError, match=r"is a volume of 4 x 5 x 6 voxels; name one of its slices, such as .*/z3\."):
        nifti.read(path)


def test_volumes_of_a_series_come_before_the_slice(tmp_path):
    values = np.stack([patient_values(), 1000 + patient_values()], -1)
    path = save(tmp_path / "scan.nii", values)
    assert nifti.list_slices(path)[5:7] == ["t0z5", "t1z0"]
    assert nifti.read_slice(path, "t1z2").min() == 1002
    with pytest.raises(InputError, match="no slice z2; its axial slices are t0z0 to t1z5"):
        nifti.read_slice(path, "z2")
    five = np.zeros((2, 2, 2, 2, 3), np.float32)
    nibabel.save(nibabel.Nifti1Image(five, np.eye(4)), tmp_path / "vectors.nii")
    with pytest.raises(InputError, match=r"holds 2 x 2 x 2 x 2 x 3 values; expected a volume of three dimensions"):
        nifti.list_slices(tmp_path / "vectors.nii")


@pytest.mark.parametrize(
    ("stored", "slope", "dtype"),
    [
        ("int16", None, "int16"),
        ("uint8", None, "uint8"),
        ("float32", None, "float32"),
        ("float64", None, "float64"),
        ("uint8", (1, -1024), "int16"),
        ("int16", (2, -1024), "int32"),
        ("int16", (0.25, 0.5), "float32"),
        ("int32", (0.25, 0.5), "float64"),
    ],
)
def test_values_are_scaled_as_the_header_says_in_a_type_that_holds_them(tmp_path, stored, slope, dtype):
    path = tmp_path / "v.nii.gz"
    save(path, patient_values(stored), slope=slope)
    volume = nifti.open_volume(path)
    plane = volume.read_slice("axial", 2)
    assert plane.dtype == volume.slice_header("axial").dtype == dtype
    factor, offset = slope or (1, 0)
    scaled = patient_values(stored)[::-1, ::-1, 2].T.astype(float) * factor + offset
    assert np.array_equal(plane[..., 0], scaled)


def test_colours_are_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    rgb = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "v.nii.gz")
    assert np.array_equal(nifti.read_slice(tmp_path / "v.nii.gz", "z1"), colours[::-1, ::-1, 1].swapaxes(0, 1))
    complex_values = np.zeros(SHAPE, np.complex64)
    nibabel.save(nibabel.Nifti1Image(complex_values, np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(InputError, match="holds values of type complex64"):
        nifti.list_slices(tmp_path / "c.nii")


def test_a_compressed_volume_is_decoded_once_for_all_its_slices_and_threads(tmp_path, monkeypatch):
    path = save(tmp_path / "v.nii.gz", patient_values())
    loads, load = [], nifti._load
    monkeypatch.setattr(nifti, "_load", lambda volume: loads.append(volume.path) or load(volume))
    threads = [threading.Thread(target=nifti.read_slice, args=(path, f"z{index}")) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [path]
    save(path, patient_values() + 1)  # another file under the same name
    assert nifti.read_slice(path, "z0").min() == 1


def test_volumes_kept_in_memory_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "_CACHE_BYTES", 3 * patient_values().nbytes)
    for index in range(5):
        nifti.read_slice(save(tmp_path / f"{index}.nii.gz", patient_values()), "z0")
    assert sum(nifti._memory(each.result()) for each in nifti._kept.values()) <= 3 * patient_values().nbytes


def test_a_header_that_claims_more_than_the_file_can_hold_is_refused_before_memory_is_taken(tmp_path):
    path = save(tmp_path / "v.nii", patient_values())
    content = bytearray(path.read_bytes())
    content[40:56] = struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="claims 54,000,000,000,000 bytes, and the file has"):
        nifti.list_slices(path)
    packed = tmp_path / "v.nii.gz"
    packed.write_bytes(gzip.compress(content))
    with pytest.raises(UnreadableError, match="claims 54,000,000,000,000 bytes"):
        nifti.list_slices(packed)


@pytest.mark.parametrize("axes", ["RAS", "LPI", "PSR"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_volume_is_written_with_the_place_of_another(tmp_path, axes, kind):
    path = save(tmp_path / "v.nii.gz", patient_values(), axes=axes, kind=kind)
    source = nifti.open_volume(path)
    voxels = np.zeros((*source.shape, 1, 1), np.float32)
    for axis in nifti.AXES:  # all axes lead to the same voxels
        for index in range(source.num_slices(axis)):
            source.view(voxels, axis, index)[...] = source.read_slice(axis, index) / 2
        write(tmp_path / "out.nii.gz", voxels, source)
        made = nibabel.load(tmp_path / "out.nii.gz")
        assert type(made) is kind
        assert np.array_equal(made.affine, source.image.affine)
        assert made.get_data_dtype() == np.float32
        assert np.array_equal(np.asarray(made.dataobj), np.asarray(source.image.dataobj) / 2)


def test_the_header_of_a_written_volume_keeps_place_and_time_and_no_text(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.int16), np.diag([2, 2, 3, 1.0]))
    header = image.header
    header.set_xyzt_units("mm", "sec")
    header.set_zooms((2, 2, 3, 1.5))
    header["descrip"], header["aux_file"], header["db_name"] = b"Jane Doe", b"doe.txt", b"doe"
    header["cal_max"], header["cal_min"] = 500, 10
    header.set_intent("t test", (3,), name="Jane Doe")
    header.set_slope_inter(2, 1)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 4)
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(image, tmp_path / "v.nii")
    source = nifti.open_volume(tmp_path / "v.nii")
    write(tmp_path / "out.nii", np.ones((4, 5, 6, 3, 1), np.uint8), source)
    made = nibabel.load(tmp_path / "out.nii")
    assert made.shape == (4, 5, 6, 3)
    assert made.header.get_xyzt_units() == ("mm", "sec")
    assert made.header.get_zooms() == (2, 2, 3, 1.5)
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (1, 4)
    assert b"Doe" not in (tmp_path / "out.nii").read_bytes()
    assert made.header["descrip"].item().startswith(b"translated by cyclegan")
    assert (made.dataobj.slope, made.dataobj.inter) == (1, 0)
    assert float(made.header["cal_max"]) == 0
    write(tmp_path / "kept.nii", np.ones((4, 5, 6, 3, 1), np.uint8), source, keep_texts=True)
    kept = nibabel.load(tmp_path / "kept.nii")
    assert kept.header["descrip"].item() == b"Jane Doe"
    assert [extension.get_content() for extension in kept.header.extensions] == [b"Jane Doe"]


@pytest.mark.parametrize(("time", "unit"), [(2, "sec"), (2000, "msec"), (2e6, "usec"), (2000, "unknown")])
@pytest.mark.parametrize("volumes", [1, 3])
def test_the_time_between_volumes_goes_from_nifti_to_mgh_and_back(tmp_path, time, unit, volumes):
    shape = SHAPE if volumes == 1 else (*SHAPE, volumes)
    image = nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4))
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = time
    nibabel.save(image, tmp_path / "v.nii")
    voxels = np.ones((*SHAPE, volumes, 1), np.int16)
    write(tmp_path / "out.mgz", voxels, nifti.open_volume(tmp_path / "v.nii"))
    expected = 0 if (volumes, unit) == (1, "unknown") else 2000  # of one volume without a unit it says nothing
    assert nibabel.load(tmp_path / "out.mgz").header["tr"] == expected
    write(tmp_path / "back.nii", voxels, nifti.open_volume(tmp_path / "out.mgz"))
    back = nibabel.load(tmp_path / "back.nii").header
    assert (back["pixdim"][4], back.get_xyzt_units()[1]) == (expected, "msec")


def test_a_written_nifti_file_is_what_the_standard_says(tmp_path):
    """Read by hand, without nibabel."""
    source = nifti.open_volume(save(tmp_path / "v.nii", patient_values()))
    voxels = np.arange(120, dtype=np.float32).reshape(*SHAPE, 1, 1)
    write(tmp_path / "out.nii.gz", voxels, source)
    content = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
    assert struct.unpack_from("<i", content, 0) == (348,)
    assert content[344:348] == b"n+1\0"
    assert struct.unpack_from("<4h", content, 40) == (3, *SHAPE)
    assert struct.unpack_from("<hh", content, 70) == (16, 32)  # float32
    assert struct.unpack_from("<3f", content, 80) == (1, 2, 3)
    assert struct.unpack_from("<4f", content, 280) == (1, 0, 0, -10)  # the first row of the affine
    (offset,) = struct.unpack_from("<f", content, 108)
    stored = np.frombuffer(content, "<f4", offset=int(offset))
    assert np.array_equal(stored.reshape(SHAPE, order="F"), voxels[..., 0, 0])


def test_a_pair_of_header_and_voxels_is_written_as_a_pair(tmp_path):
    source = nifti.open_volume(save(tmp_path / "v.img", patient_values(), kind=nibabel.Nifti1Pair))
    write(tmp_path / "out.img", np.full((*SHAPE, 1, 1), 7, np.int16), source)
    made = nibabel.load(tmp_path / "out.hdr")
    assert isinstance(made, nibabel.Nifti1Pair)
    assert np.array_equal(made.affine, source.image.affine)
    assert (np.asarray(made.dataobj) == 7).all()


@pytest.mark.parametrize(("dtype", "stored"), [("uint16", "int32"), ("float16", "float32"), ("uint8", "uint8")])
def test_mgh_files_hold_values_in_a_type_that_they_have(tmp_path, dtype, stored):
    source = nifti.open_volume(save(tmp_path / "v.mgz", patient_values(), kind=nibabel.MGHImage))
    voxels = np.arange(120).reshape(*SHAPE, 1, 1).astype(dtype)
    write(tmp_path / "out.mgz", voxels, source)
    made = nibabel.load(tmp_path / "out.mgz")
    assert made.get_data_dtype().newbyteorder("=") == stored
    assert np.array_equal(np.asarray(made.dataobj), voxels[..., 0, 0])
    assert np.array_equal(made.affine, source.image.affine)


def test_pixels_are_limited_by_what_is_decoded_at_once(tmp_path):
    """All slices of a compressed volume; a slice of a plain one, which is mapped."""
    image_format = ImageFormat(channels=1, dtype="int16", high=100)
    plain, packed = (save(tmp_path / name, patient_values()) for name in ("v.nii", "v.nii.gz"))
    with pixel_limit(100):
        for read in (probe_image, lambda path: read_raster(path, image_format)):
            assert read(plain / "z0")
            with pytest.raises(UnreadableError, match=r"6 slices of 4x5 pixels, more than the limit of 100; raise it"):
                read(packed / "z0")
    with pixel_limit(19), pytest.raises(UnreadableError, match="it has 4x5 pixels, more than the limit of 19"):
        read_raster(plain / "z0", image_format)
    with pixel_limit(120):
        assert read_raster(packed / "z0", image_format).values.shape == (5, 4, 1)


def test_a_header_that_claims_a_billion_slices_is_not_listed(tmp_path):
    path = tmp_path / "v.nii"
    image = nibabel.Nifti2Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    content[16:40] = struct.pack("<3q", 3, 1, 1)
    content[40:48] = struct.pack("<q", 10**9)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(2 * 10**9)  # sparse
    with pytest.raises(UnreadableError, match="its header claims 1,000,000,000 slices; expected at most 1,000,000"):
        nifti.list_slices(path)
