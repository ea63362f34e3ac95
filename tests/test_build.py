"""The package under test is the one that was built from the sources beside these tests, and not another copy."""

import hashlib
from importlib import metadata
from pathlib import Path

import pytest

import softmax_ext
from softmax_ext._core import dispatch

ROOT, PACKAGE = Path(__file__).parents[1], Path(softmax_ext.__file__).parent


def test_the_package_is_in_the_checkout_or_was_installed():
    """A copy that only lies on the path, of another checkout for example, would be tested instead unnoticed."""
    if PACKAGE != ROOT / "softmax_ext":
        installed = metadata.distribution("softmax_ext").locate_file("softmax_ext/__init__.py")
        assert PACKAGE / "__init__.py" == Path(str(installed))


def test_the_kernels_are_there():
    assert dispatch.built(), f"{PACKAGE} is not compiled: pip install -e '.[all]'"


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="the sources are not here")
def test_the_kernels_were_built_from_these_sources():
    files = sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in (".h", ".pxi", ".pyx"))
    digest = hashlib.sha256(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)).hexdigest()
    assert dispatch.cpu.SOURCES == digest, "built from other sources: python setup.py build_ext --inplace"


@pytest.mark.skipif(not (ROOT / "softmax_ext").exists(), reason="the sources are not here")
def test_the_python_files_are_those_beside_the_tests():
    """An installed copy that is older than the checkout, which pip leaves as it is, fails here by name."""
    ours, theirs = (
        {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
        for folder in (ROOT / "softmax_ext", PACKAGE)
    )
    assert [name for name in ours | theirs if ours.get(name) != theirs.get(name)] == []
