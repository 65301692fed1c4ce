"""Type and help text of measured metrics, from the catalogue of checks where the check is known here."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from gengfu_checks import registry
from gengfu_checks.model import Metric, MetricType
from gengfu_collector.logs import logger
from gengfu_collector.metrics.text import FamilyType

log = logger(__name__)


class KnownKinds:
    """Describes metrics of checks. A kind is imported when first asked for: `load` may be slow, `describe` never is."""

    def __init__(self) -> None:
        self._names = frozenset(registry.names())
        self._metrics: dict[str, Mapping[str, Metric]] = {}
        self._loading = threading.Lock()

    def unloaded(self, kinds: Iterable[str]) -> frozenset[str]:
        """Which of these `load` must be called for."""
        return self._names.intersection(kinds) - self._metrics.keys()

    def load(self, kinds: Iterable[str]) -> None:
        """Import these kinds; one that cannot be imported here stays undescribed. Any thread."""
        with self._loading:
            for kind in self.unloaded(kinds):
                self._metrics[kind] = _declared(kind)

    def describe(self, kind: str, metric: str, reported: MetricType) -> tuple[FamilyType, str]:
        """Type and help of `gengfu_<kind>_<metric>`. The catalogue decides; `reported` is what an agent says."""
        declared = self._metrics.get(kind, {}).get(metric)
        if declared is None:
            return family_type(metric, reported), f"Measured by checks of kind {kind}"
        return family_type(metric, declared.type), declared.help


def family_type(metric: str, measured: MetricType) -> FamilyType:
    """The type that may be claimed: a counter is one only under a counter's name."""
    if measured is MetricType.GAUGE:
        return FamilyType.GAUGE
    return FamilyType.COUNTER if metric.endswith("_total") else FamilyType.UNKNOWN


def _declared(kind: str) -> Mapping[str, Metric]:
    try:
        check = registry.load(kind)
    except Exception as error:  # noqa: BLE001 - the boundary to checks of third parties: their import may raise anything
        log.warning("check is not described", kind=kind, error=error)
        return {}
    return {metric.name: metric for metric in check.metrics}
