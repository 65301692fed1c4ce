"""What can be wrong with a message, and with the token that lets a machine in.

MessageError
├── MalformedMessage    not the bytes of the expected message, or values that it may not hold
└── LimitExceeded       more or longer than an agent may send
InvalidToken            not an enrolment token, or one that was copied wrongly
"""

from __future__ import annotations


class MessageError(Exception):
    """Base; the text says in one line what is wrong and where."""


class MalformedMessage(MessageError):
    """Cannot be read as the message it should be."""


class LimitExceeded(MessageError):
    """Well-formed, but larger than the limits of this contract."""


class InvalidToken(Exception):
    """The text says what is wrong and holds no part of the token."""
