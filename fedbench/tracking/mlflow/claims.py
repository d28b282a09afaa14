"""Who works on a run: claims in its tags, kept alive by a heartbeat; what a crash leaves behind is seen as dead.

A process that wants a run writes a claim into a tag of its own, then looks who else did, and decides by `decide`. That
is Lamport's bakery algorithm in small: a claim is first `wanted`, and becomes `owned` only if nobody else was seen; of
two that want at once the smaller name goes first. It needs of a store only that what was written is read afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

import psutil

CLAIM_TAG = "fedbench.claim."  # and the claim's name
HEARTBEAT_SECONDS = 15.0
DEAD_AFTER_SECONDS = 90.0  # without a heartbeat; a dead process of this machine is known to be dead at once


ClaimState = Literal["wanted", "owned"]


class Decision(StrEnum):
    """What a process that wants a run does next."""

    OWN = "own"
    WAIT = "wait"
    LEAVE = "leave"


@dataclass(frozen=True)
class Claim:
    """A process's claim on a run.

    Attributes
    ----------
    name
        The process's own, made up when it starts.
    state
        See the module.
    host
        Where process numbers mean this process.
    pid, started
        The process and when it began, in seconds since 1970.
    heartbeat
        When the claim was last written, in seconds since 1970.
    """

    name: str
    state: ClaimState
    host: str
    pid: int
    started: float
    heartbeat: float

    @classmethod
    def of_this_process(cls) -> Self:
        """A claim by this process, with a new name."""
        started = psutil.Process().create_time()
        return cls(secrets.token_hex(8), "wanted", _this_host(), os.getpid(), started, time.time())

    def refreshed(self, state: ClaimState) -> Self:
        """The same claim with a heartbeat of now."""
        return replace(self, state=state, heartbeat=time.time())

    @property
    def tag(self) -> str:
        """The key of the tag that holds the claim."""
        return f"{CLAIM_TAG}{self.name}"

    @property
    def machine(self) -> str:
        """The host's name."""
        return self.host.partition(" ")[0]

    def text(self) -> str:
        """The tag's value."""
        return json.dumps({key: value for key, value in asdict(self).items() if key != "name"})

    def is_of_this_host(self) -> bool:
        """Whether its process, if it runs, can be seen from here."""
        return self.host == _this_host()

    def is_alive(self) -> bool:
        """Whether the process still runs, as far as can be seen from here."""
        if not self.is_of_this_host():
            return time.time() - self.heartbeat < DEAD_AFTER_SECONDS
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)  # ended, and nobody has asked for its code
        except psutil.Error:
            return False


def claims_of(tags: Mapping[str, str]) -> list[Claim]:
    """The claims in a run's tags, dead ones too; what is no claim of ours is left out."""
    claims = []
    for key, text in tags.items():
        if key.startswith(CLAIM_TAG):
            try:
                claims.append(Claim(key.removeprefix(CLAIM_TAG), **json.loads(text)))
            except (TypeError, ValueError):
                continue
    return claims


def decide(mine: Claim, others: Iterable[Claim]) -> Decision:
    """What to do about a run, given the live claims of others that were read after `mine` had been written."""
    others = list(others)
    if any(other.state == "owned" or other.name < mine.name for other in others):
        return Decision.LEAVE
    return Decision.WAIT if others else Decision.OWN


def _this_host() -> str:
    """The machine's name and, where there is such a thing, the space of its process numbers."""
    try:
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()
