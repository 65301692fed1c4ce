"""Codes that are raised around checks rather than by one: by the runner, the agent and the collector.

Every code here, like every code of a check, has its article in `guide/`.
"""

from __future__ import annotations

from typing import Final

CHECK_TIMED_OUT: Final = "check.timed_out"
"""A run did not end by its deadline. Facts: timeout_s."""
CHECK_STUCK: Final = "check.stuck"
"""A run is still hanging from before, so the next one was not started. Facts: since (ISO 8601)."""
CHECK_CRASHED: Final = "check.crashed"
"""An unexpected error escaped from a check. Facts: error, where."""
CHECK_NOT_USABLE: Final = "check.not_usable"
"""The check cannot run on this machine (platform, extra, plug-in missing). Facts: reason."""
CHECK_REFUSED: Final = "check.refused"
"""The agent's own file does not allow this check, or its settings are not valid here. Facts: reason."""
CHECK_NEEDS_RIGHTS: Final = "check.needs_rights"
"""The check needs more rights than the agent has. Facts: needs, target."""
CHECK_PROGRAM_FAILED: Final = "check.program_failed"
"""A program that the check runs did not give a usable answer. Facts: program, reason."""
CHECK_BAD_VALUE: Final = "check.bad_value"
"""A metric was not a finite number, or a run returned one item twice. Facts: metric."""
THRESHOLD_BREACHED: Final = "threshold.breached"
"""A metric without a code of its own crossed a limit set in a profile."""

AGENT_ABSENT: Final = "agent.absent"
"""Nothing has been heard from an agent past its deadline. Facts: last_seen (ISO 8601), after_s."""
AGENT_CLONED: Final = "agent.cloned"
"""Two machines use one agent identity. Facts: first_host, second_host."""
AGENT_SPOOL_DAMAGED: Final = "agent.spool_damaged"
"""The spool was damaged; what could be read was kept. Facts: salvaged, error."""
AGENT_SPOOL_OVER_QUOTA: Final = "agent.spool_over_quota"
"""The spool reached its quota and dropped the oldest measurements. Facts: dropped."""
AGENT_DISK_FULL: Final = "agent.disk_full"
"""The agent's state folder cannot be written. Facts: error."""
AGENT_CLOCK_WRONG: Final = "agent.clock_wrong"
"""The machine's clock differs from the collector's. Facts: skew_s."""
COLLECTOR_DISK_FULL: Final = "collector.disk_full"
"""The collector cannot write its data folder. Facts: error."""
INVENTORY_MEMORY_REMOVED: Final = "inventory.memory_removed"
"""A module of memory is gone, or there is less memory than before. Facts: things, count, others."""
INVENTORY_DISK_REMOVED: Final = "inventory.disk_removed"
"""A disk is gone or was replaced by another one. Facts: things, count, others."""
INVENTORY_HARDWARE_REMOVED: Final = "inventory.hardware_removed"
"""Another part of the machine is gone. Facts: things, count, others."""
INVENTORY_HARDWARE_ADDED: Final = "inventory.hardware_added"
"""The machine has a part that it did not have before. Facts: things, count, others."""
INVENTORY_HARDWARE_CHANGED: Final = "inventory.hardware_changed"
"""A part of the machine is not what it was: replaced in its slot, new firmware. Facts: things, count, others."""
INVENTORY_OS_CHANGED: Final = "inventory.os_changed"
"""The operating system is another or has another version. Facts: things, count, others."""
INVENTORY_SOFTWARE_ADDED: Final = "inventory.software_added"
"""Software was installed. Facts: things, count, others."""
INVENTORY_SOFTWARE_REMOVED: Final = "inventory.software_removed"
"""Software was removed. Facts: things, count, others."""
INVENTORY_SOFTWARE_CHANGED: Final = "inventory.software_changed"
"""Software has another version. Facts: things, count, others."""

ALL: Final = (
    CHECK_TIMED_OUT,
    CHECK_STUCK,
    CHECK_CRASHED,
    CHECK_NOT_USABLE,
    CHECK_REFUSED,
    CHECK_NEEDS_RIGHTS,
    CHECK_PROGRAM_FAILED,
    CHECK_BAD_VALUE,
    THRESHOLD_BREACHED,
    AGENT_ABSENT,
    AGENT_CLONED,
    AGENT_SPOOL_DAMAGED,
    AGENT_SPOOL_OVER_QUOTA,
    AGENT_DISK_FULL,
    AGENT_CLOCK_WRONG,
    COLLECTOR_DISK_FULL,
    INVENTORY_MEMORY_REMOVED,
    INVENTORY_DISK_REMOVED,
    INVENTORY_HARDWARE_REMOVED,
    INVENTORY_HARDWARE_ADDED,
    INVENTORY_HARDWARE_CHANGED,
    INVENTORY_OS_CHANGED,
    INVENTORY_SOFTWARE_ADDED,
    INVENTORY_SOFTWARE_REMOVED,
    INVENTORY_SOFTWARE_CHANGED,
)
