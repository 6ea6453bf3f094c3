"""Here layers are mixed: the weights of the sum, and the linear head on it, learnt together."""
