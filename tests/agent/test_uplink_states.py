"""The table of the connection's states: complete, reachable, and read as it is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.uplink.states import TRANSITIONS, Event, InvalidTransition, State, follow

E, S = Event, State


@pytest.mark.parametrize(
    ("story", "states"),
    [
        ([E.DUE, E.CONNECTED, E.WELCOMED], [S.CONNECTING, S.GREETING, S.STREAMING]),
        ([E.DUE, E.LOST, E.DUE, E.REFUSED, E.DUE], [S.CONNECTING, S.OFFLINE, S.CONNECTING, S.BLOCKED, S.CONNECTING]),
        ([E.DUE, E.CONNECTED, E.LOST], [S.CONNECTING, S.GREETING, S.OFFLINE]),
        (
            [E.DUE, E.CONNECTED, E.WELCOMED, E.LEAVE, E.LOST],
            [S.CONNECTING, S.GREETING, S.STREAMING, S.LEAVING, S.OFFLINE],
        ),
        ([E.EXPIRED, E.RENEWED, E.DUE], [S.RECOVERING, S.OFFLINE, S.CONNECTING]),
        ([E.EXPIRED, E.REFUSED, E.EXPIRED, E.LOST], [S.RECOVERING, S.BLOCKED, S.RECOVERING, S.OFFLINE]),
    ],
)
def test_stories(story: list[Event], states: list[State]) -> None:
    state, seen = S.OFFLINE, []
    for event in story:
        state = follow(state, event)
        seen.append(state)
    assert seen == states


@given(st.lists(st.sampled_from(Event), max_size=20))
def test_only_what_the_table_holds_is_possible_and_stopped_is_the_end(events: list[Event]) -> None:
    state = S.OFFLINE
    for event in events:
        if (state, event) in TRANSITIONS:
            state = follow(state, event)
        else:
            with pytest.raises(InvalidTransition, match=f"{event.name} has no meaning in state {state.name}"):
                follow(state, event)
    if E.STOP in events:
        assert state is S.STOPPED


def test_every_state_but_stopped_can_be_stopped_and_leads_back_to_streaming() -> None:
    for state in State:
        if state is S.STOPPED:
            assert not [1 for (source, _) in TRANSITIONS if source is S.STOPPED]
            continue
        assert follow(state, E.STOP) is S.STOPPED
        assert S.STREAMING in reachable_from(state)


def test_a_stream_begins_with_the_greeting_alone() -> None:
    assert [key for key, target in TRANSITIONS.items() if target is S.STREAMING] == [(S.GREETING, E.WELCOMED)]


def reachable_from(state: State) -> set[State]:
    found = {state}
    while True:
        more = {target for (source, _), target in TRANSITIONS.items() if source in found} - found
        if not more:
            return found
        found |= more
