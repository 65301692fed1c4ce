"""The collector: takes reports from agents, keeps the truth, opens tickets, exports metrics."""

__version__ = "0.1.0"
