"""Real Ray nodes for tests: processes on loopback, with a token, in a short temporary folder, gone afterwards."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
MARK = "DYNARL_TEST_NODE"


def free_ports(number):
    """Return ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def until(condition, what, seconds=120.0):
    """Wait for a condition to be true and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)
    return found


def marked(mark):
    """Return the processes, zombies aside, whose environment has a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def kill(mark):
    """Kill all processes of a node at once, as a power cut would."""
    for _ in range(100):
        pids = marked(mark)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            return
        time.sleep(0.05)
    raise AssertionError(f"processes {pids} cannot be killed")


class Cluster:
    """A head and the nodes that `add` starts, each of processes of its own. Use as a context manager."""

    def __init__(self, *, cpus=4, dashboard=False, token=None, env=None):
        self.temp = tempfile.mkdtemp(prefix="rt", dir="/tmp")  # the names of Ray's sockets must stay short
        self.name = secrets.token_hex(6)
        self.token = token or secrets.token_hex(32)
        port, self.client_port, self.dashboard_port, agent = free_ports(4)
        self.address, self.client = f"127.0.0.1:{port}", f"ray://127.0.0.1:{self.client_port}"
        self.dashboard = f"http://127.0.0.1:{self.dashboard_port}"
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "5000",
            "RAY_health_check_failure_threshold": "3",
            "PYTHONPATH": str(ROOT),
            # jobs say `python`: on this cluster that is the one that runs the tests
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            **(env or {}),
        }
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        self.nodes = {}
        with_dashboard = [
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard_port}",
            f"--dashboard-agent-listen-port={agent}",
        ]
        self._start(
            "head",
            [*RAY, "start", "--block", "--head", "--disable-usage-stats", f"--num-cpus={cpus}", f"--port={port}"]
            # The worker ports are the system's choice: other clusters may run on this machine.
            + ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
            + [f"--ray-client-server-port={self.client_port}", f"--temp-dir={self.temp}"]
            + (with_dashboard if dashboard else ["--include-dashboard=False"]),
        )
        try:
            until(lambda: self._listens(port), "head")
            until(lambda: self._listens(self.client_port), "Ray Client server")
            if dashboard:
                until(self._serves_jobs, "dashboard")
        except BaseException:
            self.close()
            raise

    def add(self, *, cpus=1, env=None, wait=True):
        """Start another node and return its name, once it belongs to the cluster."""
        name = f"node{len(self.nodes)}"
        self._start(name, [sys.executable, "-m", "tests.helpers.joined_node", self.address, str(cpus)], env)
        if wait:
            until(lambda: self._has_joined(name), name)
        return name

    def lose(self, name):
        """Kill a node without warning."""
        process = self.nodes.pop(name)
        kill(f"{self.name}-{name}")
        process.wait(timeout=30)

    def train(self, *flags, env=None, script="train_ppo.py"):
        """Return a training script as a process, its output in `.stdout` and `.stderr`."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / script), "--no-progress", "--no-tensorboard", *map(str, flags)],
            env={**self.environ, MARK: f"{self.name}-driver", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def job(self, *arguments, env=None):
        """Run `ray job ...` from the repository's root and return what came of it."""
        words = [*RAY, "job", arguments[0], "--address", self.dashboard, *map(str, arguments[1:])]
        return subprocess.run(
            words, env={**self.environ, **(env or {})}, cwd=ROOT, capture_output=True, text=True, timeout=240
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Stop everything, the head last; return the processes that had to be killed."""
        for process in reversed(self.nodes.values()):
            process.terminate()
        for process in self.nodes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
        end = time.monotonic() + 30
        while (left := marked(self.name)) and time.monotonic() < end:
            time.sleep(0.1)
        kill(self.name)
        shutil.rmtree(self.temp, ignore_errors=True)
        return left

    def _start(self, name, command, env=None):
        with Path(self.temp, f"{name}.out").open("w") as log:
            self.nodes[name] = subprocess.Popen(
                command,
                env={**self.environ, MARK: f"{self.name}-{name}", **(env or {})},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _has_joined(self, name):
        said = Path(self.temp, f"{name}.out").read_text()
        assert self.nodes[name].poll() is None, said
        return "joined" in said

    def _listens(self, port):
        head = self.nodes["head"]
        assert head.poll() is None, Path(self.temp, "head.out").read_text()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    def _serves_jobs(self):
        request = urllib.request.Request(
            f"{self.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            error.close()
            assert error.code >= 500, error
            return False
        except OSError:
            return False
