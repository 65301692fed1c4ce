"""How the command line reaches the collector's truth: one table of operations, one socket."""
