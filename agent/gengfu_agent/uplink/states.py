"""The life of the connection as a table: which state follows which on what. Pure."""

from __future__ import annotations

import enum

from gengfu_agent.errors import AgentError


class State(enum.Enum):
    """Where the connection stands; the values are what `status` shows."""

    OFFLINE = "offline"
    """Waiting for the time of the next attempt."""
    CONNECTING = "connecting"
    """Name, address, TLS."""
    GREETING = "greeting"
    """Hello is sent, Welcome is not here yet."""
    STREAMING = "streaming"
    """Reports go up, acknowledgements come down."""
    LEAVING = "leaving"
    """Nothing new goes up: last acknowledgements are awaited before this side ends the stream."""
    RECOVERING = "recovering"
    """The certificate is over: asking for a new one by the binding key."""
    BLOCKED = "blocked"
    """The collector keeps this agent out; it asks again now and then."""
    STOPPED = "stopped"
    """The agent has ended."""


class Event(enum.Enum):
    """What moves the connection on."""

    DUE = "the wait is over"
    EXPIRED = "the certificate is over"
    CONNECTED = "the collector took Hello"
    WELCOMED = "Welcome is here"
    LEAVE = "this side says goodbye: new certificate, new numbering or drain"
    RENEWED = "a new certificate is stored"
    LOST = "the stream ended, failed or fell silent"
    REFUSED = "the collector keeps this agent out"
    STOP = "the agent is told to stop"


class InvalidTransition(AgentError):
    """An event came in a state in which it has no meaning; a defect of this program."""


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.OFFLINE, Event.DUE): State.CONNECTING,
    (State.OFFLINE, Event.EXPIRED): State.RECOVERING,
    (State.BLOCKED, Event.DUE): State.CONNECTING,
    (State.BLOCKED, Event.EXPIRED): State.RECOVERING,
    (State.RECOVERING, Event.RENEWED): State.OFFLINE,
    (State.RECOVERING, Event.LOST): State.OFFLINE,
    (State.RECOVERING, Event.REFUSED): State.BLOCKED,
    (State.CONNECTING, Event.CONNECTED): State.GREETING,
    (State.CONNECTING, Event.LOST): State.OFFLINE,
    (State.CONNECTING, Event.REFUSED): State.BLOCKED,
    (State.GREETING, Event.WELCOMED): State.STREAMING,
    (State.GREETING, Event.LOST): State.OFFLINE,
    (State.GREETING, Event.REFUSED): State.BLOCKED,
    (State.STREAMING, Event.LEAVE): State.LEAVING,
    (State.STREAMING, Event.LOST): State.OFFLINE,
    (State.STREAMING, Event.REFUSED): State.BLOCKED,
    (State.LEAVING, Event.LOST): State.OFFLINE,
    (State.LEAVING, Event.REFUSED): State.BLOCKED,
    **{(state, Event.STOP): State.STOPPED for state in State if state is not State.STOPPED},
}


def follow(state: State, event: Event) -> State:
    """Return the state after `event`; raises InvalidTransition."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(f"{event.name} has no meaning in state {state.name}") from None
