"""All that speaks to the kernels."""
