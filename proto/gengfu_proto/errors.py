"""What can be wrong with a message.

MessageError
├── MalformedMessage    not the bytes of the expected message, or values that it may not hold
└── LimitExceeded       more or longer than an agent may send
"""

from __future__ import annotations


class MessageError(Exception):
    """Base; the text says in one line what is wrong and where."""


class MalformedMessage(MessageError):
    """Cannot be read as the message it should be."""


class LimitExceeded(MessageError):
    """Well-formed, but larger than the limits of this contract."""
