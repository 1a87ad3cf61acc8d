"""The README and the pages of docs/: their Python blocks run, and they name every logged metric."""

import re
from pathlib import Path

import pytest

from dynarl import agents
from dynarl.config import RunConfig
from dynarl.train import metrics, run

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in [README, *PAGES] if BLOCK.search(page.read_text(encoding="utf8"))]


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
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert (page.parent / target).exists(), f"{page}: {target}"


RUNS = {
    "PPO": {"num_steps": 32, "batch_size": 128},
    "DQN": {"learning_starts": 64, "buffer_size": 500},
    "SAC": {"learning_starts": 64, "buffer_size": 500, "hidden_sizes": (8, 8)},
}


@pytest.mark.parametrize("algorithm", RUNS)
def test_every_logged_metric_is_explained(algorithm, tmp_path):
    """A run logs no metric that neither docs/metrics.md nor the page of its algorithm names."""
    config = RunConfig(
        env_id="CartPole-v1", total_steps=512, log_every=0, eval_every=256, periodic_eval_episodes=1, eval_episodes=1,
        run_dir=str(tmp_path / "run"), envs_per_group=4, progress=False,
    )  # fmt: skip
    agent_cls = getattr(agents, algorithm)
    run(agent_cls, config, agent_cls.config_class(num_envs=8, **RUNS[algorithm]))
    logged = {name for record in metrics.read(tmp_path / "run" / "metrics.jsonl") for name in record}
    pages = (ROOT / "docs" / "metrics.md", ROOT / "docs" / "algorithms" / f"{algorithm.lower()}.md")
    named = {name for page in pages for name in re.findall(r"`([\w/]+)`", page.read_text(encoding="utf8"))}
    unknown = {name for name in logged - named if not name.startswith("time/sps_")}
    assert not unknown
    assert len(logged) > 20
