"""Network namespaces at paths, also where the mount is not visible to this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tulle.kernel import netns

AGENT = """
import sys
from pathlib import Path
from tulle.kernel import netns
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with netns.entered(path):
    print(netns.exists(path), netns.is_own(path))
"""

INIT = """
import subprocess, sys
from pathlib import Path
from tulle.kernel import netns
command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", sys.argv[2], sys.argv[1]]
agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
agent.stdout.readline()
netns.create(Path(sys.argv[1]))
print(agent.communicate("go\\n", timeout=10)[0], end="")
"""


def test_a_namespace_mounted_where_only_process_1_sees_it(tmp_path: Path) -> None:
    """As for an agent whose service has a mount namespace of its own, and a sandbox made after its start."""
    machine = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*machine, sys.executable, "-c", INIT, str(tmp_path / "late"), AGENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "True True\n", done.stderr


def test_what_is_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not any(netns.exists(tmp_path / name) for name in ("file", "nothing"))
