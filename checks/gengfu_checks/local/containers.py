"""Containers of Docker and Podman: unhealthy, restarting again and again, ended with an error though they should run.

Both are asked in the same two steps, `ps --all --quiet` and `inspect`, and answer in the same form (docker-inspect(1),
podman-inspect(1)). Of Podman, the system's containers are looked at, not those of users. Items for each runtime that
is there: its name, and NAME/unhealthy, NAME/restarting, NAME/failed, so that what is removed leaves nothing open.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.structured import rows_of, run_json
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
)

UNHEALTHY = "containers.unhealthy"
RESTARTING = "containers.restarting"
FAILED = "containers.failed"
UNREACHABLE = "containers.unreachable"

MAX_CONTAINERS = 200
"""Inspected in one run; the rest is counted."""
MAX_NAMES = 8
MAX_NAME_CHARS = 60
INSPECTED_AT_ONCE = 20
MAX_LIST_BYTES = 1024 * 1024
ANSWER_TIMEOUT_S = 10.0
DOCKERD_BY_HAND = Path("/usr/local/bin/dockerd")
"""Where the static binaries are put; only whether it is there counts."""

_PODMAN_SOCKET = "podman.sock"

# https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemPing
_PING = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"
_ID = re.compile(r"[0-9a-f]{12,64}")
_SHOULD_RUN = frozenset(("always", "unless-stopped", "on-failure"))
_ENDED = frozenset(("exited", "stopped"))
_STOPPED_BY_HAND = frozenset((0, 130, 137, 143))
"""Exit codes of what `stop` and `kill` end: the restart policy would not have left anything else alone."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """How to ask a runtime: its name, its program with what has to come first, and the socket of its daemon."""

    name: str
    argv: tuple[str, ...]
    socket: Path | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """What counts of a container."""

    identity: str
    name: str
    status: str
    exit_code: int
    out_of_memory: bool
    restarts: int
    policy: str
    health: str


@dataclass(slots=True)
class Sorted:
    """Names of the containers that something is wrong with."""

    unhealthy: list[str] = field(default_factory=list)
    restarting: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def container_of(row: Mapping[str, Any]) -> Container:
    """A container from what `inspect` says; what is missing counts as nothing wrong."""
    state = _table(row.get("State"))
    policy = _table(_table(row.get("HostConfig")).get("RestartPolicy"))
    health = _table(state.get("Health") or state.get("Healthcheck"))
    return Container(
        identity=str(row.get("Id", "")),
        name=plain(str(row.get("Name", "")).removeprefix("/"), MAX_NAME_CHARS),
        status="restarting" if state.get("Restarting") is True else str(state.get("Status", "")),
        exit_code=_number(state.get("ExitCode")),
        out_of_memory=state.get("OOMKilled") is True,
        restarts=_number(row.get("RestartCount")),
        policy=str(policy.get("Name", "")),
        health=str(health.get("Status", "")),
    )


def sort_out(containers: Sequence[Container], before: Mapping[str, int], at_least: int) -> Sorted:
    """Return what is wrong. `before` has the restarts of each container at the last look."""
    wrong = Sorted()
    for container in containers:
        grown = container.restarts - before.get(container.identity, container.restarts)
        waits = container.status == "restarting" and container.restarts >= at_least
        if waits or grown >= at_least:
            wrong.restarting.append(container.name)
        elif is_failed(container):
            wrong.failed.append(container.name)
        elif container.status == "running" and container.health == "unhealthy":
            wrong.unhealthy.append(container.name)
    return wrong


def is_failed(container: Container) -> bool:
    """Whether a container lies there that should run. One that may end, or was stopped by hand, is none."""
    if container.status == "dead":
        return True
    if container.status == "created":  # its program, port or volume kept it from ever starting
        return container.policy in _SHOULD_RUN and container.exit_code != 0
    ended = container.status in _ENDED and container.policy in _SHOULD_RUN
    return ended and (container.exit_code not in _STOPPED_BY_HAND or container.out_of_memory)


def measure(context: Context) -> list[Measurement]:
    """Return the items of every runtime that this machine has; none without one."""
    found: list[Measurement] = []
    for runtime in (*docker_here(), *podman_here()):
        found += measure_runtime(context, runtime)
    return found


def docker_here(
    folder: Path = Path("/var/lib/docker/containers"), path: Path = Path("/var/run/docker.sock")
) -> Iterator[Runtime]:
    """Docker, where its daemon listens, or should: it is installed and has containers.

    What uninstalling left behind is none, and neither is Podman's socket under Docker's name.
    """
    if path.resolve().name == _PODMAN_SOCKET:
        return
    is_installed = find_program("dockerd") is not None or DOCKERD_BY_HAND.exists()
    if path.is_socket() or (is_installed and _has_entries(folder)):
        yield Runtime("docker", (find_program("docker") or "docker",), path)


def podman_here(folder: Path = Path("/var/lib/containers/storage")) -> Iterator[Runtime]:
    """Podman, where it has ever been used for the system. It has no daemon."""
    program = find_program("podman")
    try:
        is_used = folder.is_dir()
    except PermissionError:
        is_used = True
    if program is not None and is_used:
        yield Runtime("podman", (program,))


def measure_runtime(context: Context, runtime: Runtime) -> list[Measurement]:
    """Return the items of one runtime; one item when it cannot be asked."""
    if runtime.socket is not None:
        problem = reach(runtime.socket)
    elif os.geteuid() != 0:
        problem = Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, {"needs": "root", "target": runtime.name})
    else:
        problem = None
    if problem is not None:
        return [Measurement(runtime.name, problem=problem)]
    try:
        identities = _listed(context, runtime)
        containers = [container_of(row) for row in _inspected(context, runtime, identities[:MAX_CONTAINERS])]
    except CannotMeasure as error:  # the other runtime is still asked
        return [Measurement(runtime.name, problem=Problem(Status.UNKNOWN, error.code, error.facts))]
    before: dict[str, int] = context.memory.get(runtime.name, {})
    context.memory[runtime.name] = {container.identity: container.restarts for container in containers}
    ignored = context.settings["ignore"]
    judged = [c for c in containers if not any(fnmatchcase(c.name, pattern) for pattern in ignored)]
    wrong = sort_out(judged, before, context.settings["restarts"])
    metrics = {
        "containers": float(len(identities)),
        "running_containers": float(sum(c.status == "running" for c in containers)),
        "uninspected_containers": float(max(0, len(identities) - MAX_CONTAINERS)),
    }
    return [Measurement(runtime.name, metrics), *_items(runtime.name, wrong)]


def reach(path: Path) -> Problem | None:
    """Why the daemon behind a socket cannot be asked, None when it answers.

    The kernel, or systemd in its place, takes connections for a daemon that hangs or does not start.
    """
    target = plain(str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.connect(str(path))
            connection.sendall(_PING)
            if not connection.recv(1):
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        except PermissionError:
            return Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, {"needs": "group docker", "target": target})
        except OSError as error:
            reason = os.strerror(error.errno or errno.ETIMEDOUT)
            return Problem(Status.CRITICAL, UNREACHABLE, {"target": target, "reason": reason})
    return None


def _listed(context: Context, runtime: Runtime) -> list[str]:
    program = runtime.argv[0]
    if not Path(program).is_absolute():
        raise failed(program, "not found: install the client, docker-ce-cli or docker.io")
    argv = (*runtime.argv, "ps", "--all", "--quiet", "--no-trunc")
    output = run_program(argv, context.deadline_s / 4, MAX_LIST_BYTES)
    if output.exit_code != 0:
        raise failed(program, f"ended with exit code {output.exit_code}")
    lines = output.stdout.decode("utf-8", "replace").split()
    if not all(_ID.fullmatch(line) for line in lines):
        raise failed(program, "its answer is not a list of containers")
    return lines


def _inspected(context: Context, runtime: Runtime, identities: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """What `inspect` says. One that was removed meanwhile makes it end with an error and is left out of the answer."""
    parts = [identities[i : i + INSPECTED_AT_ONCE] for i in range(0, len(identities), INSPECTED_AT_ONCE)]
    for part in parts:
        argv = (*runtime.argv, "inspect", "--type", "container", *part)
        timeout_s = context.deadline_s / 2 / len(parts)
        yield from rows_of(runtime.argv[0], run_json(argv, timeout_s, exit_codes=(0, 1, 125)))


def _items(runtime: str, wrong: Sorted) -> Iterator[Measurement]:
    kinds = (
        ("unhealthy", wrong.unhealthy, Status.WARNING, UNHEALTHY),
        ("restarting", wrong.restarting, Status.CRITICAL, RESTARTING),
        ("failed", wrong.failed, Status.CRITICAL, FAILED),
    )
    for kind, names, status, code in kinds:
        facts: dict[str, Fact] = {"names": _shown(names)}
        problem = Problem(status, code, facts) if names else None
        yield Measurement(f"{runtime}/{kind}", {"affected_containers": float(len(names))}, problem=problem)


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:MAX_NAMES])
    return f"{shown} (+{len(names) - MAX_NAMES})" if len(names) > MAX_NAMES else shown


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def usable() -> str | None:
    """Say where there are no containers of the system's own."""
    return None if psutil.LINUX else "containers are looked at on Linux only"


CHECK = CheckKind(
    name="containers",
    measure=measure,
    metrics=(
        Metric("containers", "Containers of the runtime, running or not"),
        Metric("running_containers", "Containers that run"),
        Metric("uninspected_containers", "Containers beyond the number that one run looks at"),
        Metric("affected_containers", "Containers that the item is about"),
    ),
    codes=(UNHEALTHY, RESTARTING, FAILED, UNREACHABLE, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "restarts",
            SettingType.INTEGER,
            "how many restarts between two looks mean that a container does not stay up",
            3,
            minimum=1,
        ),
        Setting("ignore", SettingType.TEXT_LIST, "names of containers that do not count, as globs", ()),
    ),
    every_s=300.0,
    timeout_s=60.0,
    usable=usable,
)
