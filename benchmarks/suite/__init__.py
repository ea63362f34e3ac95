"""The asv suite; README.md in the folder above tells how to run it."""
