"""Optimisers, which move a vector of parameters to the minimum of an objective, and what they share."""
