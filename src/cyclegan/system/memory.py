"""The memory of the machine."""

from pathlib import Path


def free_memory() -> int | None:
    """Bytes of main memory that this process may still take. None if the system does not report it."""
    found = [limit for limit in (_free_of_machine(), _free_of_group()) if limit is not None]
    return min(found, default=None)


def _free_of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_of_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the control group of this process, as in a container, has left: its limit minus memory in use."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    folders: list[tuple[Path, str, str, str]] = []
    for number, kinds, path in lines:
        if number == "0":
            names = ("memory.max", "memory.current", "inactive_file")
            folders += [(root / path.lstrip("/"), *names), (root, *names)]
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            folders += [(root / "memory" / path.lstrip("/"), *names), (root / "memory", *names)]
    free: list[int] = []
    for folder, limit, usage, cache in folders:
        try:
            most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
            kept = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if most.isdigit() and int(most) < 2**60:
            free.append(int(most) - used + next((int(value) for name, value in kept if name == cache), 0))
    return min(free, default=None)
