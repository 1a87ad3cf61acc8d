"""Checkpoints: exact round trips, whole or refused, whatever happens to the process or the files."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl import checkpoint
from dynarl.checkpoint import CheckpointError, compatibility, files
from dynarl.checkpoint.series import latest, numbered
from dynarl.train.run_directory import RunDirectory
from tests.helpers.tiny_agent import TinyConfig

STATE = {
    "policy": {"net.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a/b~c": np.array(7.5)},
    "rng": np.random.Generator(np.random.PCG64(3)).bit_generator.state,
    "none": None,
    "list": [1, [True, "x"], {"deep": np.zeros((0, 4), np.int8)}],
    "big": 2**200 + 1,
    "best": -math.inf,
    "$odd": {"$array": "not a reference", "$$": 1},
    "__metadata__": np.array([True, False]),
}
META = {"algorithm": "tiny", "env_steps": 12}


def same(a, b):
    if isinstance(a, np.ndarray | np.generic):
        a = np.asarray(a)
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (
            b.dtype,
            b.shape,
            b.tobytes(),
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def test_round_trip_is_exact(tmp_path):
    path = checkpoint.save(tmp_path / "c", STATE, meta=META)
    loaded = checkpoint.load(path)
    assert same(STATE, loaded.state)
    assert loaded.meta == META
    assert loaded.path == path
    assert loaded.state["policy"]["a/b~c"].shape == ()
    loaded.state["policy"]["net.0.weight"] += 1  # own, writable memory
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
arrays = st.builds(
    lambda dtype, shape: np.random.default_rng(0).integers(0, 2, shape).astype(dtype),
    st.sampled_from(["bool", "int8", "uint64", "float16", "float32", ">f8", "complex64"]),
    st.lists(st.integers(0, 3), max_size=3),
)
trees = st.recursive(
    scalars | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), trees, max_size=4))
def test_round_trip_of_any_state(tmp_path_factory, state):
    def native(value):
        if isinstance(value, np.ndarray):
            return value.astype(value.dtype.newbyteorder("="))
        if isinstance(value, dict):
            return {key: native(item) for key, item in value.items()}
        return [native(item) for item in value] if isinstance(value, list) else value

    path = tmp_path_factory.mktemp("any") / "c"
    assert same(native(state), checkpoint.load(checkpoint.save(path, state, meta={})).state)


def test_non_contiguous_and_shared_arrays(tmp_path):
    base = np.arange(12.0).reshape(3, 4)
    state = {"t": base.T, "strided": base[:, ::2], "same": base, "again": base}
    assert same(state, checkpoint.load(checkpoint.save(tmp_path / "c", state, meta={})).state)


def test_generator_continues_where_it_was(tmp_path):
    rng = np.random.Generator(np.random.PCG64(1))
    rng.random(5)
    path = checkpoint.save(tmp_path / "c", {"rng": rng.bit_generator.state}, meta={})
    again = np.random.Generator(np.random.PCG64(2))
    again.bit_generator.state = checkpoint.load(path).state["rng"]
    assert rng.random() == again.random()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": object()}}, r"builtins.object at 'a/b' cannot be stored without pickle"),
        ({"f": test_round_trip_is_exact}, r"function at 'f' cannot be stored"),
        ({"a": np.array([object()])}, r"dtype object at 'a' cannot be stored"),
        ({"a": np.array(["x"])}, r"dtype <U1 at 'a'"),
        ({"a": {3: 1}}, r"keys must be strings, got 3 at 'a'"),
        ({"b": b"bytes"}, r"builtins.bytes at 'b'"),
    ],
)
def test_what_needs_pickle_is_refused_and_named(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path / "c", state, meta={})
    with pytest.raises(TypeError, match="meta holds no arrays"):
        checkpoint.save(tmp_path / "c", {}, meta={"a": np.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_saving_again_replaces_only_checkpoints(tmp_path):
    checkpoint.save(tmp_path / "c", {"v": 1}, meta={})
    checkpoint.save(tmp_path / "c", {"v": 2}, meta={})
    assert checkpoint.load(tmp_path / "c").state == {"v": 2}
    (tmp_path / "empty").mkdir()
    checkpoint.save(tmp_path / "empty", {"v": 3}, meta={})
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "c")
    for name in ("file", "dir", "link"):
        with pytest.raises(CheckpointError, match="exists and is not a checkpoint; it is left as it is"):
            checkpoint.save(tmp_path / name, {}, meta={})
    assert (tmp_path / "file").read_text() == (tmp_path / "dir" / "thesis.tex").read_text() == "mine"


def test_a_replacement_cut_between_its_renames_loads_the_old_one(tmp_path):
    checkpoint.save(tmp_path / "c", {"v": 1}, meta={})
    (tmp_path / "c").rename(tmp_path / ".c.old")
    assert checkpoint.load(tmp_path / "c").state == {"v": 1}
    checkpoint.save(tmp_path / "c", {"v": 2}, meta={})
    assert checkpoint.load(tmp_path / "c").state == {"v": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_recover_clears_and_restores(tmp_path):
    checkpoint.save(tmp_path / "a", {"v": 1}, meta={})
    (tmp_path / "a").rename(tmp_path / ".a.old")
    checkpoint.save(tmp_path / "b", {"v": 2}, meta={})
    shutil.copytree(tmp_path / "b", tmp_path / ".b.old")
    (tmp_path / ".b.tmp-0123").mkdir()
    checkpoint.recover(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert checkpoint.load(tmp_path / "a").state == {"v": 1}


def test_every_truncation_and_bit_flip_is_detected(tmp_path):
    good = checkpoint.save(tmp_path / "good", STATE, meta=META)
    rng = random.Random(0)
    bad = tmp_path / "bad"
    for name in ("arrays.safetensors", "state.json", "MANIFEST.json"):
        content = (good / name).read_bytes()
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        lengths = {0, 1, len(content) - 1} | {rng.randrange(len(content)) for _ in range(40)}
        flips = [(i, rng.randrange(8)) for i in range(0, len(content), max(1, len(content) // 200))]
        mutants = [content[:n] for n in lengths] + [content + b"\0", content + b" "]
        for i, bit in flips:
            mutants.append(content[:i] + bytes([content[i] ^ (1 << bit)]) + content[i + 1 :])
        for mutant in mutants:
            (bad / name).write_bytes(mutant)
            with pytest.raises(CheckpointError):
                checkpoint.load(bad)
        (bad / name).unlink()
        with pytest.raises(CheckpointError, match=f"has no {name}"):
            checkpoint.load(bad)


def resealed(path, change):
    manifest = json.loads((path / "MANIFEST.json").read_bytes())
    del manifest["sha256"]
    change(manifest)
    (path / "MANIFEST.json").write_bytes(files._sealed(manifest))


@pytest.mark.parametrize("name", ["/etc/passwd", "../c/state.json", "a/b", ".hidden", "", "..", "x\0y"])
def test_manifest_paths_outside_are_refused(tmp_path, name):
    path = checkpoint.save(tmp_path / "c", STATE, meta=META)
    resealed(path, lambda m: m["files"].update({name: {"size": 1, "sha256": "00"}}))
    with pytest.raises(CheckpointError, match="only plain file names are allowed"):
        checkpoint.load(path)


def test_links_pipes_and_oversized_files_are_refused(tmp_path):
    path = checkpoint.save(tmp_path / "c", STATE, meta=META)
    (path / "state.json").rename(tmp_path / "elsewhere.json")
    (path / "state.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match="a link is never followed"):
        checkpoint.load(path)
    (path / "state.json").unlink()
    os.mkfifo(path / "state.json")
    with pytest.raises(CheckpointError, match="is not a plain file"):
        checkpoint.load(path)
    (path / "state.json").unlink()
    (path / "state.json").write_bytes(b" " * 100_000)
    with pytest.raises(CheckpointError, match="has 100000 bytes, at most"):
        checkpoint.load(path)


def test_other_versions_and_other_things_are_named(tmp_path):
    path = checkpoint.save(tmp_path / "c", STATE, meta=META)
    resealed(path, lambda m: m.update(format_version=99))
    with pytest.raises(CheckpointError, match=r"format version 99, this dynarl reads version 1"):
        checkpoint.load(path)
    resealed(path, lambda m: m.update(format="else"))
    with pytest.raises(CheckpointError, match="is not a dynarl checkpoint"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="does not exist; a checkpoint is a directory"):
        checkpoint.load(tmp_path / "nothing")
    (tmp_path / "model.zip").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="is a file; a checkpoint is a directory"):
        checkpoint.load(tmp_path / "model.zip")


def test_missing_members_and_wrong_references(tmp_path):
    path = checkpoint.save(tmp_path / "c", STATE, meta=META)
    resealed(path, lambda m: m["files"].pop("state.json"))
    with pytest.raises(CheckpointError, match=r"has no state\.json in its manifest"):
        checkpoint.load(path)
    other = checkpoint.save(tmp_path / "d", {}, meta=META)
    content = b'{"state": {"a": {"$array": "no such"}}}'
    forge(other, "state.json", content)
    with pytest.raises(CheckpointError, match="is not well formed: KeyError"):
        checkpoint.load(other)
    forge(other, "state.json", b"[" * 200_000)
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        checkpoint.load(other)


def forge(path, name, content):
    import hashlib

    (path / name).write_bytes(content)
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    resealed(path, lambda m: m["files"].update({name: entry}))


@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json", "MANIFEST.json"])
def test_a_pickle_inside_is_never_executed(tmp_path, name):
    import pickle

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = checkpoint.save(tmp_path / "c", STATE, meta=META)
    if name == "MANIFEST.json":
        (path / name).write_bytes(pickle.dumps(Payload()))
    else:
        forge(path, name, pickle.dumps(Payload()))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not (tmp_path / "executed").exists()


def test_a_full_or_broken_disk_keeps_the_old_one(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c", {"v": 1}, meta={})
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        real(handle)

    for failing in range(1, 5):  # noqa: B007 - full() reads it
        calls.clear()
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left on device; checkpoints written before"):
            checkpoint.save(tmp_path / "c", {"v": 2}, meta={})
        monkeypatch.setattr(os, "fsync", real)
        assert checkpoint.load(tmp_path / "c").state == {"v": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_file_in_place_of_the_parent(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoint.save(tmp_path / "file" / "c", {}, meta={})


WRITER = """
import sys, numpy as np
from pathlib import Path
from dynarl.train.run_directory import RunDirectory
d = RunDirectory(sys.argv[1], resume=(Path(sys.argv[1]) / "config.yaml").exists())
d.write_config("")
first = int(sys.argv[2])
for n in range(first, first + 100000):
    step = n // 2  # every step is saved twice: the second time replaces
    d.save({"n": n, "w": np.full(3000, n)}, meta={"env_steps": step}, keep=2)
    print(n, flush=True)
"""


def test_kill_minus_9_at_random_moments(tmp_path):
    rng, acknowledged = random.Random(1), 0
    run_dir = tmp_path / "run"
    for _ in range(25):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run_dir), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        time.sleep(rng.random() * 0.08)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split("\n")[:-1]
        process.stdout.close()
        process.wait()
        acknowledged = int(lines[-1]) if lines else acknowledged
        with RunDirectory(run_dir, resume=True):  # clears what the kill left, as a resumed run does
            found = latest(run_dir, report=pytest.fail)
        assert found is not None
        assert acknowledged <= found.state["n"] <= acknowledged + 1
        assert (found.state["w"] == found.state["n"]).all()
        assert not list((run_dir / "checkpoints").glob(".*"))
        acknowledged = found.state["n"]


def test_latest_falls_back_and_says_so(tmp_path):
    with RunDirectory(tmp_path / "r") as directory:
        directory.write_config("")
        assert latest(directory.path) is None
        for step in (1, 2, 3):
            directory.save({"v": step}, meta={"env_steps": step}, keep=9)
        said = []
        (directory.checkpoints / "ckpt-000000000003" / "state.json").write_bytes(b"{}")
        found = latest(directory.path, report=said.append)
        assert found is not None
        assert found.state == {"v": 2}
        assert "ckpt-000000000003 is not usable, trying the one before" in said[0]
        directory.set_aside_after(2)
        assert [step for step, _ in numbered(directory.path)] == [1, 2]
        for step in (1, 2):
            (directory.checkpoints / f"ckpt-{step:012d}" / "MANIFEST.json").unlink()
        with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints in .* is usable"):
            latest(directory.path)


def test_the_last_k_and_the_best_are_kept(tmp_path):
    with RunDirectory(tmp_path / "r") as directory:
        directory.write_config("")
        for step, score in enumerate([1.0, 9.0, None, 2.0, 3.0, 9.0 - 1e-9]):
            directory.save({}, meta={"env_steps": step, "score": score}, keep=2)
        assert [step for step, _ in numbered(directory.path)] == [1, 4, 5]


def test_another_algorithm_or_space_is_refused():
    env, other = gymnasium.make("CartPole-v1"), gymnasium.make("Acrobot-v1")
    meta = compatibility.describe("tiny", TinyConfig(), env.observation_space, env.action_space, {"env_steps": 3})
    compatibility.check(json.loads(json.dumps(meta)), "tiny", env.observation_space, env.action_space)
    assert (meta["env_steps"], meta["config"]["num_steps"]) == (3, 64)
    with pytest.raises(CheckpointError, match="written by 'sac', it cannot be loaded into 'tiny'"):
        compatibility.check({**meta, "algorithm": "sac"}, "tiny", env.observation_space, env.action_space)
    with pytest.raises(CheckpointError, match=r"observation_space differs, the checkpoint has .*\[4\].*\[6\]"):
        compatibility.check(meta, "tiny", other.observation_space, env.action_space)


def test_spaces_are_described_exactly():
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

    image = np.zeros((9, 9, 3), np.float32)
    spaces = [
        Box(-1, 1, (2,)),
        Box(-1, 2, (2,)),
        Box(-1, 1, (3,)),
        Box(np.float32([-1, -2]), np.float32([1, 2])),
        Box(image, image + 1),
        Box(image, image + np.linspace(0, 1, 243, dtype=np.float32).reshape(9, 9, 3)),
        Discrete(3),
        Discrete(3, start=1),
        MultiDiscrete([2, 3]),
        MultiBinary(4),
        Dict({"a": Discrete(2)}),
        Dict({"b": Discrete(2)}),
        Tuple([Discrete(2)]),
        Box(-np.inf, np.inf, (2,), np.float64),
    ]
    described = [compatibility.describe_space(space) for space in spaces]
    assert all(a != b for i, a in enumerate(described) for b in described[:i])
