"""Functions of one vector of parameters."""
