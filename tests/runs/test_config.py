"""Configuration: defaults < YAML < flags; nothing unknown, nothing impossible, nothing guessed."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from dynarl import config
from dynarl.config import ConfigError, RunConfig
from dynarl.config import yaml as strict_yaml


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """An algorithm's own fields."""

    learning_rate: float = 3e-4
    """Step size of Adam."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    lr_schedule: Literal["constant", "linear", "off"] = "constant"
    """How the learning rate changes."""
    target_kl: float | None = None
    """KL divergence at which an update ends. None: never."""
    normalize: bool = False
    """Normalise observations."""
    num_steps: int = 128
    """Steps per environment and iteration."""
    batch_size: int = 64
    """Rows of a minibatch."""

    def __post_init__(self) -> None:
        if self.batch_size > self.num_steps:
            raise ValueError(f"batch_size: {self.batch_size} is larger than num_steps {self.num_steps}")


Config: Any = dataclasses.make_dataclass(
    "Config", [("run", RunConfig), ("agent", AlgorithmConfig)], frozen=True, kw_only=True
)


def load(*argv, **options):
    return config.load(Config, argv, prog="train.py", description="Train.", **options)


@pytest.fixture
def yaml(tmp_path):
    def write(text):
        (tmp_path / "c.yaml").write_text(text)
        return str(tmp_path / "c.yaml")

    return write


def test_defaults_file_flags_in_this_order(yaml):
    assert load() == Config(run=RunConfig(), agent=AlgorithmConfig())
    path = yaml("learning_rate: 1e-3\nseed: 5\nnum_steps: 256\n")
    found = load(path, "--seed", "7", "--learning_rate", "0.5", "--env-id", "Acrobot-v1")
    assert found.run == RunConfig(seed=7, env_id="Acrobot-v1")
    assert found.agent == AlgorithmConfig(learning_rate=0.5, num_steps=256)
    assert load("--seed", "7", path).run.seed == 7
    assert load(base={"seed": 3}).run.seed == 3
    assert load(path, base={"seed": 3}).run.seed == 5


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 1e-3),
        ("learning_rate: 3e-4", "learning_rate", 3e-4),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("learning_rate: .5", "learning_rate", 0.5),
        ("total_steps: 1e5", "total_steps", 100_000),
        ("total-steps: 100_000", "total_steps", 100_000),
        ("seed: 010", "seed", 10),
        ("env_id: no", "env_id", "no"),
        ("env_id: 1:30", "env_id", "1:30"),
        ("lr_schedule: off", "lr_schedule", "off"),
        ("normalize: no", "normalize", False),
        ("normalize: on", "normalize", True),
        ("normalize: true", "normalize", True),
        ("target_kl: null", "target_kl", None),
        ("target_kl: None", "target_kl", None),
        ("target_kl: 1e-2", "target_kl", 0.01),
        ("stop_at_return: -200", "stop_at_return", -200.0),
        ("hidden_sizes: [32]", "hidden_sizes", (32,)),
        ("hidden_sizes: []", "hidden_sizes", ()),
        (
            "env_kwargs: {g: 1e1, name: yes, flag: true}",
            "env_kwargs",
            {"g": 10.0, "name": "yes", "flag": True},
        ),
        ("", "seed", 0),
    ],
)
def test_yaml_values_get_the_type_of_their_field(yaml, text, field, value):
    flat = config.from_file(Config, Path(yaml(text)))
    assert flat.get(field, 0) == value
    assert type(flat.get(field, 0)) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 1", r"unknown field 'lerning_rate'; did you mean 'learning_rate'\?"),
        ("zzzzzz: 1", r"unknown field 'zzzzzz'; the fields are .*env_id"),
        ("seed: 1.5", r"seed: expected a whole number, got 1\.5"),
        ("seed: true", r"seed: expected a whole number, got True"),
        ("seed: [1]", r"seed: expected a whole number, got \[1\]"),
        ("learning_rate: fast", r"learning_rate: expected a number, got 'fast'"),
        ("env_id: 3", r"env_id: expected a string, got 3"),
        ("normalize: 1", r"normalize: expected true or false, got 1"),
        ("lr_schedule: cosine", r"lr_schedule: expected one of 'constant', 'linear', 'off', got 'cosine'"),
        ("hidden_sizes: 64", r"hidden_sizes: expected a list, got 64"),
        ("hidden_sizes: [64, x]", r"hidden_sizes: expected a whole number, got 'x'"),
        ("target_kl: small", r"target_kl: expected float or None, got 'small'"),
        ("env_kwargs: 3", r"env_kwargs: expected a mapping, got 3"),
        ("- a\n- b", r"expected a mapping of names to values"),
        ("seed: 1\nseed: 2", r"'seed' appears twice"),
        ("a: &x [1]\nb: *x", r"anchors and aliases are not allowed"),
        ("seed: !!python/object/apply:os.system ['true']", r"could not determine a constructor"),
        ("seed: " + "[" * 40 + "]" * 40, r"nested deeper than 32"),
        ("seed: [1", r"not usable"),
        ("# " + "x" * (1 << 20), r"larger than 1048576 bytes"),
        ("allow_import: [os]", r"'allow_import' is only accepted on the command line"),
        ("resume: true", r"'resume' is only accepted on the command line"),
    ],
)
def test_wrong_files_are_refused(yaml, text, message):
    with pytest.raises(ConfigError, match=message):
        load(yaml(text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.yaml: No such file"):
        load("missing.yaml")
    with pytest.raises(ConfigError, match=r"one YAML file at most, got a\.yaml, b\.yaml"):
        load("a.yaml", "b.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not usable"):
        load(str(tmp_path / "binary.yaml"))


def test_an_alias_bomb_costs_nothing(yaml):
    bomb = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    with pytest.raises(ConfigError, match="anchors and aliases are not allowed"):
        load(yaml(bomb))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lerning-rate", "1"], "--learning-rate"),
        (["--seed", "x"], "seed"),
        (["--seed", "1.5"], "expected a whole number, got 1.5"),
        (["--num-threads", "0"], "num_threads: must be at least 1, got 0"),
        (["--batch-size", "512"], "batch_size: 512 is larger than num_steps 128"),
        (["--lr-schedule", "cosine"], "invalid choice 'cosine'"),
        (["stray"], "stray"),
    ],
)
def test_wrong_flags_exit_with_2_and_the_reason(capsys, flags, message):
    with pytest.raises(SystemExit) as exit_info:
        load("--progress", *flags)
    assert exit_info.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--total-steps", "1e5"], "total_steps", 100_000),
        (["--total_steps=100_000"], "total_steps", 100_000),
        (["--progress", "no"], "progress", False),
        (["--no-progress"], "progress", False),
        (["--progress=false"], "progress", False),
        (["--normalize", "True"], "normalize", True),
        (["--stop-at-return", "-200"], "stop_at_return", -200.0),
        (["--stop-at-return", "None"], "stop_at_return", None),
        (["--env-kwargs", "{g: 1e-3, s: 'no'}"], "env_kwargs", {"g": 1e-3, "s": "no"}),
        (["--hidden-sizes", "8", "9"], "hidden_sizes", (8, 9)),
        (["--allow-import", "a.b", "c", "--env-id", "a.b:E-v0"], "allow_import", ("a.b", "c")),
    ],
)
def test_flags(flags, field, value):
    assert config.to_flat(load(*flags))[field] == value


def test_flags_may_mend_what_is_impossible_in_the_file_alone(yaml):
    path = yaml("batch_size: 512")
    with pytest.raises(ValueError, match="batch_size: 512 is larger than num_steps 128"):
        load(path)
    assert load(path, "--num-steps", "512").agent.batch_size == 512


def test_help_explains_every_field_with_its_default(capsys, yaml):
    with pytest.raises(SystemExit) as exit_info:
        load(yaml("seed: 41"), "--help")
    assert exit_info.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "[CONFIG]" in shown
    assert "(default: 41)" in shown
    for cls in (RunConfig, AlgorithmConfig):
        for field in dataclasses.fields(cls):
            flag = "--" + field.name.replace("_", "-")
            assert flag in shown
            explanation = shown.split(flag + " ")[-1] if flag + " " in shown else shown.split(flag + ",")[-1]
            assert "(default:" in explanation[:500]
            assert len(explanation.split("(default:")[0]) > 15


def test_the_resolved_config_can_be_fed_back(yaml):
    first = load(
        *["--learning-rate", "1e-5", "--env-kwargs", "{a: [1, {b: 'on'}], c: 1e30, d: '1e5'}"],
        *["--hidden-sizes", "--lr-schedule", "off", "--run-dir", "somewhere", "--target-kl", "inf"],
    )
    text = config.to_yaml(first)
    assert "run_dir" not in text
    assert load(yaml(text)) == config.replace(first, {"run_dir": None})
    assert config.to_yaml(load(yaml(text))) == text


def test_strings_that_look_like_something_else_survive():
    for value in [
        "no",
        "1e5",
        "1:30",
        "010",
        "null",
        "None",
        "",
        "~",
        "true",
        "yes",
        ".inf",
        "=",
        "<<",
        "a: b",
    ]:
        assert strict_yaml.parse(strict_yaml.dump({"k": value})) == {"k": value}
        assert strict_yaml.parse(strict_yaml.dump({"k": value}, one_line=True)) == {"k": value}
    for number in [1e-5, 1e16, -0.0, float("inf"), 2**70, -3]:
        assert strict_yaml.parse(strict_yaml.dump({"k": number})) == {"k": number}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"total_steps": 0}, "total_steps: must be at least 1, got 0"),
        ({"env_id": ""}, "env_id: must not be empty"),
        ({"stop_at_return": float("nan")}, "stop_at_return: must be a number, got nan"),
        ({"stop_at_return": 5.0, "eval_every": 0}, "needs evaluations, got eval_every 0"),
        ({"env_id": "os:E-v0"}, "imports the module 'os'; allow it with --allow-import os"),
    ],
)
def test_impossible_runs_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**values)


def test_two_fields_of_one_name_are_refused():
    twice = dataclasses.make_dataclass("Twice", [("a", AlgorithmConfig), ("b", AlgorithmConfig)])
    with pytest.raises(TypeError, match="Twice has two fields named 'learning_rate'"):
        config.fields_of(twice)


def test_every_run_field_is_documented():
    import inspect

    source = inspect.getsource(RunConfig)
    for field in dataclasses.fields(RunConfig):
        after = source.split(f"\n    {field.name}:")[1].split("\n")[1]
        assert after.strip().startswith('"""'), field.name


# ------------------------------------------------------------------------------- field names of earlier versions


@config.configuration
class RenamedConfig:
    """A config whose field `duelling` became `dueling`, and whose `limit` became `mode` and `bound`."""

    dueling: bool = False
    """Two streams."""
    mode: str = "stop"
    """What happens at the bound."""
    bound: float | None = None
    """The bound."""

    @classmethod
    def migrate(cls, fields):
        found, changes = dict(fields), []
        if "duelling" in found:
            found["dueling"] = found.pop("duelling")
            changes.append("duelling is now called dueling")
        if "limit" in found:
            if "bound" in found:
                raise ValueError("limit: give bound alone, got both")
            found |= {"bound": found.pop("limit"), "mode": "stop"}
            changes.append("limit is now bound, with mode 'stop'")
        return found, changes


Renamed: Any = dataclasses.make_dataclass(
    "Renamed", [("run", RunConfig), ("agent", RenamedConfig)], frozen=True, kw_only=True
)


def test_files_with_old_names_are_migrated_and_each_change_printed_once(yaml, capsys):
    path = Path(yaml("duelling: yes\nlimit: 0.5\nseed: 3\n"))
    for _ in range(2):
        found = config.from_file(Renamed, path)
        assert found == {"dueling": True, "bound": 0.5, "mode": "stop", "seed": 3}
    error = capsys.readouterr().err
    assert error.splitlines() == [
        f"config: {path}: duelling is now called dueling",
        f"config: {path}: limit is now bound, with mode 'stop'",
    ]
    stored = config.from_mapping(RenamedConfig, {"duelling": True}, source="checkpoint x")
    assert stored == {"dueling": True}
    assert capsys.readouterr().err == "config: checkpoint x: duelling is now called dueling\n"


def test_old_names_that_cannot_be_migrated_are_refused(yaml):
    with pytest.raises(ConfigError, match=r"c\.yaml: limit: give bound alone, got both"):
        config.from_file(Renamed, Path(yaml("limit: 1\nbound: 2\n")))


@pytest.mark.parametrize("flags", [["--duelling"], ["--no-duelling"], ["--duelling", "yes"], ["--duelling=yes"]])
def test_flags_with_old_names_name_the_new_one(flags):
    with pytest.raises(ConfigError, match=rf"^config: {flags[0][:10]}.*: duelling is now called dueling$"):
        config.load(Renamed, flags, prog="train.py")


def test_keywords_with_old_names_name_the_new_one():
    with pytest.raises(TypeError, match=r"^RenamedConfig: duelling is now called dueling$"):
        RenamedConfig(duelling=True)
    with pytest.raises(TypeError, match=r"^RenamedConfig: limit is now bound, with mode 'stop'$"):
        dataclasses.replace(RenamedConfig(), limit=1.0)
    with pytest.raises(TypeError, match=r"^RunConfig: unknown field 'sede'; did you mean 'seed'\?$"):
        RunConfig(sede=1)
    assert config.renamed(RenamedConfig, "duelling") == "duelling is now called dueling"
    assert config.renamed(RenamedConfig, "mode") is None
