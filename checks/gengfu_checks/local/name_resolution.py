"""Name resolution as seen from this machine: every configured server is asked, and so is the system's own resolver.

Items: "" for the whole, the address of each server, and each name of the setting `names`.

Servers are asked who 127.0.0.1 is. RFC 6303 wants every resolver to answer that itself, so a network without internet
is not bad, nobody's root servers are bothered, and any answer proves that the server lives.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import psutil

from gengfu_checks.codes import CHECK_PROGRAM_FAILED
from gengfu_checks.local import dns_query, gateway, name_servers
from gengfu_checks.local.dns_query import NoRoute, Reply
from gengfu_checks.local.hang_guard import HUNG, Hung, ask_all
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

NO_SERVERS = "name_resolution.no_servers"
NO_SERVER_ANSWERS = "name_resolution.no_server_answers"
SERVER_SILENT = "name_resolution.server_silent"
NOT_RESOLVED = "name_resolution.not_resolved"
SERVERS_DISAGREE = "name_resolution.servers_disagree"
SYSTEM_FAILS = "name_resolution.system_fails"

MAX_NAMES = 10
SERVERS_AGAIN_S = 3600.0
LOOKUP_WITHIN_S = 5.0

_LOOPBACK = "1.0.0.127.in-addr.arpa"

Answers = dict[str, Reply]
"""Replies of one server by name."""


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers."""

    read_servers: Callable[[], list[str]]
    ask: Callable[[str, str, int, float], Reply]
    """As `dns_query.ask`."""
    look_up: Callable[[str], object]
    """Ask the system's own resolver; raises OSError."""
    is_on_network: Callable[[], bool] = lambda: True
    """Whether there is a way out, over which servers could be reached."""
    is_cut_off: Callable[[], bool] = lambda: False
    """Whether the list of servers leads nowhere, so that somebody meant to have one."""
    is_behind_stub: Callable[[], bool] = lambda: False
    """Whether all questions go through the stub of systemd-resolved."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server and what it said. `reason` tells why there are no answers; `no_route` that it was never reached."""

    address: str
    answers: Mapping[str, Reply]
    reason: str = ""
    no_route: bool = False


def is_served(servers: Sequence[Server], behind_stub: bool) -> bool:
    """Whether names can be resolved at all: some server answers; where all questions go through the stub of
    systemd-resolved, both the stub, which answers much by itself, and one of those that it asks."""
    if not behind_stub:
        return any(server.answers for server in servers)
    ways = [[s for s in servers if (s.address in name_servers.STUBS) is is_stub] for is_stub in (True, False)]
    return all(any(server.answers for server in way) for way in ways if way)


def whole_problem(servers: Sequence[Server], behind_stub: bool, expected: bool) -> Problem | None:
    """What is wrong when no server answers. `expected`: names were resolved before, or there are names to resolve.

    On a network where none ever did, nothing is claimed: there may be no service of names at all. A stub that is silent
    while a server behind it answers is no such network.
    """
    if is_served(servers, behind_stub):
        return None
    silent = [server for server in servers if not server.answers]
    is_stub_down = any(server.answers and server.address not in name_servers.STUBS for server in servers)
    is_fault = (expected or is_stub_down) and not all(server.no_route for server in silent)
    facts: dict[str, Fact] = {"addresses": ", ".join(plain(server.address) for server in silent)}
    return Problem(Status.CRITICAL if is_fault else Status.UNKNOWN, NO_SERVER_ANSWERS, facts)


def server_problem(server: Server, another_answers: bool) -> Problem | None:
    """What is wrong with one server; while none answers that is said once, of the whole."""
    if server.answers:
        return None
    is_fault = another_answers and not server.no_route
    return Problem(Status.WARNING if is_fault else Status.UNKNOWN, SERVER_SILENT, {"reason": server.reason})


def name_problem(name: str, servers: Sequence[Server], lookup: float | OSError | Hung | None) -> Problem | None:
    """What is wrong with one name that must resolve; `lookup` is what the system's resolver gave."""
    replies = {server.address: server.answers[name] for server in servers if name in server.answers}
    if not replies:
        return Problem(Status.UNKNOWN, NO_SERVER_ANSWERS)
    failing = {a: r.rcode if r.rcode != "NOERROR" else "no address" for a, r in replies.items() if not _resolves(r)}
    if failing:
        facts: dict[str, Fact] = {"addresses": ", ".join(failing), "answer": ", ".join(sorted(set(failing.values())))}
        if len(failing) == len(replies):
            return Problem(Status.CRITICAL, NOT_RESOLVED, facts)
        return Problem(Status.WARNING, SERVERS_DISAGREE, facts)
    if isinstance(lookup, OSError):
        return Problem(Status.WARNING, SYSTEM_FAILS, {"reason": plain(lookup.strerror or str(lookup), 100)})
    return Problem(Status.WARNING, SYSTEM_FAILS, {"reason": "no answer in time"}) if lookup is HUNG else None


def _resolves(reply: Reply) -> bool:
    return reply.rcode == "NOERROR" and reply.answers > 0


def measure_names(context: Context, system: System) -> Iterator[Measurement]:
    """Yield measurements of the whole, the servers and the names; nothing where nobody expects a server."""
    addresses = list(context.settings["servers"]) or _servers(context, system)
    if addresses:
        yield from _measurements(context, system, addresses[: name_servers.MAX_SERVERS])
    elif context.settings["names"] or context.memory.get("ever") or system.is_cut_off():
        status = Status.CRITICAL if context.settings["names"] else Status.WARNING
        problem = Problem(status if system.is_on_network() else Status.UNKNOWN, NO_SERVERS)
        yield Measurement(metrics={"servers": 0.0, "servers_answering": 0.0}, problem=problem)


def _servers(context: Context, system: System) -> list[str]:
    """The configured servers. Where asking for them is dear, they are kept for an hour or until none answers."""
    memory = context.memory
    kept_s: float = memory.get("kept_s", -math.inf)
    if not psutil.WINDOWS or memory.get("silent") or context.monotonic() - kept_s >= SERVERS_AGAIN_S:
        memory["servers"] = system.read_servers()
        memory["kept_s"] = context.monotonic()
    kept: list[str] = memory["servers"]
    return kept


def _measurements(context: Context, system: System, addresses: Sequence[str]) -> Iterator[Measurement]:
    names = list(dict.fromkeys(context.settings["names"]))[:MAX_NAMES]
    servers = _ask_servers(context, system, addresses, names)
    answering = [server for server in servers if server.answers]
    memory = context.memory
    memory["silent"] = not answering
    behind_stub = not context.settings["servers"] and system.is_behind_stub()
    memory["ever"] = memory.get("ever", False) or is_served(servers, behind_stub)
    lookups = _look_up(context, system, names or [socket.gethostname()])
    metrics = {"servers": float(len(servers)), "servers_answering": float(len(answering))}
    # The own name may be anywhere or nowhere: how long that takes is told and not judged.
    if not names:
        metrics |= _lookup_metrics(next(iter(lookups.values())))
    problem = whole_problem(servers, behind_stub, bool(memory["ever"] or names))
    yield Measurement(metrics=metrics, problem=problem, unjudged=frozenset(("lookup_seconds",)))
    for server in servers:
        metrics = {"answering": float(bool(server.answers))}
        if server.answers:
            metrics["response_seconds"] = server.answers[_LOOPBACK].took_s
        yield Measurement(plain(server.address), metrics, problem=server_problem(server, problem is None))
    for name in names:
        problem = name_problem(name, servers, lookups[name])
        unjudged = frozenset(() if answering else ("lookup_seconds",))
        yield Measurement(plain(name), _lookup_metrics(lookups[name]), problem=problem, unjudged=unjudged)


def _ask_servers(context: Context, system: System, addresses: Sequence[str], names: Sequence[str]) -> list[Server]:
    within_s = min(context.settings["answer_within"], context.deadline_s * 0.3)
    jobs = {address: partial(_ask_server, system, address, names, within_s) for address in addresses}
    # Every question ends by itself; the guard is for a system call that does not.
    most_s = within_s * (1 + 2 * len(names)) + 1.0
    answers = ask_all(jobs, context.memory.setdefault("pending", {}), min(most_s, context.deadline_s * 0.6))
    return [_server(address, answers[address]) for address in addresses]


def _ask_server(system: System, address: str, names: Sequence[str], within_s: float) -> Answers:
    """Ask one server whether it lives, then for each name; a name that it passes over in silence is an answer, too."""
    replies = {_LOOPBACK: system.ask(address, _LOOPBACK, dns_query.TYPE_PTR, within_s)}
    for name in names:
        try:
            reply = system.ask(address, name, dns_query.TYPE_A, within_s)
            if reply.rcode == "NOERROR" and not reply.answers:
                reply = system.ask(address, name, dns_query.TYPE_AAAA, within_s)
        except TimeoutError:
            reply = Reply("no answer", 0, within_s)
        replies[name] = reply
    return replies


def _server(address: str, answer: Answers | OSError | Hung) -> Server:
    if isinstance(answer, dict):
        return Server(address, answer)
    if isinstance(answer, TimeoutError) or answer is HUNG:
        return Server(address, {}, "no answer")
    assert isinstance(answer, OSError)
    reason = os.strerror(answer.errno) if answer.errno and answer.errno > 0 else str(answer)
    return Server(address, {}, plain(reason, 100), isinstance(answer, NoRoute))


def _look_up(context: Context, system: System, names: Sequence[str]) -> dict[str, float | OSError | Hung]:
    def timed(name: str) -> float:
        begun_s = time.monotonic()
        try:
            system.look_up(name)
        except socket.gaierror as error:
            # An answer as well, unless the resolver says that it got none.
            if error.errno == socket.EAI_AGAIN or context.settings["names"]:
                raise
        return time.monotonic() - begun_s

    jobs = {name: partial(timed, name) for name in names}
    within_s = min(LOOKUP_WITHIN_S, context.deadline_s * 0.3)
    return ask_all(jobs, context.memory.setdefault("pending_lookups", {}), within_s)


def _lookup_metrics(lookup: float | OSError | Hung) -> dict[str, float]:
    return {"lookup_seconds": lookup} if isinstance(lookup, float) else {}


def _look_up_by_system(name: str) -> object:
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the resolvers of this machine."""
    read_windows = partial(name_servers.read_windows, context.deadline_s * 0.3)
    read_servers = read_windows if psutil.WINDOWS else name_servers.read_resolv_conf
    system = System(
        read_servers,
        dns_query.ask,
        _look_up_by_system,
        gateway.may_reach_others,
        name_servers.leads_nowhere,
        name_servers.is_behind_stub,
    )
    return measure_names(context, system)


def _verify_names(names: Sequence[str]) -> None:
    for name in names:
        dns_query.encode_question(name, dns_query.TYPE_A)
    if len(names) > MAX_NAMES:
        raise ValueError(f"at most {MAX_NAMES} names")


def _verify_servers(servers: Sequence[str]) -> None:
    if name_servers.parse_resolv_conf("".join(f"nameserver {server}\n" for server in servers)) != list(servers):
        raise ValueError("servers are addresses like 192.0.2.53")


CHECK = CheckKind(
    name="name_resolution",
    measure=measure,
    metrics=(
        Metric("servers", "Name servers that this machine is configured to ask"),
        Metric("servers_answering", "How many of them answer"),
        Metric("answering", "1 when this server answers"),
        Metric("response_seconds", "Time until this server answered"),
        Metric("lookup_seconds", "Time that the system's own resolver took for a name"),
    ),
    codes=(
        NO_SERVERS,
        NO_SERVER_ANSWERS,
        SERVER_SILENT,
        NOT_RESOLVED,
        SERVERS_DISAGREE,
        SYSTEM_FAILS,
        CHECK_PROGRAM_FAILED,
    ),
    settings=(
        Setting(
            "names",
            SettingType.TEXT_LIST,
            "names that every server must resolve; without them it is enough that servers answer",
            (),
            verify=_verify_names,
        ),
        Setting(
            "servers",
            SettingType.TEXT_LIST,
            "addresses of the servers to ask; without them those of the system",
            (),
            verify=_verify_servers,
        ),
        Setting("answer_within", SettingType.DURATION, "a server that does not answer in this time is silent", "3s"),
    ),
    thresholds=(
        Threshold("response_seconds", "name_resolution.slow_server", warning=1.0, hysteresis=0.2),
        Threshold("lookup_seconds", "name_resolution.slow_lookup", warning=3.0, hysteresis=0.5),
    ),
    every_s=300.0,
    timeout_s=60.0,
    gone_is_over=True,
)
