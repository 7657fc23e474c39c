"""Measure test images and their translations on a cluster, for `evaluate`."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cyclegan._version import __version__
from cyclegan.cluster.connection import Share, check_address, connected, share_of
from cyclegan.cluster.nodes import check_nodes
from cyclegan.cluster.stream import stream
from cyclegan.cluster.worker import use_share, worker_name
from cyclegan.errors import CycleganError, InputError
from cyclegan.evaluation.parts import ScoringCluster
from cyclegan.evaluation.test_images import Advance

# Images of a part at most; their measurements are pickled.
_MOST_IMAGES = 256

# Parts for each actor at least, if there are enough images.
_PARTS_PER_ACTOR = 4


@contextmanager
def scoring_cluster(
    ray: str = "local",
    *,
    device: str = "auto",
    cpus_per_actor: float | None = None,
    gpus_per_actor: float | None = None,
) -> Iterator[ScoringCluster]:
    """A cluster for `evaluate(..., cluster=...)`, until the end of the block. Arguments: as in `translate_on_cluster`.

    The scores are those of one process, to rounding. Features of training images are computed by the calling process.
    """
    check_address(ray)
    with connected(ray) as module:
        share = share_of(module, device, cpus_per_actor, gpus_per_actor)
        if ray != "local":
            check_nodes(module, __version__, {})
        yield _Cluster(module, share)


class _Cluster:
    def __init__(self, ray: Any, share: Share) -> None:
        self._ray, self._share = ray, share

    def part_size(self, count: int, batch_size: int) -> int:
        size = min(_MOST_IMAGES, -(-count // (_PARTS_PER_ACTOR * self._share.count)))
        return max(1, -(-size // batch_size)) * batch_size

    def map(
        self, make: Callable[[str], Callable[[Any], Any]], parts: Sequence[Any], sizes: Sequence[int], advance: Advance
    ) -> list[Any]:
        import pyarrow as pa

        items = (pa.table({"number": [number], "part": [pickle.dumps(part)]}) for number, part in enumerate(parts))
        job = _Job(make, self._share)
        values: dict[int, Any] = {}
        for table in stream(self._ray, items, _Worker, job, self._share, lambda: False):
            number = table["number"][0].as_py()
            if table["state"][0].as_py() == "end":
                raise InputError(table["value"][0].as_py().decode())
            values[number] = pickle.loads(table["value"][0].as_py())
            advance(sizes[number])
        return [values[number] for number in range(len(parts))]


@dataclass(frozen=True)
class _Job:
    make: Callable[[str], Callable[[Any], Any]]
    share: Share


class _Worker:
    """An actor: measures parts."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        use_share(job.share)

    @cached_property
    def _measure(self) -> Callable[[Any], Any]:
        return self._job.make(self._job.share.device)

    def __call__(self, item: Any) -> Any:
        import pyarrow as pa

        try:
            value, state = pickle.dumps(self._measure(pickle.loads(item["part"][0].as_py()))), "done"
        except CycleganError as error:
            value, state = str(error).encode(), "end"
        return pa.table({"number": item["number"], "state": [state], "value": [value], "worker": [worker_name()]})
