"""What image files hold: suffixes, and the format of a domain's images."""

from pydantic import Field

from cyclegan.config import Config

EXTENSIONS: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".npy")


# Channels that files of these kinds hold at 8 bits. JPEG, BMP and the like cannot keep transparency.
_CHANNELS = {
    ".png": (1, 3, 4),
    ".webp": (3, 4),
    ".avif": (3, 4),
    ".jpg": (1, 3),
    ".jpeg": (1, 3),
    ".bmp": (1, 3),
}


class ImageFormat(Config):
    """Type, channels and value range of a domain's images."""

    channels: int = Field(3, ge=1)
    dtype: str = Field("uint8", description="numpy type of the file's values")
    low: float = Field(0.0, description="value that becomes -1")
    high: float = Field(255.0, description="value that becomes 1")

    def __str__(self) -> str:
        return f"{self.channels} x {self.dtype} in [{self.low:g}, {self.high:g}]"


def can_hold(suffix: str, channels: int, dtype: str) -> bool:
    """Whether files of this suffix hold images of these channels and this numpy type without loss of depth."""
    suffix = suffix.lower()
    if suffix in (".tif", ".tiff", ".npy"):
        return True
    if dtype == "uint8":
        return channels in _CHANNELS.get(suffix, ())
    return suffix == ".png" and dtype == "uint16" and channels in (1, 3, 4)
