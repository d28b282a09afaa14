"""A profile of a run, as text for one screen and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedbench.runs.profiling import Profile, Recorder

MAX_NAME = 48  # characters of an operator's name, so that a line fits in a terminal


def profile_json(profile: Profile | None) -> dict[str, Any] | None:
    """The field ``profile`` of a suite's results (see docs/reference/json.md)."""
    if profile is None:
        return None
    return {
        "run": profile.run.cell,
        "seed": profile.run.seed,
        "rounds": profile.rounds,
        "seconds": profile.seconds,
        "parts": dict(profile.parts),
        "path": str(profile.path),
    }


def profile_summary(recorder: Recorder) -> str:
    """The profile for one screen, or why there is none.

    Raises
    ------
    DataError
        If it could not be written.
    """
    if recorder.error:
        raise recorder.error
    return _summary(recorder.profile) if recorder.profile else recorder.reason


def _summary(profile: Profile) -> str:
    rounds = "1 round" if profile.rounds == 1 else f"{profile.rounds} rounds"
    width = min(max(len(each.name) for each in profile.operators), MAX_NAME) if profile.operators else MAX_NAME

    def share(seconds: float) -> str:
        return f"{seconds:9.3f} {seconds / profile.seconds:7.1%}"

    return "\n".join(
        [
            f"Profile of {profile.run.cell} seed={profile.run.seed}: {rounds}, {profile.seconds:.3f} s recorded",
            "",
            f"{'part':{width}}   seconds   share",
            *(f"{name:{width}} {share(seconds)}" for name, seconds in profile.parts.items()),
            "",
            f"{'operator':{width}}   seconds   share     calls",
            *(f"{each.name[:width]:{width}} {share(each.seconds)} {each.calls:9}" for each in profile.operators),
            "",
            f"Seconds of an operator are its own on the CPU. The trace: {profile.path}",
            "Open it at https://ui.perfetto.dev (Open trace file) or in Chrome at chrome://tracing (Load).",
        ]
    )
