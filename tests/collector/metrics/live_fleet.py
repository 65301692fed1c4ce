"""Live tables for tests of the metrics: built as the collector builds them, from shapes that crossed the wire."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Mapping, Sequence

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from gengfu_checks.model import Finding, MetricType, Status
from gengfu_collector.intake.live import LiveAgent, LiveTable
from gengfu_collector.metrics.text import Format
from gengfu_proto.convert.report import Shape, decode_shape, encode_run

HOSTILE = 'back\\slash "quoted" 100% %s {a="b"} 机房 \u202eevil 1.0'

Sample = tuple[str, tuple[tuple[str, str], ...], float]


def finding(
    check: str,
    item: str = "",
    metrics: Mapping[str, float] | None = None,
    status: Status = Status.OK,
    code: str = "ok",
) -> Finding:
    return Finding(check, item, status, code, {}, metrics or {}, 1_700_000_000.25)


def shape_and_values(
    check: str,
    findings: Sequence[Finding],
    kind: str = "",
    target: str = "",
    types: Mapping[str, MetricType] | None = None,
) -> tuple[Shape, array[float]]:
    """A run as the collector sees it."""
    run = encode_run(check, kind or check, 60, findings, types or {}, 0.01, target)
    return decode_shape(run.shape), array("d", run.message.values)


def put(agent: LiveAgent, check: str, *findings: Finding, measured_at_ms: int = 1_700_000_000_250, **more: str) -> None:
    """Show a run of a check."""
    types = {
        name: MetricType.COUNTER if name.endswith("_total") else MetricType.GAUGE
        for part in findings
        for name in part.metrics
    }
    shape, values = shape_and_values(check, findings, types=types, **more)
    agent.put(shape, values, measured_at_ms, 0.0)


def make_agent(agent_id: int, asset: str, **labels: str) -> LiveAgent:
    return LiveAgent(agent_id, f"uid-{agent_id}", asset, "server", labels, connected=True)


def make_table(*agents: LiveAgent) -> LiveTable:
    return LiveTable({agent.agent_id: agent for agent in agents})


def rich_table() -> LiveTable:
    """A few agents with everything that can be shown, hostile strings among it."""
    first = make_agent(1, "srv-1", site="hq", **{"机房": "一号", "class": "x", "9th-floor": 'a"b\\c'})
    put(first, "disk", finding("disk", "/", {"free_bytes": 5e9, "free_ratio": 0.25}), finding("disk", "/srv"))
    put(first, "memory", finding("memory", "swap", {"used_bytes": 0.0, "in_bytes_total": 12345678901234.0}))
    put(
        first,
        "erp-client",
        finding("erp-client", HOSTILE, {"threads": 0.0}, Status.CRITICAL, "process.too_few"),
        kind="process",
    )
    second = make_agent(2, HOSTILE)
    second.connected = False
    put(second, "odd", finding("odd", "a\nb", {"x_total": 1e300, "y_seconds": -0.5}), kind="third_party")
    put(second, "ping", finding("ping", "", {"rtt_seconds": 5e-324}), target="10.0.0.1")
    return make_table(first, second)


def parse(text: str, form: Format) -> dict[str, tuple[str, str]]:
    """Type and help of each family, by the name that the format gives it."""
    families = (parse_openmetrics if form is Format.OPENMETRICS else parse_classic)(text)
    return {family.name: (family.type, family.documentation) for family in families}


def parse_samples(text: str, form: Format) -> list[Sample]:
    """Every sample, sorted."""
    families = (parse_openmetrics if form is Format.OPENMETRICS else parse_classic)(text)
    return sorted(
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in families
        for sample in family.samples
    )


async def collect(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in body])
