"""What the scripts that drive a gateway share: its process, and the list of what held."""

import socket
import subprocess
import sys
import time
import traceback

KEY = "sk-scripted"
PATIENCE_S = 120


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until_listening(process, port):
    """Waits until a process listens; ends this one if it never will."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                sys.exit(f"nothing listens on port {port}")
            time.sleep(0.05)


class Gateway:
    """A gateway in front of an upstream, as a process of its own; it repeats nothing, and knows one key."""

    def __init__(self, athena, upstream, *settings):
        self.port = free_port()
        settings = [
            f"llm_port={self.port}", f"llm_upstream_url={upstream}", "llm_model=scripted", "llm_max_retries=0",
            "llm_timeout=1s", f"auth_tokens={KEY}=client:agent", "log_filter=error", *settings,
        ]
        flags = [word for setting in settings for word in ("--set", setting)]
        self.process = subprocess.Popen([athena, "serve", "llm-gateway", *flags])
        until_listening(self.process, self.port)
        scheme = "https" if any(setting.startswith("tls_cert=") for setting in settings) else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/v1"


def report(checks):
    """Runs checks, given as (name, function), prints what became of each, and returns the exit code."""
    failed = 0
    for name, check in checks:
        try:
            check()
            print(f"ok   {name}")
        except Exception:
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0
