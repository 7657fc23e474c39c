"""A small whole slide in DICOM for tests: a file for each level of its pyramid, in JPEG tiles."""

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def write_dicom_slide(folder, values, *, mpp=0.5, levels=(1, 4), tile=128, label=True):
    """Write levels of RGB values (H, W, 3), and a label, as files of one series. Returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = {"StudyInstanceUID": "1.2.9", "SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    height, width = values.shape[:2]
    millimetres = width * mpp / 1000, height * mpp / 1000
    paths = []
    kinds = [(factor, "VOLUME") for factor in levels] + ([(levels[-1], "LABEL")] if label else [])
    for number, (factor, kind) in enumerate(kinds, 1):
        size = (width // factor, height // factor)
        picture = values if factor == 1 else np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
        is_base = factor == 1
        image_type = ["ORIGINAL" if is_base else "DERIVED", "PRIMARY", kind, "NONE" if is_base else "RESAMPLED"]
        side = tile if kind == "VOLUME" else None
        image = _level(picture, side, image_type, number, uids, millimetres)
        paths.append(folder / f"{kind.lower()}{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def _level(values, side, image_type, number, uids, millimetres):
    height, width = values.shape[:2]
    rows, columns = (side, side) if side else (height, width)
    down, across = -(-height // rows), -(-width // columns)
    padded = np.pad(values, ((0, down * rows - height), (0, across * columns - width), (0, 0)), "edge")
    tiles = [
        padded[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] for y in range(down) for x in range(across)
    ]
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = WHOLE_SLIDE
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, uid in uids.items():
        setattr(image, keyword, uid)
    image.Modality, image.ImageType, image.InstanceNumber = "SM", image_type, number
    image.PatientName, image.PatientID = "Doe^Jane", "4711"
    image.DimensionOrganizationType = "TILED_FULL"
    image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = width, height
    image.ImagedVolumeWidth, image.ImagedVolumeHeight = millimetres
    image.NumberOfOpticalPaths = image.TotalPixelMatrixFocalPlanes = 1
    image.Rows, image.Columns, image.NumberOfFrames = rows, columns, len(tiles)
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    measures, group = Dataset(), Dataset()
    measures.PixelSpacing = [millimetres[1] / height, millimetres[0] / width]
    measures.SliceThickness = 0.001
    group.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [group]
    encoded = [
        imagecodecs.jpeg8_encode(np.ascontiguousarray(each), level=95, colorspace="RGB", outcolorspace="RGB")
        for each in tiles
    ]
    image.PixelData = encapsulate(encoded)
    image["PixelData"].is_undefined_length = True
    return image
