"""``tulle apiserver`` as a process, on a socket that outlives it: connections wait for the next one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

TULLE = Path(sys.executable).with_name("tulle")
NODE_TOKEN, READER_TOKEN, ADMIN_TOKEN = "node-a-token", "reader-token", "admin-token"
CONTROLLER_TOKEN = "controller-token"


class ApiServer:
    """State in ``folder``; known tokens are those of node-a, an administrator, `tulle controller`, and a user
    without any group.

    ``listener``: a socket on 127.0.0.1 instead of a new one, such as one of another network namespace.
    """

    def __init__(self, folder: Path, listener: socket.socket | None = None) -> None:
        self.folder, self.kubeconfig = folder, folder / "kubeconfig"
        self.socket = listener or socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"https://127.0.0.1:{self.socket.getsockname()[1]}"
        self._tokens = folder / "tokens"
        self._tokens.write_text(
            "# token,user,groups\n"
            f"{NODE_TOKEN},system:node:node-a,system:nodes\n"
            f"{READER_TOKEN},reader\n"
            f"{ADMIN_TOKEN},operator,system:masters|operators\n"
            f"{CONTROLLER_TOKEN},system:serviceaccount:kube-system:tulle-controller,tulle:controllers\n"
        )
        self._process: subprocess.Popen[str] | None = None

    @property
    def ca(self) -> Path:
        return self.folder / "state/pki/ca.crt"

    def start(self, *more: str) -> None:
        """Returns once it listens, by its own word."""
        options = {"state-dir": self.folder / "state", "kubeconfig-out": self.kubeconfig}
        options |= {"token-file": self._tokens, "listen-fd": self.socket.fileno()}
        command = [TULLE, "apiserver", *(f"--{name}={value}" for name, value in options.items()), *more]
        self._process = subprocess.Popen(
            command, pass_fds=[self.socket.fileno()], stderr=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stderr is not None
        heard = ""
        for line in self._process.stderr:
            heard += line
            if "listening on" in line:
                return
        raise AssertionError(f"the API server ended before it listened:\n{heard}")

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """In an orderly way; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        process.communicate()
        return process.returncode

    def close(self) -> None:
        self.kill()
        self.socket.close()


class Kubectl:
    """The real kubectl, as the administrator or with another ``token``."""

    def __init__(self, server: ApiServer, home: Path) -> None:
        self._server = server
        self._base = ["kubectl", f"--kubeconfig={server.kubeconfig}"]
        self._environment = os.environ | {"HOME": str(home), "KUBECACHEDIR": str(home / "cache")}

    def __call__(
        self, *arguments: str, given: str | dict[str, Any] | None = None, fails: bool = False
    ) -> str:
        """What it prints; of a command that is to fail, what it says about that."""
        done = self.run(*arguments, given=given)
        assert (done.returncode != 0) is fails, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout

    def run(
        self, *arguments: str, given: str | dict[str, Any] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        text = json.dumps(given) if isinstance(given, dict) else given
        settings = self._environment | environment
        command = [*self._base, *arguments]
        return subprocess.run(command, input=text, env=settings, capture_output=True, text=True, timeout=120)

    def open(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on; the caller ends it."""
        command = [*self._base, *arguments]
        return subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True, bufsize=1)

    def as_user(self, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """With a bearer token instead of the administrator's certificate."""
        server = ["--kubeconfig=/dev/null", f"--server={self._server.url}", f"--token={token}"]
        command = ["kubectl", *server, f"--certificate-authority={self._server.ca}", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120)
