"""The losses as operators that PyTorch can differentiate."""
