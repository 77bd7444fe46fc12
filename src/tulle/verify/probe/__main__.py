"""``serve`` until told to stop, or ``check`` what one line of JSON on standard input asks for."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from tulle.verify.probe.client import check_all
from tulle.verify.probe.interfaces import interfaces
from tulle.verify.probe.names import resolver
from tulle.verify.probe.server import Server


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 if the port to serve on is taken."""
    parser = argparse.ArgumentParser(prog="tulle probe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer on TCP and UDP, both families")
    serve.add_argument("--port", type=int, default=8099, help="(default: %(default)s)")
    serve.add_argument("--name", required=True, help="what to answer as; the Pod's name")
    commands.add_parser("check", help="read {timeout, checks} and print what was found, in JSON")
    options = parser.parse_args(arguments)
    return _serve(options.name, options.port) if options.command == "serve" else _check()


def _serve(name: str, port: int) -> int:
    try:
        asyncio.run(Server(name, port).run())
    except OSError as error:
        print(f"tulle probe: port {port} cannot be used: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _check() -> int:
    """One line, not until the end of the file: older API servers cannot pass that on."""
    asked = json.loads(sys.stdin.buffer.readline())
    results = asyncio.run(check_all(asked["checks"], asked["timeout"]))
    print(json.dumps({"interfaces": interfaces(), "resolver": resolver(), "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
