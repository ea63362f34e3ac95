"""The asv suite: README.md, one folder up, tells how to run it."""
