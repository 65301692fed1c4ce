"""Round trip and loss to the default gateway (IPv4, Linux).

Whether the gateway is there at all is what the check `network` tells, by ARP. This one says how well it can be reached,
so that one fact is not two tickets: a gateway that is gone is `unknown` here. Many gateways never answer ICMP, or limit
it, which is no fault; one that did and has stopped for long, while it is still there, is worth a warning. Nothing is
measured without a gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.local import gateway, icmp_echo
from gengfu_checks.local.icmp_echo import Echo
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

SILENT = "gateway_latency.silent"
NOT_MEASURED = "gateway_latency.not_measured"

WINDOW_RUNS = 3
"""Loss is counted over this many runs, so that one lost packet is no percentage."""
ARP_WAIT_S = 3.0


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers."""

    read_routes: Callable[[], list[gateway.Route]]
    echo: Callable[[str, int, float], Echo | None]
    """As `icmp_echo.echo`."""
    is_there: Callable[[gateway.Route], bool | None]
    """Whether the gateway answers on its link; None where that cannot be found out."""


def measure_gateway(context: Context, system: System) -> Iterator[Measurement]:
    """Yield the one item, or nothing where there is no gateway with an address of IPv4."""
    route = gateway.default_route(system.read_routes())
    if route is None or not route.address or ":" in route.address:
        return
    facts: dict[str, Fact] = {"address": route.address, "link": plain(route.link)}
    echo = system.echo(route.address, context.settings["packets"], context.deadline_s * 0.6)
    memory = context.memory
    if memory.get("address") != route.address:
        memory.update(address=route.address, answered_s=None, window=[])
    if echo is None or echo.round_trip_s is None:
        answered_s: float | None = memory["answered_s"]
        silent_s = None if answered_s is None else context.monotonic() - answered_s
        is_long = silent_s is not None and silent_s >= context.settings["silent_after"]
        problem = silence(echo is not None, silent_s is not None, is_long, system.is_there(route))
        yield Measurement("", {"answering": 0.0}, facts, problem)
        return
    memory["answered_s"] = context.monotonic()
    memory["window"] = [*memory["window"], echo][-WINDOW_RUNS:]
    metrics = {"answering": 1.0, "round_trip_seconds": echo.round_trip_s}
    if len(memory["window"]) == WINDOW_RUNS:
        metrics["loss_ratio"] = loss_ratio(memory["window"])
    yield Measurement("", metrics, facts)


def silence(could_ask: bool, answered_before: bool, is_long: bool, is_there: bool | None) -> Problem | None:
    """What it means that no echo came back; `is_long` is how long that has been so since the gateway last answered."""
    if is_there is False:
        return Problem(Status.UNKNOWN, NOT_MEASURED, {"reason": "the gateway is not there (see the check network)"})
    if not could_ask:
        needs = "a group of net.ipv4.ping_group_range, CAP_NET_RAW, or the program ping"
        return Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, {"needs": needs, "target": "ICMP"})
    if is_long:
        return Problem(Status.WARNING, SILENT)
    if answered_before:
        return Problem(Status.UNKNOWN, NOT_MEASURED, {"reason": "the gateway has stopped answering lately"})
    reason = "the gateway does not answer, and this link has no ARP"
    return None if is_there else Problem(Status.UNKNOWN, NOT_MEASURED, {"reason": reason})


def loss_ratio(echoes: Sequence[Echo]) -> float:
    """The share of requests that stayed without an answer."""
    sent = sum(echo.sent for echo in echoes)
    return 1.0 - sum(echo.received for echo in echoes) / sent


def _is_there(route: gateway.Route) -> bool | None:
    return gateway.is_reachable(route, gateway.SYSTEM, ARP_WAIT_S)


def usable() -> str | None:
    """Say why there is nothing to ask: only Linux has these route tables."""
    return None if gateway.IPV4_ROUTES.exists() else f"{gateway.IPV4_ROUTES} is missing: this check is for Linux"


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the way to the gateway of this machine."""
    return measure_gateway(context, System(gateway.read_routes, icmp_echo.echo, _is_there))


CHECK = CheckKind(
    name="gateway_latency",
    measure=measure,
    metrics=(
        Metric("answering", "1 when the default gateway answers echo requests"),
        Metric("round_trip_seconds", "Mean time of an echo to the default gateway and back"),
        Metric("loss_ratio", f"Share of echo requests without an answer over the last {WINDOW_RUNS} runs"),
    ),
    codes=(SILENT, NOT_MEASURED, CHECK_NEEDS_RIGHTS),
    settings=(
        Setting("packets", SettingType.INTEGER, "echo requests of one run, four a second", 20, minimum=2),
        Setting(
            "silent_after",
            SettingType.DURATION,
            "report a gateway that used to answer and has not for this long",
            "1h",
        ),
    ),
    thresholds=(
        Threshold("loss_ratio", "gateway_latency.loss", warning=0.05, hysteresis=0.02),
        Threshold("round_trip_seconds", "gateway_latency.slow", warning=0.1, hysteresis=0.02),
    ),
    every_s=300.0,
    timeout_s=30.0,
    usable=usable,
)
