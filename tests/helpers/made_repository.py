"""A user's repository: a suite, its model in a file and its partition in a package, committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

NET = '''"""My network."""
from torch import nn

from nets.layers import flat


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(784, width), nn.Linear(width, 10)

    def forward(self, x):
        return self.out(self.hidden(flat(x)).relu())
'''
LAYERS = "def flat(x):\n    return x.flatten(1)\n"
SUITE = """
name: digits
question: Is it worse, or slower?
seeds: [0, 1, 2]
defaults: {num_clients: 2, examples_per_client: 100, rounds: 2, local_epochs: 2, learning_rate: 0.1}
scenarios:
  - {name: own, model: ../nets/my_net.py:Net, width: [8, 16]}
  - {name: plain, model: 2nn, algorithm: fedavgm}
"""


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.strip()


def commit(folder: Path, message: str = "next") -> str:
    """Commit all that is there; the hash."""
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def made_repository(folder: Path) -> Path:
    """The suite file of a new repository at `folder`, with one commit."""
    for name in ("nets", "suites", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "nets/my_net.py").write_text(NET)
    (folder / "nets/layers.py").write_text(LAYERS)
    (folder / "suites/digits.yaml").write_text(SUITE)
    (folder / ".gitignore").write_text("data/\nmlruns/\n")
    git(folder, "init", "--quiet")
    commit(folder)
    return folder / "suites/digits.yaml"
