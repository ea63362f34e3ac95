"""What PyTorch differentiates."""
