"""Read clips: their properties, and their frames as upright arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cyclegan.errors import InputError, reason_of
from cyclegan.images import Array
from cyclegan.images.filetypes.pillow import from_pillow

if TYPE_CHECKING:  # the extra `video`
    import av.container

# AVColorSpace of a frame -> swscale's name of the matrix. 0 is RGB, 2 is unknown.
_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
LIMITED, FULL = 1, 2  # AVColorRange
RGB, BT709 = 0, 1  # AVColorSpace
HDR_TRANSFERS = (16, 18)  # PQ and HLG

# A time that falls by less is an error of one packet, not a jump of the clock.
_JUMP_SECONDS = Fraction(1, 2)

# Clocks of broadcasts have 33 bits: FFmpeg reads a jump back by more than a minute as one ahead by 26 hours.
_GAP_SECONDS = 3600


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip's pictures. Width and height in pixels, upright."""

    index: int
    width: int
    height: int
    turns: int  # quarter turns counter-clockwise that make a frame upright
    rate: Fraction
    time_base: Fraction
    start: Fraction  # seconds on the clip's own clock that become 0
    pixel_aspect: Fraction | None
    matrix: int
    color_range: int
    primaries: int
    transfer: int
    expected_frames: int | None
    has_decoding_times: bool  # the times of the container are in the order of decoding, not of showing


class Clock:
    """Makes times monotonic: where a clip's clock jumps, what follows is shifted behind what came before.

    Joined broadcasts have such jumps. All streams are shifted by the same time, so that sound stays in sync.
    """

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]  # seconds, one for each stretch between two jumps
        self._streams: dict[int, tuple[int, Fraction]] = {}  # index -> stretch, and the last original time
        self._end = Fraction(0)

    @property
    def num_jumps(self) -> int:
        return len(self._shifts) - 1

    def correct(self, packet: Any) -> None:
        """Shift the times of a packet."""
        ticks = packet.pts if packet.dts is None else packet.dts
        if ticks is None:
            return
        time = ticks * packet.time_base
        stretch, last = self._streams.get(packet.stream.index, (self.num_jumps, time))
        is_broadcast = packet.stream.container.format.name in ("mpegts", "mpeg")
        if time < last - _JUMP_SECONDS or (is_broadcast and time > last + _GAP_SECONDS):
            stretch += 1
            if stretch == len(self._shifts):
                self._shifts.append(self._end - time)
        self._streams[packet.stream.index] = stretch, time
        shift = round(self._shifts[stretch] / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        self._end = max(self._end, (ticks + shift + (packet.duration or 0)) * packet.time_base)


def import_av() -> Any:
    try:
        import av
    except ImportError:
        raise InputError("Reading and writing clips needs the package av: pip install 'cyclegan[video]'.") from None
    return av


@contextmanager
def open_input(av: Any, source: Path) -> "Iterator[av.container.InputContainer]":
    try:
        # An absolute path, because a name with a colon would be taken for a protocol.
        clip = av.open(str(source.absolute()), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{source} cannot be read as a clip: {reason_of(error)}.") from None
    with clip:
        yield clip


def probe_clip(av: Any, source: Path) -> ClipInfo:
    """Decode the first frame, because only a frame has reliable rotation and colours."""
    with open_input(av, source) as clip:
        videos = [s for s in clip.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not videos:
            raise InputError(f"{source} holds no moving pictures.")
        stream = videos[0]
        frame = next((frame for frame, _ in decode(av, clip, stream.index, Clock()) if frame is not None), None)
        if frame is None:
            raise InputError(f"{source} holds no frame that can be decoded.")

        turns = round(frame.rotation / 90) % 4 if frame.rotation % 90 == 0 else 0
        width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        aspect = stream.sample_aspect_ratio or None
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        expected = stream.frames or (round(clip.duration / av.time_base * rate) if clip.duration else None)
        is_rgb = frame.format.is_rgb or frame.format.name == "pal8"
        return ClipInfo(
            index=stream.index,
            width=width,
            height=height,
            turns=turns,
            rate=rate,
            time_base=stream.time_base or 1 / rate,
            # Recordings of broadcasts begin at any time, and containers for files at 0.
            start=max(Fraction(clip.start_time or 0, av.time_base), Fraction(0)),
            pixel_aspect=1 / aspect if aspect and turns % 2 else aspect,
            matrix=RGB if is_rgb else frame.colorspace,
            color_range=frame.color_range,
            primaries=stream.codec_context.color_primaries,
            transfer=stream.codec_context.color_trc,
            expected_frames=expected,
            has_decoding_times=clip.format.name == "avi",
        )


def decode(av: Any, clip: Any, index: int, clock: Clock) -> Iterator[tuple[Any, Any]]:
    """Packets of all streams in the order of the file: (a frame of stream `index` or None, the packet or None).

    `clock` corrects their times. (None, None) stands for a damaged packet. Ends where the file cannot be read further.
    """
    packets = clip.demux()
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            yield None, None
            return
        if packet is None:
            return
        clock.correct(packet)
        if packet.stream.index != index:
            yield None, packet
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError:
            yield None, None
            continue
        for frame in frames:
            yield frame, packet
        yield None, packet


def ticks(frame: Any, info: ClipInfo) -> int | None:
    """When a frame is shown, on the output's clock, in units of the clip's time base; None if unknown."""
    # The dts of a frame is that of the packet that completed it, and monotonic where AVI's times are in decoding order.
    time = frame.dts if info.has_decoding_times or frame.pts is None else frame.pts
    return None if time is None else time - round(info.start / info.time_base)


def matrix_of(info: ClipInfo) -> str:
    """The matrix between RGB and YUV. Without a tag it is the one that players choose by the height."""
    if info.matrix == RGB:
        return _MATRICES[BT709]
    return _MATRICES.get(info.matrix, "ITU709" if min(info.height, info.width) >= 720 else "ITU601")


def exact_flags(av: Any) -> int:
    """Options of swscale for exact conversion; its default between YUV and RGB makes a picture one level darker."""
    flags = av.video.reformatter.Interpolation
    return int(flags.BILINEAR | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP)


def to_array(av: Any, frame: Any, info: ClipInfo, channels: int) -> Array:
    """A decoded frame as uint8 (H, W, channels), upright."""
    is_rgb = info.matrix == RGB
    color_range = None if is_rgb else "JPEG" if info.color_range == FULL else "MPEG"
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=None if is_rgb else matrix_of(info),
        src_color_range=color_range,
        dst_color_range="JPEG",
        interpolation=exact_flags(av),
    ).to_ndarray()
    upright = np.ascontiguousarray(np.rot90(rgb, info.turns))
    return upright if channels == 3 else from_pillow(Image.fromarray(upright), 1)
