"""What setup.py makes of these sources: declarations of the headers' kernels, and a digest of what is compiled."""

import hashlib
import re
from pathlib import Path

# A prototype that a header marks so: what it returns, its name, its parameters.
KERNEL = re.compile(r"^KERNEL (.*?)NAME\((\w+)\)\(([^)]*)\)", re.MULTILINE)
TYPES = {"float": "f32", "double": "f64"}  # as float_types.h ends the names


def declarations(folder):
    """Declare every KERNEL of the headers to Cython: twice as C has it, and once under one name, for both types.

    Cython cannot choose between two extern functions by their arguments' type. A function of which no parameter tells
    the type gets one more before the others, a pointer of that type.
    """
    externs, functions = [], []
    for header in sorted(folder.rglob("*.h")):
        for result, name, text in KERNEL.findall(header.read_text()):
            types, names = [], []
            for parameter in text.replace("ptrdiff_t", "Py_ssize_t").split(","):
                kind, word = re.fullmatch(r"\s*(.*?)(\w+)\s*", parameter, re.DOTALL).groups()
                types.append(kind if "*" in kind else kind.removeprefix("const "))
                names.append(word)
            for real, suffix in TYPES.items():
                parameters = ", ".join(
                    re.sub(r"\breal\b", real, kind) + word for kind, word in zip(types, names, strict=True)
                )
                externs.append(f"    {result}{name}_{suffix}({parameters}) noexcept\n")
            parameters = ", ".join(
                re.sub(r"\breal\b", "floating", kind) + word for kind, word in zip(types, names, strict=True)
            )
            if "floating" not in parameters:
                parameters = "const floating *kind, " + parameters
            call = "" if result == "void " else "return "
            functions.append(
                f"cdef inline {result}{name}({parameters}) noexcept nogil:\n"
                f"    if floating is float:\n        {call}{name}_f32({', '.join(names)})\n"
                f"    else:\n        {call}{name}_f64({', '.join(names)})\n"
            )
    return 'cdef extern from "float_types.h" nogil:\n' + "".join(externs) + "\n\n" + "\n\n".join(functions)


def digest(folder):
    """Return a digest of what is compiled, so that a test can tell whether a build is the one of its own sources."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".h", ".pxi", ".pyx"))
    return hashlib.sha256(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)).hexdigest()


def write(folder, name, text):
    """Write what Cython includes by this name; return its path, and whether that changed anything."""
    path = Path(folder, f"{name}.pxi")
    if path.exists() and path.read_text() == text:
        return str(path), False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)
    return str(path), True
