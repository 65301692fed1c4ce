"""Assets, agents, tokens, profiles and the plans made from them."""
