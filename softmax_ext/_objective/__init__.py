"""Functions of one vector of parameters that a fit minimises: their values, gradients, Hessians, preconditioners."""
