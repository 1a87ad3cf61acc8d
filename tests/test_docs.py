"""The README and the pages of docs/: their Python blocks run, and they name every logged metric."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in [README, *PAGES] if BLOCK.search(page.read_text(encoding="utf8"))]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_code_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run from top to bottom, sharing their names."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf8")
    names = {"__name__": page.stem}
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 2
        source = "\n" * (line - 1) + match.group(1)  # tracebacks name the page's line
        exec(compile(source, str(page), "exec"), names)


def test_readme_fits_the_page():
    assert README.read_text(encoding="utf8").count("\n") <= 130


def test_links_lead_somewhere():
    """Every relative link of a page, and every picture, is a file."""
    for page in [README, *PAGES]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
