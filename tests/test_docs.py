"""What the pages in docs/ say: examples run and print what stands below them, commands and links exist."""

import argparse
import ast
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from softmax_ext._cli import main as cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))

pytestmark = pytest.mark.skipif(not PAGES, reason="needs a whole checkout")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def run_page(page):
    """Run a page, which is one program, in another process and with warnings as errors."""
    command = sys.executable, "-W", "error", "-c", "\n".join(blocks(page, "python"))
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_examples_print_what_the_page_says(page, at_once):
    imported = set(re.findall(r"^import (\w+)$", "".join(blocks(page, "python")), re.MULTILINE))
    for package in ("sklearn", *(imported & {"torch", "onnxruntime"})):
        pytest.importorskip(package)
    result = at_once(run_page)
    assert (result.stdout, result.stderr) == ("".join(blocks(page, "text")), "")


def command_lines():
    lines = (line for page in PAGES for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines())
    return sorted({line.split("  #")[0] for line in lines if line.startswith("softmax-ext ")})


@pytest.mark.parametrize("line", command_lines())
def test_commands_have_the_options_that_pages_give_them(line):
    assert isinstance(cli._parser().parse_args(shlex.split(line)[1:]), argparse.Namespace)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_pages_lead_to_files(page):
    links = re.findall(r"\]\((?!https:)([^)#]+)[^)]*\)", (DOCS / page).read_text())
    assert [link for link in links if not (DOCS / page).parent.joinpath(link).exists()] == []


def source_of(name):
    """Return a function's source, from the tests or the reference, as the derivation shows it."""
    files = [(ROOT / path).read_text() for path in ("tests/test_derivation.py", "softmax_ext/reference.py")]
    ((text, node),) = (
        (text, node)
        for text in files
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def test_the_derivation_shows_its_code_as_it_is():
    """It is in blocks, since GitHub does not know literalinclude, and every step has its code and all its tests."""
    text = (DOCS / "derivation.md").read_text()
    steps = re.split(r"^## \((\d)\) ", text, flags=re.MULTILINE)
    assert steps[1::2] == list("123456789") and "literalinclude" not in text
    tests = re.findall(r"^def (test_(\d)\w+)", (ROOT / "tests/test_derivation.py").read_text(), re.MULTILINE)
    for number, step in zip(["0", *steps[1::2]], steps[::2], strict=True):
        shown = re.findall(r"^```py\n(.*?)^```$", step, re.MULTILINE | re.DOTALL)
        names = re.findall(r"^def (\w+)", "\n".join(shown), re.MULTILINE)
        assert "\n\n\n".join(map(source_of, names)).split("\n\n\n") == [
            function for block in shown for function in block.strip().split("\n\n\n")
        ]
        assert [name for name in names if name.startswith("test_")] == [name for name, its in tests if its == number]
        assert any(not name.startswith("test_") for name in names)  # and the differences before the first step


def test_every_promise_has_its_tests():
    """The last column of the tables of promises.md names them, and SECURITY.md leads there."""
    rows = re.findall(r"^\| (.+) \|$(?!\n\|-)", (DOCS / "promises.md").read_text(), re.MULTILINE)  # without the heads
    rows = [re.split(r" ?\| ?", row) for row in rows]
    assert len(rows) > 40 and all(len(row) == 3 for row in rows)
    missing, functions = [], {}
    for promise, _, kept_by in rows:
        names = re.findall(r"`(test_\w+\.py)::(test_\w+)`", kept_by)
        assert names and kept_by == ", ".join(f"`{file}::{name}`" for file, name in names), promise
        for file, name in names:
            if file not in functions:
                functions[file] = re.findall(r"^def (test_\w+)", (ROOT / "tests" / file).read_text(), re.MULTILINE)
            if name not in functions[file]:
                missing.append(f"{file}::{name}")
    assert missing == []
    assert "](docs/promises.md)" in (ROOT / "SECURITY.md").read_text()


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="needs a whole checkout")
def test_comments_name_notes_that_exist():
    """A comment names them so: see "Two classes" in docs/notes.md."""
    notes = set(re.findall(r"^###? (.+)$", (DOCS / "notes.md").read_text(), re.MULTILINE))
    named = {}
    for path in (path for room in ("src", "softmax_ext", "benchmarks") for path in (ROOT / room).rglob("*.*")):
        if path.suffix in (".py", ".pyi", ".pyx", ".pxi", ".h"):
            text = re.sub(r"\n *[*#]?\s*", " ", path.read_text(encoding="utf-8"))
            for names in re.findall(r'((?:"[^"]{3,80}"(?:, | and )?)+) (?:in|of) docs/notes\.md', text):
                named |= dict.fromkeys(re.findall(r'"([^"]+)"', names), path.name)
    assert len(named) > 40
    assert {name: path for name, path in named.items() if name not in notes} == {}
