"""Files, tables and data sets."""
