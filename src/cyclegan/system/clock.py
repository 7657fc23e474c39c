"""Working time: a clock that neither the time of day nor a sleeping computer can move."""

import threading
import time

# Between two readings further apart than this, in seconds, a process that took less than this share of a core stood
# still. No step, checkpoint or score waits so long without computing.
_LONG = 300.0
_IDLE_SHARE = 0.01


class WorkClock:
    """Seconds in which this process could work.

    Time in which it stood still does not count: a computer that sleeps, a paused virtual machine or container, a
    process that Ctrl-Z has stopped. (Whether the system's monotonic clock counts sleep differs between systems.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last, self._cpu = time.monotonic(), time.process_time()
        self._stood_still = 0.0

    def seconds(self) -> float:
        """Working time since an arbitrary moment; it never goes backwards."""
        with self._lock:
            now, cpu = time.monotonic(), time.process_time()
            passed = now - self._last
            if passed > _LONG and cpu - self._cpu < _IDLE_SHARE * passed:
                self._stood_still += passed
            self._last, self._cpu = now, cpu
            return now - self._stood_still

    @property
    def stood_still(self) -> float:
        """Seconds in which the process stood still, up to the last reading."""
        return self._stood_still


_clock = WorkClock()


def working_time() -> float:
    """Working time of this process in seconds, since an arbitrary moment. See `WorkClock`."""
    return _clock.seconds()


def time_stood_still() -> float:
    """Seconds in which this process stood still, up to the last `working_time`. See `WorkClock`."""
    return _clock.stood_still
