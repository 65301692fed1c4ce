"""Containers: judged on states that others published, and a real Podman whose containers are sick, loop and fail."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import containers
from gengfu_checks.local.containers import (
    CHECK,
    Runtime,
    container_of,
    docker_here,
    is_failed,
    measure_runtime,
    podman_here,
    reach,
    sort_out,
)
from gengfu_checks.model import Measurement, Status

# Parts of what `docker inspect` printed, as published in the issues named behind them.
RUNNING = {  # docker/cli #4779
    "Id": "7627dbe3d70a679ebd69cc13bcefb94aae0fe845eee22f188e7f821c03bcab8f",
    "Name": "/nodejs",
    "State": {
        "Status": "running",
        "Running": True,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "ExitCode": 0,
    },
    "RestartCount": 0,
    "HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
}
UNHEALTHY = {  # moby/moby #42693
    "Name": "/sick",
    "State": {
        "Status": "running",
        "Running": True,
        "Restarting": False,
        "ExitCode": 0,
        "Health": {"Status": "unhealthy", "FailingStreak": 43, "Log": [{"ExitCode": 1, "Output": ""}]},
    },
}
RESTARTING = {  # pytest-dev/pytest-testinfra #659; the count is ours
    "Name": "/my_container",
    "State": {"Status": "restarting", "Running": True, "Restarting": True, "Dead": False, "Pid": 0, "ExitCode": 1},
    "RestartCount": 7,
}
FAILED = {  # moby/moby #48870
    "Name": "/mycontainer",
    "State": {
        "Status": "exited",
        "Running": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "ExitCode": 128,
        "Error": "context canceled",
        "Health": {"Status": "unhealthy", "FailingStreak": 2},
    },
    "RestartCount": 0,
    "HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
}


def test_published_states() -> None:
    wrong = sort_out([container_of(row) for row in (RUNNING, UNHEALTHY, RESTARTING, FAILED)], {}, 3)
    assert (wrong.unhealthy, wrong.restarting, wrong.failed) == (["sick"], ["my_container"], ["mycontainer"])


@pytest.mark.parametrize(
    ("status", "exit_code", "policy", "out_of_memory", "failed"),
    [
        ("exited", 1, "always", False, True),
        ("exited", 1, "on-failure", False, True),
        ("exited", 1, "no", False, False),
        ("exited", 1, "", False, False),
        ("exited", 0, "always", False, False),
        ("exited", 137, "unless-stopped", False, False),
        ("exited", 143, "unless-stopped", False, False),
        ("exited", 137, "unless-stopped", True, True),
        ("stopped", 2, "always", False, True),
        ("running", 1, "always", False, False),
        ("created", 0, "always", False, False),
        ("created", 127, "no", False, False),
        ("dead", 0, "no", False, True),
    ],
)
def test_what_should_run_and_does_not(
    status: str, exit_code: int, policy: str, out_of_memory: bool, failed: bool
) -> None:
    state = {"Status": status, "ExitCode": exit_code, "OOMKilled": out_of_memory}
    assert is_failed(container_of({"State": state, "HostConfig": {"RestartPolicy": {"Name": policy}}})) is failed


def test_a_container_that_never_started_although_it_should_run() -> None:
    """What `docker inspect` of Docker 20.10.24 (Debian 12) said here of a container whose program does not exist."""
    state = {
        "Status": "created",
        "Running": False,
        "OOMKilled": False,
        "Dead": False,
        "ExitCode": 127,
        "Error": "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
        'process: exec: "/bin/nofile": stat /bin/nofile: no such file or directory: unknown',
    }
    policy = {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}
    row = {"Name": "/nofile", "State": state, "RestartCount": 0, "HostConfig": policy}
    assert sort_out([container_of(row)], {}, 3).failed == ["nofile"]


def test_restarts_count_from_look_to_look() -> None:
    row = {"Id": "a", "Name": "loop", "State": {"Status": "running"}, "RestartCount": 12}
    loop = container_of(row)
    assert sort_out([loop], {}, 3).restarting == [], "all that may have been months ago"
    assert sort_out([loop], {"a": 10}, 3).restarting == []
    assert sort_out([loop], {"a": 9}, 3).restarting == ["loop"]
    once = container_of({**row, "State": {"Status": "restarting"}, "RestartCount": 1})
    assert sort_out([once], {}, 3).restarting == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(FAILED)), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["Id", "Name", "State", "HostConfig", "RestartCount"]), ANYTHING))
def test_whatever_is_answered_is_judged(row: dict[str, Any]) -> None:
    container = container_of(row)
    sort_out([container], {}, 1)
    assert len(container.name) <= containers.MAX_NAME_CHARS


def test_many_names_are_cut() -> None:
    rows = [{**UNHEALTHY, "Name": f"/c{number:02}"} for number in range(12)]
    wrong = sort_out([container_of(row) for row in rows], {}, 3)
    (item,) = [m for m in containers._items("docker", wrong) if m.problem]
    assert item.problem is not None
    assert item.problem.facts == {"names": "c00, c01, c02, c03, c04, c05, c06, c07 (+4)"}


# Docker: a script that stands for its client, and real sockets


@pytest.fixture
def listening(short_path: Path) -> Iterator[Path]:
    """A socket behind which somebody answers as Docker does."""
    path = short_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=answer_pings, args=(server,))
        thread.start()
        yield path
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def answer_pings(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            assert connection.recv(4096).startswith(b"GET /_ping ")
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")


def docker(folder: Path, listening: Path, ps: str, inspect: str) -> Runtime:
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\ncase $1 in\nps) {ps};;\ninspect) {inspect};;\nesac\n")
    path.chmod(0o755)
    return Runtime("docker", (str(path),), listening)


def look(instance: Any, runtime: Runtime) -> dict[str, Measurement]:
    return {m.item: m for m in measure_runtime(instance.context(), runtime)}


def test_a_docker_and_one_container_that_goes_meanwhile(
    bench: Callable[..., Any], tmp_path: Path, listening: Path
) -> None:
    (tmp_path / "answer").write_text(json.dumps([RUNNING, UNHEALTHY]))
    ids = "\\n".join(character * 64 for character in "abc")
    runtime = docker(tmp_path, listening, f"printf '{ids}\\n'", f"cat {tmp_path}/answer; exit 1")
    found = look(bench(CHECK), runtime)
    assert found["docker"].metrics == {"containers": 3, "running_containers": 2, "uninspected_containers": 0}
    assert {item: m.problem.code for item, m in found.items() if m.problem} == {
        "docker/unhealthy": "containers.unhealthy"
    }
    assert not [m for m in look(bench(CHECK, ignore=["si*"]), runtime).values() if m.problem]


def test_without_containers_nothing_is_wrong(bench: Callable[..., Any], tmp_path: Path, listening: Path) -> None:
    found = look(bench(CHECK), docker(tmp_path, listening, "true", "exit 1"))
    assert found["docker"].metrics["containers"] == 0
    assert not [m for m in found.values() if m.problem]


def test_a_crowd_is_inspected_in_parts_and_the_rest_counted(
    bench: Callable[..., Any], tmp_path: Path, listening: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MAX_CONTAINERS", 25)
    ids = "\\n".join(f"{number:064x}" for number in range(30))
    runtime = docker(tmp_path, listening, f"printf '{ids}\\n'", f"echo $# >>{tmp_path}/calls; echo '[]'")
    found = look(bench(CHECK), runtime)
    assert found["docker"].metrics["uninspected_containers"] == 5
    assert (tmp_path / "calls").read_text().split() == ["23", "8"]


@pytest.mark.parametrize(
    ("ps", "inspect"),
    [
        ("exit 1", "true"),
        ("echo rubbish", "true"),
        ("sleep 30", "true"),
        ("echo aaaaaaaaaaaa", "echo rubbish"),
        ("echo aaaaaaaaaaaa", "echo '{}'"),
        ("echo aaaaaaaaaaaa", "exit 2"),
    ],
)
def test_a_client_that_fails_is_told_of(
    bench: Callable[..., Any], tmp_path: Path, listening: Path, ps: str, inspect: str
) -> None:
    context = bench(CHECK).context()
    context.deadline_s = 1.0
    (only,) = measure_runtime(context, docker(tmp_path, listening, ps, inspect))
    assert only.problem is not None
    assert (only.item, only.problem.code) == ("docker", "check.program_failed")


def test_a_missing_client_says_what_to_install(bench: Callable[..., Any], listening: Path) -> None:
    problem = look(bench(CHECK), Runtime("docker", ("docker",), listening))["docker"].problem
    assert problem is not None
    assert "install" in str(problem.facts["reason"])


def test_a_daemon_that_cannot_be_reached(bench: Callable[..., Any], short_path: Path) -> None:
    path = short_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))  # and does not listen: the daemon is gone
    problem = look(bench(CHECK), Runtime("docker", ("/bin/true",), path))["docker"].problem
    assert problem is not None
    assert (problem.code, problem.facts) == (
        "containers.unreachable",
        {"target": str(path), "reason": "Connection refused"},
    )
    gone = reach(short_path / "gone.sock")
    assert gone is not None
    assert gone.facts["reason"] == "No such file or directory"


def test_a_daemon_that_hangs_or_hangs_up(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a dockerd does that was stopped (SIGSTOP), or that systemd cannot start behind its socket."""
    monkeypatch.setattr(containers, "ANSWER_TIMEOUT_S", 0.2)
    path = short_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        problem = reach(path)
        assert problem is not None
        assert (problem.status, problem.code) == (Status.CRITICAL, "containers.unreachable")
        assert problem.facts["reason"] == "Connection timed out"
        closer = threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(2)])
        closer.start()
        problem = reach(path)
        closer.join()
    assert problem is not None
    assert problem.facts["reason"] in ("Connection reset by peer", "Broken pipe")


def test_a_socket_that_may_not_be_used_needs_rights(listening: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    listening.parent.chmod(0o755)
    listening.chmod(0o600)
    assert reach(listening) is None
    os.seteuid(65534)
    try:
        problem = reach(listening)
    finally:
        os.seteuid(0)
    assert problem is not None
    assert (problem.code, problem.facts["needs"]) == ("check.needs_rights", "group docker")


def test_what_is_not_there_is_not_looked_at(tmp_path: Path, listening: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"dockerd": "/usr/bin/dockerd"}
    monkeypatch.setattr(containers, "find_program", installed.get)
    monkeypatch.setattr(containers, "DOCKERD_BY_HAND", tmp_path / "dockerd")
    assert list(docker_here(tmp_path / "none", tmp_path / "none.sock")) == []
    assert [runtime.name for runtime in docker_here(tmp_path / "none", listening)] == ["docker"]
    (tmp_path / "containers/a").mkdir(parents=True)
    assert [runtime.name for runtime in docker_here(tmp_path / "containers", tmp_path / "none.sock")] == ["docker"]
    installed.clear()
    assert list(docker_here(tmp_path / "containers", tmp_path / "none.sock")) == []
    (tmp_path / "dockerd").touch()
    assert [runtime.name for runtime in docker_here(tmp_path / "containers", tmp_path / "none.sock")] == ["docker"]
    podman = listening.with_name("podman.sock")
    listening.rename(podman)
    listening.symlink_to(podman)  # as the package podman-docker has it
    assert list(docker_here(tmp_path / "containers", listening)) == []
    assert list(podman_here(tmp_path / "none")) == []


# Podman


@pytest.fixture
def podman(short_path: Path, requires_program: Callable[[str, str], str]) -> Iterator[Runtime]:
    """A real Podman with a store of its own; skipped where it cannot run containers."""
    program = requires_program("podman", "apt-get install podman")
    requires_program("runc", "apt-get install runc")
    busybox = requires_program("busybox", "apt-get install busybox-static")
    if os.geteuid() != 0:
        pytest.skip("the system's containers are root's")
    root = short_path / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "true", "false", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    argv = [program, "--root", f"{short_path}/store", "--runroot", f"{short_path}/run", "--tmpdir", f"{short_path}/tmp"]
    argv += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"]
    runtime = Runtime("podman", tuple(argv))
    try:
        done = run(runtime, root, "good", "/bin/sleep", "1000")
        if done.returncode != 0:
            pytest.skip(f"no containers can be run here: {done.stderr.strip()[-200:]}")
        yield runtime
    finally:
        subprocess.run([*argv, "rm", "--all", "--force", "--time", "0"], capture_output=True, timeout=60)
        # What was just ending is tidied up by processes of its own, which write into the store.
        deadline = time.monotonic() + 20
        while any(str(short_path) in word for word in _command_lines()) and time.monotonic() < deadline:
            time.sleep(0.05)


def _command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield from process.cmdline()


def run(runtime: Runtime, root: Path, name: str, *command: str, options: tuple[str, ...] = ()) -> Any:
    limits = ("--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    argv = [*runtime.argv, "run", "--detach", "--name", name, *limits, *options, "--rootfs", str(root), *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_a_real_podman(podman: Runtime, bench: Callable[..., Any], short_path: Path) -> None:
    root, instance = short_path / "rootfs", bench(CHECK)
    assert run(podman, root, "job", "/bin/false").returncode == 0
    run(podman, root, "broken", "/bin/false", options=("--restart=on-failure:1",))
    sick = ("--health-cmd", "/bin/false", "--health-retries", "1", "--health-interval", "disable")
    run(podman, root, "sick", "/bin/sleep", "1000", options=sick)
    subprocess.run([*podman.argv, "healthcheck", "run", "sick"], capture_output=True, timeout=60)
    run(podman, root, "loop", "/bin/sh", "-c", "sleep 0.05; exit 3", options=("--restart=always",))
    found = look(instance, podman)
    assert found["podman"].metrics["containers"] == 5
    assert found["podman/restarting"].problem is None, "nothing to compare with yet"
    deadline = time.monotonic() + 30
    while found["podman/restarting"].problem is None or found["podman/failed"].problem is None:
        assert time.monotonic() < deadline
        time.sleep(1.0)
        found = look(instance, podman)
    names = {item: m.problem.facts["names"] for item, m in found.items() if m.problem}
    assert names == {"podman/unhealthy": "sick", "podman/restarting": "loop", "podman/failed": "broken"}
    remove = [*podman.argv, "rm", "--force", "--ignore", "--time", "0", "sick", "loop", "broken"]
    while found["podman"].metrics["containers"] > 2:  # one that is just starting again may escape
        assert time.monotonic() < deadline
        subprocess.run(remove, capture_output=True, timeout=60)
        found = look(instance, podman)
    assert not [m for m in found.values() if m.problem]
    assert found["podman"].metrics == {"containers": 2, "running_containers": 1, "uninspected_containers": 0}


def test_the_system_s_podman_needs_root(bench: Callable[..., Any]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    context = bench(CHECK).context()
    os.seteuid(65534)
    try:
        (only,) = measure_runtime(context, Runtime("podman", ("/bin/false",)))
    finally:
        os.seteuid(0)
    assert only.problem is not None
    assert (only.problem.code, only.problem.facts) == ("check.needs_rights", {"needs": "root", "target": "podman"})
