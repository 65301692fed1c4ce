"""What one agent may ask of the stream listener, by a clock of the test's own."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from gengfu_collector.errors import Overloaded
from gengfu_collector.gateway.door import DEAF_FOR_S, MAX_GREETINGS, Door


def test_of_many_refusals_at_once_few_are_told_in_a_message() -> None:
    door = Door(lambda: 0.0)
    with door.enter("u"):
        pass
    with ExitStack() as refusals:
        told = [refusals.enter_context(door.refuse("u")) for _ in range(MAX_GREETINGS + 2)]
    assert told == [True] * MAX_GREETINGS + [False] * 2
    with door.refuse("u") as may_tell:
        assert may_tell


def test_who_takes_nothing_is_kept_out_for_a_while_and_sent_nothing() -> None:
    now_s = [5.0]
    door = Door(lambda: now_s[0])
    with door.enter("deaf"), door.enter("other"):
        door.note_deaf("deaf")
    now_s[0] += DEAF_FOR_S - 1
    with pytest.raises(Overloaded, match="took nothing"), door.enter("deaf"):
        pass
    with door.refuse("deaf") as may_tell:
        assert not may_tell
    with door.enter("other"), door.refuse("other") as may_tell:
        assert may_tell
    now_s[0] += 1
    with door.enter("deaf"), door.refuse("deaf") as may_tell:
        assert may_tell
