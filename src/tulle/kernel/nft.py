"""nftables, by its own command: rulesets are text that is applied whole or not at all."""

from __future__ import annotations

import asyncio
import errno

from tulle.errors import KernelError, PrerequisiteError


async def apply(ruleset: str) -> None:
    """Applies a ruleset in one transaction. Raises ``KernelError`` with what nft says."""
    if said := await _nft("-f", "-", text=ruleset):
        raise KernelError(errno.EINVAL, f"apply the nftables ruleset ({said})")


async def has_table(name: str) -> bool:
    """Whether the ``inet`` table is there: whoever reloads the machine's own rules may flush all others."""
    return not await _nft("--terse", "list", "table", "inet", name)


async def _nft(*arguments: str, text: str = "") -> str:
    """What nft says when it fails; nothing else."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            *arguments,
            stdin=asyncio.subprocess.PIPE if text else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise PrerequisiteError(
            "nft is missing", "masquerading towards the outside", "apt-get install nftables"
        ) from error
    _, said = await process.communicate(text.encode() or None)
    return said.decode().strip() or "failed" if process.returncode else ""
