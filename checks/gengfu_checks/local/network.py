"""Network: links with their speed, duplex and errors, and the default gateway.

Items are the names of links, and `gateway`. Sources: psutil for links, the kernel's tables for the gateway (Linux).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import psutil

from gengfu_checks.local import gateway
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

LINK_DOWN = "network.link_down"
HALF_DUPLEX = "network.half_duplex"
SLOW_LINK = "network.slow_link"
ERRORS_RISING = "network.errors_rising"
NO_GATEWAY = "network.no_gateway"
GATEWAY_UNREACHABLE = "network.gateway_unreachable"

GATEWAY = "gateway"
MIN_PACKETS = 1000
"""Errors are set against at least this many packets, so that one bad frame on an idle link is no alarm."""
GATEWAY_WAIT_S = 3.0
"""The kernel asks three times, a second apart."""
# Links that software makes: loopback, tunnels, containers, virtual machines and switches inside this machine.
VIRTUAL_LINKS = (
    "lo", "lo[0-9]*", "Loopback*", "anpi*", "ap[0-9]*", "awdl*", "br-*", "bridge*", "cali*", "cilium*", "cni*",
    "docker*", "dummy*", "erspan*", "flannel*", "fw[bl]*", "genev*", "gif*", "gre*", "gretap*", "ifb*", "incusbr*",
    "ip6*", "ip_vti*", "ipvs*", "isatap*", "kube-*", "llw*", "lxc*", "lxd*", "nlmon*", "nodelocaldns*", "ovs-*",
    "podman*", "sit*", "stf*", "tailscale*", "tap*", "Teredo*", "teql*", "tun*", "tunl*", "utun*", "vboxnet*",
    "vEthernet*", "veth*", "virbr*", "vmnet*", "vnet*", "vxlan*", "wg*", "zt*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """One link as the system tells it; counters since the machine (or the driver) started."""

    name: str
    up: bool
    speed_bits_per_second: float
    """0 where the link does not say."""
    duplex: str
    """`full`, `half` or `unknown`."""
    receive_bytes: int = 0
    transmit_bytes: int = 0
    receive_packets: int = 0
    transmit_packets: int = 0
    receive_errors: int = 0
    transmit_errors: int = 0
    receive_dropped: int = 0
    transmit_dropped: int = 0

    @property
    def errors(self) -> int:
        """Bad frames in both directions."""
        return self.receive_errors + self.transmit_errors

    @property
    def packets(self) -> int:
        """Good frames in both directions."""
        return self.receive_packets + self.transmit_packets


@dataclass(frozen=True, slots=True)
class ErrorWindow:
    """Where the counting of errors began, and the share that the last full count gave."""

    errors: int
    packets: int
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers; `gateway` is None where nothing is known of routes."""

    read_links: Callable[[], list[Link]]
    gateway: gateway.System | None


def next_window(link: Link, window: ErrorWindow | None) -> ErrorWindow:
    """Return the window after another look at the counters.

    It is closed, and a new one begun, as soon as MIN_PACKETS frames have passed in it; until then the last share
    stands. Counters that went back begin anew.
    """
    if window is None or link.packets < window.packets or link.errors < window.errors:
        return ErrorWindow(link.errors, link.packets)
    errors = link.errors - window.errors
    frames = link.packets - window.packets + errors
    if frames < MIN_PACKETS:
        return window
    return ErrorWindow(link.errors, link.packets, errors / frames)


def measure_network(context: Context, system: System) -> Iterator[Measurement]:
    """Yield one measurement for each link worth looking at, for each that is missing, and for the gateway."""
    settings = context.settings
    required = tuple(settings["required"])
    links = _chosen(system.read_links(), required, settings["include"], settings["exclude"])
    windows: dict[str, ErrorWindow] = context.memory.setdefault("windows", {})
    seen_up: set[str] = context.memory.setdefault("seen_up", set())
    for link in links:
        windows[link.name] = next_window(link, windows.get(link.name))
        if link.up:
            seen_up.add(link.name)
        yield _measurement(link, windows[link.name].ratio, context, seen_up)
    gone = (seen_up | set(required)) - {link.name for link in links}
    for name in sorted(gone):
        windows.pop(name, None)
        problem = _down(name, context, seen_up)
        if problem is not None:
            yield Measurement(plain(name), {"up": 0.0}, problem=problem)
    if system.gateway is not None:
        yield measure_gateway(context, system.gateway)


def measure_gateway(context: Context, system: gateway.System) -> Measurement:
    """Return the measurement of the item `gateway`."""
    route = gateway.default_route(system.read_routes())
    if route is None:
        return Measurement(GATEWAY, {"gateway_present": 0.0}, problem=_no_gateway(context))
    context.memory["had_gateway"] = True
    facts: dict[str, Fact] = {"link": plain(route.link)}
    if route.address:
        facts["address"] = route.address
    reachable = gateway.is_reachable(route, system, min(GATEWAY_WAIT_S, context.deadline_s / 2))
    metrics = {"gateway_present": 1.0}
    if reachable is not None:
        metrics["gateway_reachable"] = float(reachable)
    problem = Problem(Status.CRITICAL, GATEWAY_UNREACHABLE) if reachable is False else None
    return Measurement(GATEWAY, metrics, facts, problem)


def _chosen(
    links: Iterable[Link], required: Collection[str], include: Collection[str], exclude: Collection[str]
) -> list[Link]:
    def is_worth(name: str) -> bool:
        if name in required:
            return True
        return not _fits(name, exclude) and (_fits(name, include) or not _fits(name, VIRTUAL_LINKS))

    return sorted((link for link in links if is_worth(link.name)), key=lambda link: link.name)


def _measurement(link: Link, error_ratio: float | None, context: Context, seen_up: Collection[str]) -> Measurement:
    metrics = {
        "up": float(link.up),
        "receive_bytes_total": float(link.receive_bytes),
        "transmit_bytes_total": float(link.transmit_bytes),
        "receive_packets_total": float(link.receive_packets),
        "transmit_packets_total": float(link.transmit_packets),
        "receive_errors_total": float(link.receive_errors),
        "transmit_errors_total": float(link.transmit_errors),
        "receive_dropped_total": float(link.receive_dropped),
        "transmit_dropped_total": float(link.transmit_dropped),
    }
    if error_ratio is not None:
        metrics["error_ratio"] = error_ratio
    facts: dict[str, Fact] = {}
    if link.up and link.speed_bits_per_second > 0:
        metrics["speed_bytes_per_second"] = link.speed_bits_per_second / 8
    if link.up and link.duplex != "unknown":
        facts["duplex"] = link.duplex
    return Measurement(plain(link.name), metrics, facts, _link_problem(link, context, seen_up))


def _link_problem(link: Link, context: Context, seen_up: Collection[str]) -> Problem | None:
    if not link.up:
        return _down(link.name, context, seen_up)
    # People speak of links in bits, though metrics are in bytes.
    speed = {"speed_bits_per_second": link.speed_bits_per_second} if link.speed_bits_per_second > 0 else {}
    if link.duplex == "half":
        return Problem(Status.WARNING, HALF_DUPLEX, speed)
    wanted = context.settings["minimum_bits_per_second"]
    if 0 < link.speed_bits_per_second < wanted:
        return Problem(Status.WARNING, SLOW_LINK, {**speed, "minimum_bits_per_second": wanted})
    return None


def _down(name: str, context: Context, seen_up: Collection[str]) -> Problem | None:
    """A link that must be up is critical, one that merely was up before is worth a warning, others may be unplugged."""
    if name in context.settings["required"]:
        return Problem(Status.CRITICAL, LINK_DOWN)
    if context.settings["links_stay_up"] and name in seen_up:
        return Problem(Status.WARNING, LINK_DOWN)
    return None


def _no_gateway(context: Context) -> Problem | None:
    """No gateway is critical where one is asked for and a warning where one was lost; else it is how things are."""
    if context.settings["gateway_required"]:
        return Problem(Status.CRITICAL, NO_GATEWAY)
    return Problem(Status.WARNING, NO_GATEWAY) if context.memory.get("had_gateway") else None


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _read_links() -> list[Link]:
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    duplex: dict[int, str] = {psutil.NIC_DUPLEX_FULL: "full", psutil.NIC_DUPLEX_HALF: "half"}
    links = []
    for name, stats in psutil.net_if_stats().items():
        link = Link(name, stats.isup, stats.speed * 1e6, duplex.get(stats.duplex, "unknown"))
        count = counters.get(name)
        if count is not None:
            link = replace(
                link,
                receive_bytes=count.bytes_recv,
                transmit_bytes=count.bytes_sent,
                receive_packets=count.packets_recv,
                transmit_packets=count.packets_sent,
                receive_errors=count.errin,
                transmit_errors=count.errout,
                receive_dropped=count.dropin,
                transmit_dropped=count.dropout,
            )
        links.append(link)
    return links


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the links and the gateway of this machine."""
    has_routes = gateway.IPV4_ROUTES.exists()
    return measure_network(context, System(_read_links, gateway.SYSTEM if has_routes else None))


def _total(name: str, help_text: str) -> Metric:
    return Metric(name, help_text, MetricType.COUNTER)


CHECK = CheckKind(
    name="network",
    measure=measure,
    metrics=(
        Metric("up", "1 when the link is up"),
        Metric("speed_bytes_per_second", "Negotiated speed of the link"),
        _total("receive_bytes_total", "Bytes received"),
        _total("transmit_bytes_total", "Bytes sent"),
        _total("receive_packets_total", "Packets received"),
        _total("transmit_packets_total", "Packets sent"),
        _total("receive_errors_total", "Frames received with errors"),
        _total("transmit_errors_total", "Frames that could not be sent for errors"),
        _total("receive_dropped_total", "Packets received and dropped"),
        _total("transmit_dropped_total", "Packets dropped instead of being sent"),
        Metric("error_ratio", f"Share of bad frames among the last {MIN_PACKETS} or more"),
        Metric("gateway_present", "1 when there is a default gateway"),
        Metric("gateway_reachable", "1 when the default gateway answers on its own link"),
    ),
    codes=(LINK_DOWN, HALF_DUPLEX, SLOW_LINK, NO_GATEWAY, GATEWAY_UNREACHABLE),
    settings=(
        Setting("include", SettingType.TEXT_LIST, "virtual links to look at as well, as globs", ()),
        Setting("exclude", SettingType.TEXT_LIST, "links to leave out, as globs", ()),
        Setting("required", SettingType.TEXT_LIST, "names of links that must be up", ()),
        Setting(
            "links_stay_up",
            SettingType.BOOLEAN,
            "report a link that went down since the agent started; false where cables come and go",
            True,
        ),
        Setting(
            "minimum_bits_per_second",
            SettingType.NUMBER,
            "least speed of every link that is up and tells its speed, like 1e9; 0 for any",
            0.0,
            minimum=0,
        ),
        Setting(
            "gateway_required",
            SettingType.BOOLEAN,
            "a machine without a default gateway is broken; otherwise only one that lost its gateway is reported",
            False,
        ),
    ),
    thresholds=(Threshold("error_ratio", ERRORS_RISING, warning=0.01, critical=0.05, hysteresis=0.002),),
)
