"""The life of a ticket."""
