"""The inventory of this machine: looked at by a helper process now and then, told once as a whole, then as changes."""
