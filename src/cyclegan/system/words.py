"""Numbers in sentences."""


def counted(count: float, noun: str) -> str:
    """Such as 1 image, 2 images, 12,000 images."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"
