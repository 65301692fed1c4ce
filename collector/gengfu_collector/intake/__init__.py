"""From a report on the wire to a committed transaction and its acknowledgement."""
