"""What `import softmax_ext` costs, each time in a process of its own."""


def timeraw_import():
    return "import softmax_ext"


def timeraw_import_after_numpy():
    """What comes on top where NumPy is in use anyway."""
    return "import softmax_ext", "import numpy"
