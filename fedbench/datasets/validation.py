"""A validation split: examples held out of a dataset's training data, so that the test set chooses nothing.

Of each class about the same fraction is held out, whole groups if examples must stay together (see `TrainingData`).
Chance comes from SHA-256 of the groups' names or, without groups, of the images' bytes. So the split is the same for
every seed, process and machine, whatever the order of the examples.

Whether an example is held out does not depend on its position, and the others keep their order. So a block of
consecutive examples, which is a client of the ``consecutive`` partition, keeps the shares of its classes up to chance:
with a fifth of mnist-5k held out, 300 consecutive examples have 30 of each class with a standard deviation of 2.4
(300 random ones: 5.2). Taking every fifth example of a class would follow any pattern in the order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.datasets import Dataset, TrainingData, checked_split, data_dir, dataset_info, dataset_module
from fedbench.datasets.content import assemble
from fedbench.util.advice import data_command
from fedbench.util.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load_held_out(
    name: str, split: str, fraction: float, folder: Path | None = None, source: object | None = None
) -> Dataset:
    """Load a dataset's training data, split into training and validation examples. The test set is not read.

    Parameters
    ----------
    name, split
        A key of `DATASETS`, and the split of it whose training data is split further.
    fraction
        The share of each class that is held out, between 0 and 1: rounded, but at least one group and never all.
        Groups are taken in random order as long as they fit.
    source
        What loads a dataset that is not built in (see `fedbench.datasets`).

    Returns
    -------
    Dataset
        ``train_*`` are the remaining examples, ``test_*`` the held-out ones, both in their original order. The digest
        is that of this content.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, not {fraction}")
    chosen = checked_split(source or name, split)
    training, origin = _load_training(name, source or name, chosen, folder)
    out = _held_out(training, fraction, f"dataset {name}, split {chosen}")  # (N,)
    rest = replace(
        training,
        images=training.images[~out],
        labels=training.labels[~out],
        groups=None,
        columns={column: values[~out] for column, values in training.columns.items()},
    )
    held_out = (training.images[out], training.labels[out])
    return assemble(name, f"{chosen} validation {fraction:g}", rest, held_out, origin)


def _load_training(name: str, source: object, split: str, folder: Path | None) -> tuple[TrainingData, str]:
    """The training data and its source."""
    module = dataset_module(source)
    if not hasattr(module, "load_training"):
        whole: Dataset = module.load(data_dir(folder), split)
        images, labels = whole.train_images.numpy(), whole.train_labels.numpy()
        rest = (whole.mean, whole.std, whole.class_names)
        return TrainingData(images, labels, *rest, columns=whole.train_columns), whole.source
    training: TrainingData = module.load_training(data_dir(folder), split)
    info = dataset_info(source)
    if len(training.labels) != info.sizes[split][0]:
        raise DataError(
            f"dataset {name}, split {split}: {len(training.labels)} training examples "
            f"instead of {info.sizes[split][0]}: run: {data_command('verify', name)}"
        )
    return training, info.url


def _held_out(training: TrainingData, fraction: float, where: str) -> NDArray[np.bool_]:
    """Whether each example is held out, (N,); `where` names the data in errors."""
    import numpy as np

    labels = training.labels.tolist()
    of_class: dict[int, list[list[int]]] = {label: [] for label in labels}
    for positions in _in_random_order(training):
        of_class[labels[positions[0]]].append(positions)
    held_out = np.zeros(len(labels), dtype=np.bool_)
    for label, groups in of_class.items():
        if len(groups) < 2:
            count = labels.count(label)
            examples = "1 example" if count == 1 else f"{count} examples that must stay together"
            raise DataError(
                f"{where}: class {training.class_names[label]} cannot be split into training and validation "
                f"examples, it has {examples}: add examples to this class or leave it out"
            )
        held_out[list(_as_many_as_fit(groups, fraction))] = True
    return held_out


def _in_random_order(training: TrainingData) -> list[list[int]]:
    """The positions of each group's examples; without groups, each example is one."""
    keyed: Iterable[tuple[bytes, list[int]]]
    if training.groups is None:
        keyed = ((image.tobytes(), [position]) for position, image in enumerate(training.images))
    else:
        of_group: dict[str, list[int]] = defaultdict(list)
        for position, group in zip(range(len(training.labels)), training.groups, strict=True):
            of_group[group].append(position)
        keyed = ((group.encode(), positions) for group, positions in of_group.items())
    # Of equal images, the positions decide.
    return [positions for _, positions in sorted((_chance(key), positions) for key, positions in keyed)]


def _as_many_as_fit(groups: list[list[int]], fraction: float) -> Iterable[int]:
    """Positions of about `fraction` of a class's examples, in whole groups: at least one and not all."""
    size = sum(len(positions) for positions in groups)
    smallest = min(groups, key=len)
    room = min(max(round(fraction * size), len(smallest)), size - 1)
    for positions in groups:
        if len(positions) <= room:
            yield from positions
            room -= len(positions)


def _chance(key: bytes) -> bytes:
    return hashlib.sha256(b"fedbench validation " + key).digest()
