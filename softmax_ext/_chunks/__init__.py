"""Data that comes in pieces."""
