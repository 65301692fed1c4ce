"""The spool: reports wait here, on the disk, until the collector has accounted for them.

spool    the one class that others use       entry    what goes in and comes out
work     what happens within a transaction   held     what a full disk does not take
loss     numbers that will never come        salvage  verifying, and saving what can be saved
file     tables, checksums, SQLite's errors  ranges   arithmetic of ranges
"""

from gengfu_agent.spool.entry import Entry, Position, RecordKind
from gengfu_agent.spool.salvage import Salvage
from gengfu_agent.spool.spool import DEFAULT_KEEP_S, DEFAULT_QUOTA_BYTES, Spool

__all__ = ["DEFAULT_KEEP_S", "DEFAULT_QUOTA_BYTES", "Entry", "Position", "RecordKind", "Salvage", "Spool"]
