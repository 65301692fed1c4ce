"""Who holds an identity, and who is a copy: whole lives of state folders that are copied, restored and moved at random.

The model keeps what a folder would hold on its disk (the session it was given last) and which process runs on it; the
collector is the decision itself with what it keeps in its table, which may be put back from a copy, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gengfu_collector.intake import sessions
from gengfu_collector.intake.copies import Claim, Copy, judge
from gengfu_collector.intake.sessions import is_of_process

KEY, UID = b"key", "abcdefghijklmnop"

_numbers = itertools.count(1)


def serial_of(session: bytes) -> int:
    return sessions.serial_of(KEY, UID, session)


def fresh_bytes() -> bytes:
    return next(_numbers).to_bytes(16, "big")


@dataclass
class Folder:
    """A state folder on a machine, and the process that runs on it."""

    machine: str
    session: bytes = b""
    instance: bytes = field(default_factory=fresh_bytes)

    def copied(self, machine: str) -> Folder:
        return Folder(machine, self.session)

    def restart(self) -> None:
        self.instance = fresh_bytes()


class Collector:
    """What the collector keeps of one agent."""

    def __init__(self) -> None:
        self.holder: Copy = (b"", "")
        self.kept_out: set[Copy] = set()
        self.left_behind: set[Copy] = set()

    def greet(self, folder: Folder, *, welcome_arrives: bool = True) -> Claim:
        """A Hello while nobody is connected."""
        shown = (folder.session, folder.machine)
        claim = judge(self.holder, shown, folder.instance, self.kept_out, self.left_behind, serial_of)
        if claim is Claim.KEPT_OUT:
            return claim
        if claim is Claim.BACK:
            self.left_behind.discard(shown)
            self.kept_out.add(self.holder)
        elif claim is Claim.OLDER and not is_of_process(self.holder[0], folder.instance):
            self.left_behind.add(self.holder)
        serial = 1 + max(serial_of(self.holder[0]), serial_of(folder.session))
        given_now = sessions.new_session(KEY, UID, serial, fresh_bytes(), folder.instance)
        self.holder = (given_now, folder.machine or self.holder[1])
        if welcome_arrives:
            folder.session = given_now
        return claim


def test_a_machine_by_itself_is_never_a_copy_whatever_becomes_of_its_welcomes() -> None:
    collector, folder = Collector(), Folder("m")
    for arrives in (True, False, False, True, False, True):
        assert collector.greet(folder, welcome_arrives=arrives) in (Claim.HOLDER, Claim.OLDER)
        folder.restart()
    assert collector.kept_out == set()


@given(st.lists(st.sampled_from(["connect", "lost welcome", "restart", "snapshot", "restore", "damage", "move"])))
def test_one_folder_that_is_restored_moved_or_damaged_is_never_kept_out(deeds: list[str]) -> None:
    """A restored snapshot is older than what was left behind; only going forward again would look like a second one."""
    collector, folder = Collector(), Folder("m")
    snapshot = folder.copied("m")
    for deed in deeds:
        if deed == "snapshot":
            snapshot = replace(folder)
        elif deed == "restore":
            folder = Folder(folder.machine, snapshot.session)
        elif deed == "damage":
            folder = Folder(folder.machine)
        elif deed == "move":
            folder = folder.copied(fresh_bytes().hex())
            snapshot = replace(folder)
        elif deed == "restart":
            folder.restart()
        else:
            claim = collector.greet(folder, welcome_arrives=deed == "connect")
            assert claim in (Claim.HOLDER, Claim.OLDER)
    assert collector.kept_out == set()


_DEEDS = ["connect", "lost welcome", "restart", "snapshot", "restore", "move", "copy database", "put database back"]
_COPIES = ["connect", "copy database", "snapshot", "restart", "connect"]


@example([*_COPIES, "put database back", "connect", "restore", "connect"])
@example([*_COPIES, "restore", "connect", "put database back", "connect", "restore", "connect"])
@given(st.lists(st.sampled_from(_DEEDS)))
def test_one_folder_is_never_kept_out_when_the_database_is_put_back_as_well(deeds: list[str]) -> None:
    """Damage is left out: who shows nothing of what it was may as well be another that goes on."""
    collector, folder = Collector(), Folder("m")
    snapshot, database = folder.copied("m"), deepcopy(collector)
    for deed in deeds:
        if deed == "copy database":
            database = deepcopy(collector)
        elif deed == "put database back":
            collector = deepcopy(database)
        elif deed == "snapshot":
            snapshot = replace(folder)
        elif deed == "restore":
            folder = Folder(folder.machine, snapshot.session)
        elif deed == "move":
            folder = folder.copied(fresh_bytes().hex())
            snapshot = replace(folder)
        elif deed == "restart":
            folder.restart()
        else:
            collector.greet(folder, welcome_arrives=deed == "connect")
            assert collector.kept_out == set()


_MOVES = st.tuples(st.integers(0, 1), st.sampled_from(["connect", "lost welcome", "restart"]))


@given(st.lists(_MOVES), st.lists(_MOVES), st.booleans())
def test_two_folders_are_found_also_after_the_database_was_put_back(
    before: list[tuple[int, str]], after: list[tuple[int, str]], same_machine: bool
) -> None:
    collector, original = Collector(), Folder("m")
    collector.greet(original)
    folders = [original, original.copied("m" if same_machine else "n")]

    def go(moves: Iterable[tuple[int, str]]) -> None:
        for which, move in moves:
            if move == "restart":
                folders[which].restart()
            else:
                collector.greet(folders[which], welcome_arrives=move == "connect")

    go(before)
    database = deepcopy(collector)
    go(after)
    collector = database
    claims = [[collector.greet(folder) for folder in folders] for _ in range(5)]
    assert sorted(claims[-1], key=str) == [Claim.HOLDER, Claim.KEPT_OUT]
    assert claims[-1] == claims[-2]


@pytest.mark.parametrize("forged", ["serial", "nonce", "instance", "agent", "cut"])
def test_a_session_proves_its_serial_only_as_it_was_given(forged: str) -> None:
    given_now = sessions.new_session(KEY, UID, 7, b"n" * sessions.NONCE_BYTES, b"instance")
    assert (serial_of(given_now), is_of_process(given_now, b"instance")) == (7, True)
    at = {"serial": 7, "nonce": 8, "instance": -1, "agent": 0, "cut": 0}[forged]
    other = bytearray(given_now)
    other[at] ^= forged != "agent"
    uid = "another" if forged == "agent" else UID
    assert sessions.serial_of(KEY, uid, bytes(other[:-1] if forged == "cut" else other)) == 0
    assert [serial_of(text) for text in (b"", b"older", bytes(64))] == [0, 0, 0]


@pytest.mark.parametrize("same_machine", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("copied_at", ["before the first stream", "later", "at the last session"])
def test_of_two_folders_that_take_turns_one_is_kept_out_for_good_and_the_other_never_is(
    same_machine: bool, restarts: bool, copied_at: str
) -> None:
    collector, original = Collector(), Folder("m")
    if copied_at == "before the first stream":
        copy = original.copied("m" if same_machine else "n")
    else:
        collector.greet(original)
        copy = original.copied("m" if same_machine else "n")
        if copied_at == "later":
            collector.greet(original)
    claims: dict[str, list[Claim]] = {"original": [], "copy": []}
    for _ in range(6):
        for name, folder in (("copy", copy), ("original", original)):
            if restarts:
                folder.restart()
            claims[name].append(collector.greet(folder))
    out = [name for name, seen in claims.items() if Claim.KEPT_OUT in seen]
    assert len(out) == 1
    other = "original" if out == ["copy"] else "copy"
    assert set(claims[out[0]][2:]) == {Claim.KEPT_OUT}
    assert set(claims[other][2:]) == {Claim.HOLDER}
    if copied_at == "before the first stream":
        assert other == "copy", "who came first holds the identity"
    elif copied_at == "later" or not same_machine:
        # Else the two are alike to the last bit, and nobody can say which is the original.
        assert other == "original"


def test_a_copy_that_is_kept_out_does_not_harm_the_holder_that_shows_the_same_session() -> None:
    """Both were given it: the copy is known, and the holder comes back before it was given another one."""
    collector, original = Collector(), Folder("m")
    collector.greet(original)
    copy = original.copied("m")
    collector.kept_out.add((copy.session, copy.machine))
    assert collector.greet(copy) is Claim.KEPT_OUT
    assert collector.greet(original) is Claim.HOLDER
    assert collector.greet(copy) is Claim.KEPT_OUT


class TwoFolders(RuleBasedStateMachine):
    """An original and a copy, each with lost Welcomes and restarts: the collector settles on one of them."""

    @initialize(machine=st.sampled_from(["m", "n"]))
    def copy(self, machine: str) -> None:
        self.collector = Collector()
        self.folders = [Folder("m")]
        self.collector.greet(self.folders[0])
        self.folders.append(self.folders[0].copied(machine))
        self.out: set[int] = set()

    @rule(which=st.integers(0, 1), arrives=st.booleans())
    def connect(self, which: int, arrives: bool) -> None:
        claim = self.collector.greet(self.folders[which], welcome_arrives=arrives)
        if which in self.out:
            assert claim is Claim.KEPT_OUT
        if claim is Claim.KEPT_OUT:
            self.out.add(which)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.folders[which].restart()

    @precondition(lambda self: hasattr(self, "out"))
    @invariant()
    def never_both(self) -> None:
        assert len(self.out) < 2


TestTwoFolders = TwoFolders.TestCase
