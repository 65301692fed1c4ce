"""What can go wrong in the agent.

AgentError
├── WrongUse          a command was given something that it cannot use
├── ConfigError       agent.toml cannot be read or says something that it may not; names file and line
├── AlreadyRunning    another agent runs on this state folder
├── PlanUnreadable    the kept plan is not a plan
├── InventoryFailed   the helper process that looks at the machine did not do its work
├── IdentityError
│   ├── NotEnrolled       the state folder holds no identity
│   ├── AlreadyEnrolled   it holds one already
│   ├── IdentityDamaged   its files cannot be read or do not belong together
│   └── KeysUnavailable   the helper process that makes keys did not do its work
├── UplinkError
│   ├── Unreachable       nobody answers at the collector's address (exit code 3)
│   ├── Untrusted         who answers is not the collector that this agent was told to trust (1)
│   ├── WrongClock        the certificates are not valid by this machine's clock (1)
│   ├── Refused           the collector does not let this machine in, and says why (1)
│   └── BrokenProtocol    the collector's answer is not what it should be (1)
└── SpoolError
    ├── SpoolFull     the spool's file cannot be written now (disk full, read-only, no rights); what it holds stays
    └── EpochInUse    an epoch was assigned that this spool has numbered under before
"""

from __future__ import annotations


class AgentError(Exception):
    """Base; the text is one line for people that says what to do. A command that it ends exits with `exit_code`."""

    exit_code = 2


class WrongUse(AgentError):
    """An address or a token that is none."""


class ConfigError(AgentError):
    """The agent's own file is wrong."""


class AlreadyRunning(AgentError):
    """The lock of the state folder is held by another process."""


class PlanUnreadable(AgentError):
    """The kept plan cannot be decoded."""


class InventoryFailed(AgentError):
    """The helper process failed; the text holds its last words."""


class SpoolError(AgentError):
    """Base of what the spool raises."""


class SpoolFull(SpoolError):
    """The file cannot be written now; try again later."""


class EpochInUse(SpoolError):
    """Epochs are used once."""


class IdentityError(AgentError):
    """Base of what is wrong with the agent's own identity."""


class NotEnrolled(IdentityError):
    """There is no identity yet."""


class AlreadyEnrolled(IdentityError):
    """An identity is never overwritten."""


class IdentityDamaged(IdentityError):
    """A file of the identity is missing, unreadable or does not fit the others."""


class KeysUnavailable(IdentityError):
    """The helper process failed; the text holds its last words."""


class UplinkError(AgentError):
    """Base of what goes wrong between agent and collector."""

    exit_code = 1


class Unreachable(UplinkError):
    """No connection; worth another try."""

    exit_code = 3


class Untrusted(UplinkError):
    """Not the collector of the pin or of the roots that this agent holds. Nothing secret was sent."""


class WrongClock(UplinkError):
    """A certificate is expired or not yet valid by the local clock."""


class Refused(UplinkError):
    """The collector said no; the text is its own."""


class BrokenProtocol(UplinkError):
    """An answer is missing, malformed or out of turn."""
