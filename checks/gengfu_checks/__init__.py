"""What Gengfu can look at. Knows nothing of agents, collectors or the wire."""
