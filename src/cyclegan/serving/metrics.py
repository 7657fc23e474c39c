"""What Prometheus reads at /metrics: requests, seconds, queue, batch sizes, memory."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

MEDIA_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one application, in a registry of its own. queue_length: requests that wait for a network."""

    def __init__(self, queue_length: Callable[[], int], num_loaded: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        labels = ("model", "direction")
        self.requests = Counter(
            "cyclegan_requests", "Translations asked for, by answer.", (*labels, "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "cyclegan_request_seconds",
            "Seconds from the whole request to its answer, of translations.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_sizes = Histogram(
            "cyclegan_batch_size", "Images in a batch.", buckets=(1, 2, 4, 8, 16, 32), registry=self._registry
        )
        queue = Gauge("cyclegan_queue_length", "Requests that wait for a network.", registry=self._registry)
        queue.set_function(queue_length)
        loaded = Gauge("cyclegan_loaded_translators", "Translators in memory.", registry=self._registry)
        loaded.set_function(num_loaded)
        ProcessCollector(registry=self._registry)  # process_resident_memory_bytes and others, on Linux

    def text(self) -> bytes:
        return generate_latest(self._registry)
