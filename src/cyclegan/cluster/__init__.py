"""Translate and score on a cluster, with Ray Data: Ray places the work, retries it, and limits what is read ahead.

files -> plan -> items of some files -> actors, each with a Translator -> rows -> manifest
"""

from typing import TYPE_CHECKING

from cyclegan._lazy import lazy_exports

if TYPE_CHECKING:
    from cyclegan.cluster.scoring import scoring_cluster
    from cyclegan.cluster.translation import ClusterResult, translate_on_cluster

__all__ = ["ClusterResult", "scoring_cluster", "translate_on_cluster"]

_HOMES = {
    "ClusterResult": "cyclegan.cluster.translation",
    "scoring_cluster": "cyclegan.cluster.scoring",
    "translate_on_cluster": "cyclegan.cluster.translation",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
