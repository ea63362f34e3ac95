"""What moves that vector."""
