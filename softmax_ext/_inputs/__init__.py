"""Checks of the arguments that users pass, and the forms that kernels read them in."""
