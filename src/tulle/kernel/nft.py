"""nftables, by its own command: rulesets are text that is applied whole or not at all."""

from __future__ import annotations

import asyncio
import errno

from tulle.errors import KernelError, PrerequisiteError


async def apply(ruleset: str) -> None:
    """Applies a ruleset in one transaction. Raises ``KernelError`` with what nft says."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-f",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise PrerequisiteError(
            "nft is missing", "masquerading towards the outside", "apt-get install nftables"
        ) from error
    _, said = await process.communicate(ruleset.encode())
    if process.returncode:
        raise KernelError(errno.EINVAL, f"apply the nftables ruleset ({said.decode().strip()})")
