"""What a machine is made of and what is installed on it: one look at everything, as entries of an inventory.

No check: nothing is judged here. Whoever compares two looks finds what changed.
"""
