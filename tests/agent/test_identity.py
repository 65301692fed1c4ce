"""The identity's files: private, replaced in one step, and named when they are wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gengfu_agent.errors import IdentityDamaged, NotEnrolled
from gengfu_agent.identity import Agent, Credentials, Identity, make_private_folder, write_private

AGENT = Agent("agent-1", "收银台 1", "10.0.0.1:8422", "10.0.0.1:8421")
OLD = Credentials(b"old key", b"old certificate", 1.0, 2.0)
NEW = Credentials(b"new key" * 1000, b"new certificate" * 1000, 3.0, 4.0)


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    folder = tmp_path / "deep" / "state"
    make_private_folder(folder)
    return Identity(folder)


def test_what_is_stored_is_read_again(identity: Identity) -> None:
    assert not identity.is_enrolled()
    identity.store_credentials(OLD)
    identity.store_roots(b"roots")
    identity.store_agent(AGENT)
    assert identity.is_enrolled()
    assert (identity.agent(), identity.credentials(), identity.roots_pem()) == (AGENT, OLD, b"roots")


def test_an_empty_folder_says_what_to_do(identity: Identity) -> None:
    with pytest.raises(NotEnrolled, match=r"gengfu-agent enrol --collector HOST:PORT --token TOKEN"):
        identity.agent()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"key_pem": 1}', b"\xff\xfe", b'{"agent_id": "../x"}'])
def test_damaged_files_are_named(identity: Identity, content: bytes) -> None:
    for name, read in (("agent.json", identity.agent), ("credentials.json", identity.credentials)):
        identity.write(name, content)
        with pytest.raises(IdentityDamaged, match=f"{name}: .*enrol this machine again"):
            read()


def test_missing_files_are_named(identity: Identity) -> None:
    for name, read in (
        ("credentials.json", identity.credentials),
        ("roots.pem", identity.roots_pem),
        ("binding_key.pem", identity.binding_key_pem),
    ):
        with pytest.raises(IdentityDamaged, match=name):
            read()


def test_an_agent_id_that_is_none_is_not_taken(identity: Identity) -> None:
    identity.store_agent(Agent("../../x", "", "", ""))
    with pytest.raises(IdentityDamaged, match="agent id"):
        identity.agent()


def test_keys_are_kept_until_their_certificate_is_there(identity: Identity) -> None:
    keys = iter([b"first", b"second"])
    assert identity.pending_key(lambda: next(keys)) == b"first"
    assert identity.pending_key(lambda: next(keys)) == b"first"
    identity.store_credentials(Credentials(b"first", b"", 0.0, 0.0))
    # A crash before the pending key was forgotten: it is in use now and must not be asked for again.
    assert identity.pending_key(lambda: next(keys)) == b"second"
    identity.forget_pending_key()
    identity.forget_pending_key()
    assert identity.pending_key(lambda: b"third") == b"third"


def test_modes(identity: Identity) -> None:
    before = os.umask(0)
    try:
        identity.store_credentials(OLD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(identity.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((identity.folder / "credentials.json").stat().st_mode) == 0o600
    identity.folder.chmod(0o755)
    make_private_folder(identity.folder)
    assert stat.S_IMODE(identity.folder.stat().st_mode) == 0o700


def test_key_and_certificate_never_differ_when_the_process_is_killed_while_it_replaces_them(identity: Identity) -> None:
    """Readers of the file, while another process replaces it as fast as it can and is killed: never a mixture."""
    identity.store_credentials(OLD)
    code = (
        "import sys; from pathlib import Path; from gengfu_agent.identity import Credentials, Identity\n"
        "identity = Identity(Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    identity.store_credentials(Credentials(b'new key' * 1000, b'new certificate' * 1000, 3.0, 4.0))\n"
        "    identity.store_credentials(Credentials(b'old key', b'old certificate', 1.0, 2.0))\n"
    )
    for _ in range(3):
        command = [sys.executable, "-c", code, str(identity.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            seen = [identity.credentials() for _ in range(200)]
            writer.kill()
        assert {NEW, OLD}.issuperset(seen)
        assert identity.credentials() in (OLD, NEW)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_secrets_do_not_print(identity: Identity) -> None:
    assert "key" not in repr(OLD).replace("key_pem", "")
    identity.store_agent(AGENT)
    assert json.loads((identity.folder / "agent.json").read_text())["asset"] == "收银台 1"
