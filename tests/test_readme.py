"""What README.md and CONTRIBUTING.md say: examples run, commands exist, links lead somewhere."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import softmax_ext
from softmax_ext._cli import main as cli

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md"]

pytestmark = pytest.mark.skipif(
    not all((ROOT / path).exists() for path in [*PAGES, ".ci/run"]), reason="needs a whole checkout"
)


def blocks(page, language):
    """Return the contents of the page's code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(page):
    """Return the lines of the page's shell blocks, without the notes behind them."""
    return [re.sub(r"\s{2,}#.*", "", line) for block in blocks(page, "sh") for line in block.splitlines()]


@pytest.fixture
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def demo_and_test_command():
    demo, test = commands("README.md")
    return demo, test


def test_examples_print_what_the_readme_says():
    """They run in another process, as a user's script would, with warnings as errors."""
    pytest.importorskip("sklearn")
    examples, outputs = blocks("README.md", "python"), blocks("README.md", "text")
    assert len(examples) == len(outputs) >= 1
    for example, output in zip(examples, outputs, strict=True):
        command = sys.executable, "-W", "error", "-c", example
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (result.stdout, result.stderr) == (output, "")


def test_ci_types_the_commands_as_a_newcomer_does(demo_and_test_command):
    """The commands are the same to the letter, one after the other, before anything is exported or unset."""
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    demo, test = map(lines.index, demo_and_test_command)
    assert demo < test < min(i for i, line in enumerate(lines) if line.startswith(("export ", "unset ")))


def test_no_path_is_set_for_tests():
    """A path would hide what a newcomer meets: tests must pass in a plain shell."""
    files = [ROOT / "noxfile.py", ROOT / ".ci/run", *(ROOT / ".github/workflows").glob("*.yml")]
    assert [path.name for path in files if re.search("PYTHON(SAFE)?PATH", path.read_text())] == []


def test_commands_make_their_own_environment_and_exist(demo_and_test_command, project):
    for line in demo_and_test_command:
        venv, install, run = (shlex.split(part) for part in line.split("&&"))
        assert venv == ["python3", "-m", "venv", ".venv"]
        assert install[:3] == [".venv/bin/pip", "install", "-e"]  # else the folder would hide the kernels: CONTRIBUTING
        (extra,) = re.fullmatch(r"\.\[(\w+)\]", install[3]).groups()
        assert extra in project["optional-dependencies"]
        assert run[0] in [".venv/bin/pytest", *(f".venv/bin/{script}" for script in project["scripts"])]


def test_demo_command_has_options_that_exist(demo_and_test_command):
    arguments = shlex.split(demo_and_test_command[0])
    arguments = arguments[arguments.index(".venv/bin/softmax-ext") + 1 :]
    assert cli._parser().parse_args(arguments).plot == Path("figures")


@pytest.mark.parametrize("tool", ["ruff", "asv", "sphinx-build"])
def test_ci_runs_what_contributors_run(tool):
    (block,) = (block for block in blocks("CONTRIBUTING.md", "sh") if block.startswith(f"{tool} "))
    assert set(block.splitlines()) <= set((ROOT / ".ci/run").read_text().splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_readme_lead_to_files(page):
    links = re.findall(r"\]\((?!https:)([^)#]+)[^)]*\)", (ROOT / page).read_text())
    assert len(links) >= 1
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_version_is_the_same_everywhere():
    if not (ROOT / "CITATION.cff").exists():
        pytest.skip("needs a checkout")
    assert (
        re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == softmax_ext.__version__
    )


def test_workflows_pin_their_actions_and_ask_for_little():
    paths = sorted((ROOT / ".github/workflows").glob("*.yml"))
    if not paths:
        pytest.skip("needs a checkout")
    for path in paths:
        text = path.read_text()
        assert re.findall(r"uses: (?!\S+@[0-9a-f]{40} # v[0-9.]+\n)", text) == []
        assert "\npermissions:\n  contents: read\n" in text and text.count("persist-credentials: false") == len(
            re.findall("uses: actions/checkout", text)
        )
