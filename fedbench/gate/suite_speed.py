"""Whether a suite's own parts have become slower: those of a revision and of the working tree, timed in turns.

The suite is the working tree's on both sides, its parts are each tree's own. `fedbench.gate.suite_workloads` computes
the works of one tree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.bench.run import PACKAGE, checkout
from fedbench.components import Component
from fedbench.datasets import data_dir
from fedbench.gate.checks import SpeedCheck
from fedbench.gate.speed import MAX_SECONDS, SESSION_SECONDS, compare
from fedbench.gate.trees import Trees, resolve, unpacked
from fedbench.gate.works import MAX_EXAMPLES, Work, changed_options, title, works_of
from fedbench.suites.cell import CellSpec
from fedbench.suites.schema import Suite
from fedbench.suites.uses import USE
from fedbench.util.errors import BenchmarkError

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.runs.data import DataSource

WORKLOADS = Path(__file__).with_name("suite_workloads.py")
WORKS = "works.json"  # next to the copy of WORKLOADS


def check_suite_against(
    suite: Suite,
    data: DataSource,
    revision: str,
    max_seconds: float = MAX_SECONDS,
    session_seconds: float = SESSION_SECONDS,
) -> SpeedCheck:
    """Time what the suite's cells do, with the parts of `revision` and of the working tree in turns.

    The repository is that of the suite's file. Works that none of its code takes part in are left out. What the
    revision lacks is ``inconclusive``; for the rest see `fedbench.gate.speed.check_against`. The inputs of both sides
    are the first examples of each dataset. Raises `BenchmarkError` if there is no repository or no such revision, or no
    part that is timed is in the repository.
    """
    return compare(suite_trees(suite, data, revision), revision, max_seconds, session_seconds)


def timed_works(suite: Suite, revision: str) -> tuple[Path, list[Work]]:
    """The root of a suite's repository, and the works that its code takes part in; for errors see above."""
    root, _ = resolve(revision, suite.path.parent)
    works = [work for work in works_of(suite) if any(is_of(part, root) for part in work.parts)]
    if not works:
        raise BenchmarkError(
            f"{suite.path}: no part that is timed comes from the repository {root}, so that all its revisions are the "
            "same: leave --speed out"
        )
    return root, works


@contextmanager
def suite_trees(suite: Suite, data: DataSource, revision: str) -> Iterator[Trees]:
    """Both trees, with the works of a suite and their inputs."""
    root, works = timed_works(suite, revision)
    parts = dict.fromkeys(part for cell in suite.cells for part in cell.spec.parts)
    search = [found for part in parts if (found := import_folder(part, root))]
    named = {Path(cell.spec.component("dataset").data) for cell in suite.cells}
    files = [*(path for path in named if path.is_absolute()), data_dir(data.folder), Path("mlruns")]
    with unpacked(revision, root, WORKLOADS, more_search=search, data=files) as trees:
        names: dict[tuple[str, str], str] = {}
        for spec in (work.spec for work in works):
            if (key := (title(spec, "dataset"), spec.split)) not in names:
                names[key] = f"inputs-{len(names)}"
                _write_inputs(trees.folder / names[key], spec, data.dataset(spec))
        described = [_described(trees, work, names[title(work.spec, "dataset"), work.spec.split]) for work in works]
        (trees.folder / WORKS).write_text(json.dumps({"root": str(root), "now": str(trees.now), "works": described}))
        yield trees


def _described(trees: Trees, work: Work, inputs: str) -> dict[str, Any]:
    """A work as `suite_workloads` reads it."""
    uses = {part.kind: {USE: _reference(trees, part), **changed_options(work.spec, part.kind)} for part in work.parts}
    fields = work.fields | {"dataset": str(trees.folder / f"{inputs}.py"), "split": work.spec.split}
    described = {"name": work.name, "group": work.group, "uses": uses, "fields": fields}
    return described | {"inputs": inputs, "number": work.number}


def _write_inputs(path: Path, spec: CellSpec, dataset: Dataset) -> None:
    """Write the first examples of a dataset, and a file that stands in for the dataset in a cell."""
    import torch

    images = {"train": dataset.train_images, "test": dataset.test_images}
    labels = {"train": dataset.train_labels, "test": dataset.test_labels}
    first = slice(MAX_EXAMPLES)
    inputs = {of: (dataset.normalise(images[of][first]), labels[of][first].clone()) for of in images}
    torch.save(inputs, path.with_suffix(".pt"))
    info = spec.part("dataset").INFO
    stand_in = f"from fedbench.datasets import {type(info).__name__}\n\nINFO = {info!r}\nload = None\n"
    path.with_suffix(".py").write_text(stand_in)


def _reference(trees: Trees, part: Component) -> str:
    """The name of a part as it is found in a tree: a file of the repository by its path there."""
    if part.file is None:
        return part.name
    path = trees.inside(part.file) or part.file
    return f"{path.as_posix() if path.is_absolute() else f'./{path.as_posix()}'}:{part.target.rpartition(':')[2]}"


def is_of(part: Component, root: Path) -> bool:
    """Whether the code of a part is in the repository at `root`."""
    if part.digest is None:
        return checkout() is not None and PACKAGE.resolve().is_relative_to(root)
    return part.file.resolve().is_relative_to(root) if part.file else import_folder(part, root) is not None


def import_folder(part: Component, root: Path) -> Path | None:
    """The folder of a repository that the module of a part is imported from, even if it is also installed."""
    if part.digest is None or part.file:
        return None
    top = part.target.partition(":")[0].partition(".")[0]
    spec = find_spec(top)
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    found = [Path(each).resolve().parent for each in places if each]
    folders = [folder for folder in found if folder.is_relative_to(root) and "site-packages" not in folder.parts]
    there = [folder for folder in (root, root / "src") if (folder / top).is_dir() or (folder / f"{top}.py").is_file()]
    return next(iter([*folders, *there]), None)
