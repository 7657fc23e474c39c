"""The datasets and pretrained generators of the CycleGAN authors."""

import difflib
from dataclasses import dataclass

from cyclegan.errors import InputError

# The authors' server. A mirror has the same two folders.
HOME = "http://efrosgans.eecs.berkeley.edu/cyclegan"


@dataclass(frozen=True)
class Dataset:
    """A zip with folders of images. a, b: what the domains show. source: whose images they are.

    num_bytes, sha256: of the zip, as published by tensorflow/datasets; None if unknown.
    """

    name: str
    a: str
    b: str
    source: str
    num_bytes: int | None = None
    sha256: str | None = None

    @property
    def place(self) -> str:
        return f"datasets/{self.name}.zip"


@dataclass(frozen=True)
class Pretrained:
    """A generator in one PyTorch file. a: its input. b: its output. Sizes and checksums are unknown."""

    name: str
    a: str
    b: str
    num_bytes: int | None = None
    sha256: str | None = None

    @property
    def place(self) -> str:
        return f"pretrained_models/{self.name}.pth"


_IMAGENET = "images of ImageNet, which is for research and education, not for commerce; each keeps its owner's rights"
_PAINTED = "paintings from WikiArt and landscape photos from Flickr; each keeps its owner's rights"

STANDARD = {
    entry.name: entry
    for entry in (
        Dataset(
            "horse2zebra",
            "horses",
            "zebras",
            _IMAGENET,
            116867962,
            "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
        ),
        Dataset(
            "apple2orange",
            "apples",
            "oranges",
            _IMAGENET,
            78456409,
            "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
        ),
        Dataset(
            "summer2winter_yosemite",
            "Yosemite in summer",
            "Yosemite in winter",
            "photos from Flickr; each keeps its owner's rights",
            132640856,
            "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9",
        ),
        Dataset(
            "monet2photo",
            "paintings by Monet",
            "landscape photos",
            _PAINTED,
            305231073,
            "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04",
        ),
        Dataset(
            "cezanne2photo",
            "paintings by Cezanne",
            "landscape photos",
            _PAINTED,
            279885071,
            "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff",
        ),
        Dataset(
            "ukiyoe2photo",
            "ukiyo-e prints",
            "landscape photos",
            _PAINTED,
            292946532,
            "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08",
        ),
        Dataset(
            "vangogh2photo",
            "paintings by Van Gogh",
            "landscape photos",
            _PAINTED,
            306590349,
            "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff",
        ),
        Dataset(
            "maps",
            "aerial photos",
            "maps",
            "taken from Google Maps, whose terms hold for them",
            1476754427,
            "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e",
        ),
        Dataset(
            "facades",
            "photos of facades",
            "their label maps",
            "the CMP Facade Database of Tylecek and Sara (2013), whose paper its users cite",
            35135868,
            "9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0",
        ),
        Dataset(
            "iphone2dslr_flower",
            "flowers by iPhone",
            "flowers by DSLR camera",
            "photos from Flickr; each keeps its owner's rights",
            339964458,
            "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113",
        ),
        Dataset(
            "ae_photos",
            "photos for trying models",
            "photos",
            "photos by Alexei Efros, one of the authors, with no folders for training; no licence is stated",
        ),
        Dataset(
            "mini",
            "a few images",
            "a few others",
            "what the authors try their own scripts on; neither its origin nor a licence is stated",
        ),
    )
}

MODELS = {
    entry.name: entry
    for entry in (
        Pretrained("apple2orange", "apples", "oranges"),
        Pretrained("orange2apple", "oranges", "apples"),
        Pretrained("summer2winter_yosemite", "Yosemite in summer", "in winter"),
        Pretrained("winter2summer_yosemite", "Yosemite in winter", "in summer"),
        Pretrained("horse2zebra", "horses", "zebras"),
        Pretrained("zebra2horse", "zebras", "horses"),
        Pretrained("monet2photo", "paintings by Monet", "landscape photos"),
        Pretrained("style_monet", "landscape photos", "style of Monet"),
        Pretrained("style_cezanne", "landscape photos", "style of Cezanne"),
        Pretrained("style_ukiyoe", "landscape photos", "style of ukiyo-e"),
        Pretrained("style_vangogh", "landscape photos", "style of Van Gogh"),
        Pretrained("sat2map", "aerial photos", "maps"),
        Pretrained("map2sat", "maps", "aerial photos"),
        Pretrained("cityscapes_photo2label", "street photos", "label maps"),
        Pretrained("cityscapes_label2photo", "label maps", "street photos"),
        Pretrained("facades_photo2label", "photos of facades", "label maps"),
        Pretrained("facades_label2photo", "label maps", "photos of facades"),
        Pretrained("iphone2dslr_flower", "flowers by iPhone", "as by DSLR camera"),
    )
}

CITYSCAPES = """cityscapes cannot be downloaded here, because its licence forbids to distribute it.
It may be used for non-commercial purposes (research, teaching, publications, experiments), and work that uses it cites
the Cityscapes Dataset. Neither it nor a changed version of it may be distributed; models trained on it may.
To get it, register at https://www.cityscapes-dataset.com and agree to its terms, then download
leftImg8bit_trainvaltest.zip (photos) and gtFine_trainvaltest.zip (label maps) and unzip both. Then make four folders:
  mkdir -p data/cityscapes/trainA data/cityscapes/trainB data/cityscapes/testA data/cityscapes/testB
  cp leftImg8bit/train/*/*.png data/cityscapes/trainA
  cp leftImg8bit/val/*/*.png data/cityscapes/testA
  cp gtFine/train/*/*_color.png data/cityscapes/trainB
  cp gtFine/val/*/*_color.png data/cityscapes/testB
The paper uses these images, scaled to 256x256. To download models that were trained on them:
  cyclegan download cityscapes_photo2label    and    cyclegan download cityscapes_label2photo"""


def unknown(name: str, known: tuple[str, ...], kind: str = "dataset") -> InputError:
    """The error for a name that is not in `known`, with the nearest one."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return InputError(f"There is no {kind} {name!r}; {hint}`cyclegan download --list` shows all names.")
