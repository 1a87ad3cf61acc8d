"""The README's Python blocks run as they stand, in order, in one namespace and an empty directory."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf8")
    names = {"__name__": "readme"}
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text[: match.start()].count("\n") + 2
        source = "\n" * (line - 1) + match.group(1)  # tracebacks name the README's line
        exec(compile(source, str(README), "exec"), names)


def test_fits_the_page():
    assert README.read_text(encoding="utf8").count("\n") <= 210
