"""When is something broken, and when is it whole again. The engine is pure."""
