"""The version, which modules below the package itself also tell."""

__version__ = "0.1.0"
