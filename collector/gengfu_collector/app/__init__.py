"""The collector as one process: everything wired together, started in order and stopped in reverse."""
