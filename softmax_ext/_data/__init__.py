"""How files are read and written, tables, and the demo's data sets."""
