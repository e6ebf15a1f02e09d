"""What the scripts share: packages in environments of their own, processes, the mock upstream and the load."""

import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
TICKS = os.sysconf("SC_CLK_TCK")


def median(values):
    return statistics.median(values)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def machine():
    read = lambda path, name: next((line.split(":")[1].strip() for line in open(path) if line.startswith(name)), "")
    return {
        "cores": os.cpu_count(),
        "cpu": read("/proc/cpuinfo", "model name"),
        "memory": read("/proc/meminfo", "MemTotal"),
        "os": sys.platform,
    }


class Home:
    """The folder of everything that is installed for a comparison: `peers` in cargo's target folder, which may be deleted."""

    def __init__(self):
        self.target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.folder = self.target / "peers"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.installed = {}

    def file(self, name):
        return self.folder / name

    def secret(self):
        return f"sk-{secrets.token_hex(16)}"

    def release(self, *path):
        """Returns a program that `cargo build --release` has made."""
        program = self.target.joinpath("release", *path)
        if not program.exists():
            sys.exit(f"{program} is missing: build it as README.md says")
        return program

    def python(self, name, *packages):
        """Installs Python packages with what they need, once; returns the folder of their programs. The first is whose version is told."""
        folder = self.folder / name
        if not (folder / "done").exists():
            venv.create(folder, with_pip=True, clear=True)
            run(folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages)
            (folder / "done").touch()
        show = run(folder / "bin/pip", "show", packages[0].split("[")[0].split("=")[0].rstrip("!"))
        self.installed[name] = next(line.split()[1] for line in show.splitlines() if line.startswith("Version"))
        return folder / "bin"

    def node(self, name, package):
        """Installs an npm package with what it needs, once; returns the folder of its programs."""
        folder = self.folder / name
        if not (folder / "done").exists():
            run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", folder, package)
            (folder / "done").touch()
        manifest = folder / "node_modules" / package / "package.json"
        self.installed[name] = json.loads(manifest.read_text())["version"]
        return folder / "node_modules/.bin"

    def version(self, name):
        return self.installed.get(name, "this tree")


@dataclass
class Program:
    """What is started: its command, its port, its environment, and the headers that its callers send."""

    command: list
    port: int
    env: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)


class Process:
    """A running program and its children, as Linux tells of them."""

    def __init__(self, child, program):
        self.child, self.port, self.headers = child, program.port, program.headers

    def ids(self):
        parents = {int(id): int(stat(id)[1]) for id in os.listdir("/proc") if id.isdigit() and stat(id)}
        family = {self.child.pid}
        while more := {id for id, parent in parents.items() if parent in family} - family:
            family |= more
        return family

    def cpu(self):
        """Returns the seconds of CPU that it and its children have used so far."""
        return sum(int(field) for id in self.ids() if (fields := stat(id)) for field in fields[11:13]) / TICKS

    def resident(self):
        """Returns its resident bytes, those of its children included."""
        return sum(int(fields[21]) for id in self.ids() if (fields := stat(id))) * os.sysconf("SC_PAGE_SIZE")

    def end(self):
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def stat(id):
    """Returns the fields of /proc/ID/stat from the state on; none if it has ended."""
    try:
        return Path(f"/proc/{id}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


class Mock:
    """The mock upstream of `tests/examples/load.rs`."""

    def __init__(self, home):
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        command = [self.home.release("examples", "load"), "mock", "--port", self.port]
        self.process = start(Program(command, self.port), self.home, "mock")
        return self

    def __exit__(self, *_):
        self.process.end()

    def calls(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/calls") as answer:
            return int(answer.read())

    def delay(self, millis):
        url = f"http://127.0.0.1:{self.port}/delay"
        urllib.request.urlopen(urllib.request.Request(url, str(millis).encode(), method="PUT")).close()


def run(*command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stdout}")
    return done.stdout


def start(program, home, name):
    """Starts a program and waits until it listens; its output goes to a file in the home."""
    log = open(home.file(f"{name}.log"), "w")
    command, env = list(map(str, program.command)), {**os.environ, **program.env}
    child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", program.port), 1).close()
            return Process(child, program)
        except OSError:
            if child.poll() is not None or time.monotonic() > until:
                child.kill()
                sys.exit(f"{name} does not listen; see {log.name}")
            time.sleep(0.05)


def load(home, process, calls, per_second=None, connections=32, at_once=False, same=False, topic=None):
    """Sends a load of chat completions to a process; each call another question that was never asked before, unless `same`."""
    topic = topic or "".join(secrets.choice("bcdfghjklmnpqrstvwxz") for _ in range(12))
    words = ["--calls", calls, "--connections", connections, "--topic", topic]
    words += ["--per-second", per_second] if per_second else []
    words += ["--at-once"] if at_once else []
    words += ["--same"] if same else []
    words += [word for header in process.headers.items() for word in ("--header", ": ".join(header))]
    url = f"http://127.0.0.1:{process.port}/v1/chat/completions"
    return json.loads(run(home.release("examples", "load"), url, *words))
