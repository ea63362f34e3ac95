"""The time of `import softmax_ext`, each time in a process of its own."""


def timeraw_import():
    return "import softmax_ext"


def timeraw_import_after_numpy():
    """Time the import where NumPy has been imported already."""
    return "import softmax_ext", "import numpy"
