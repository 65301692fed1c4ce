"""The agent: runs checks on its machine, keeps what they found and streams it to a collector."""

VERSION = "0.1.0"
