"""The collector: takes reports from agents, keeps the truth, opens tickets, exports metrics."""
