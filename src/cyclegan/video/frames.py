"""The frames of an open clip, and what is wrong with it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cyclegan.video.reading import ClipInfo, Clock, decode
from cyclegan.video.writing import Sound

# A clip that ends so many seconds before its announced end is incomplete.
_MISSING_SECONDS = 0.5


@dataclass
class ClipReport:
    """Counts and sentences collected while a clip is translated."""

    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    bad_packets: int = 0
    end: Fraction = Fraction(0)  # seconds, the latest of all streams, on the clip's own clock


def read_frames(av: Any, clip: Any, info: ClipInfo, sounds: "dict[int, Sound]", report: ClipReport) -> Iterator[Any]:
    """The frames of the clip. Packets of sound are written to the output on the way."""
    for frame, packet in decode(av, clip, info.index, report.clock):
        if frame is not None:
            yield frame
        elif packet is None:
            report.bad_packets += 1
        else:
            if packet.pts is not None:
                report.end = max(report.end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index in sounds:
                try:
                    sounds[packet.stream.index].write(packet)
                except av.FFmpegError:
                    report.bad_packets += 1


def clip_damage(
    av: Any, clip: Any, info: ClipInfo, report: ClipReport, name: str, num_frames: int, sounds: Iterable[Sound] = ()
) -> list[str]:
    """Sentences on what is missing of a clip, once all of it is read."""
    damage: list[str] = []
    announced = Fraction(clip.duration or 0, av.time_base)
    missing = announced + info.start - report.end
    if report.bad_packets:
        damage.append(f"{name}: {report.bad_packets} packets could not be decoded; the rest is translated.")
    if dropped := sum(sound.num_dropped for sound in sounds):
        damage.append(f"{name}: {dropped} packets of sound came twice or too late; they are left out.")
    if jumps := report.clock.num_jumps:
        often = "once" if jumps == 1 else f"{jumps} times"
        damage.append(f"{name}: its clock jumps {often}; the parts are joined.")
    if missing > _MISSING_SECONDS and not report.clock.num_jumps:  # else the announced end means nothing
        damage.append(f"{name} ends {float(missing):.1f} s early; the {num_frames} frames that are there are kept.")
    return damage
