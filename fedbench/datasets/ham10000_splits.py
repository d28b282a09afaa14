"""HAM10000's two fixed splits into training and test images.

Chance comes from SHA-256 of the ids, so the splits depend on no seed, no library's generator and no order of rows.
The table is grouped by class and clients take consecutive blocks, so both parts are in a shuffled order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from fedbench.datasets.ham10000_files import CLASSES, Row

TEST_SHARE = 0.2


def split_by_lesion(rows: Sequence[Row]) -> tuple[list[int], list[int]]:
    """Positions in `rows` of the training and the test images; no lesion is on both sides.

    Of each class, whole lesions are taken for testing, in random order, as long as they fit into a fifth of the
    class's images.
    """
    of_lesion: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        of_lesion[row.lesion_id].append(position)
    test: set[int] = set()
    for label in range(len(CLASSES)):
        lesions = [lesion for lesion, positions in of_lesion.items() if rows[positions[0]].label == label]
        room = round(TEST_SHARE * sum(len(of_lesion[lesion]) for lesion in lesions))
        for lesion in sorted(lesions, key=lambda lesion: _chance("lesion", lesion)):
            if len(of_lesion[lesion]) <= room:
                test.update(of_lesion[lesion])
                room -= len(of_lesion[lesion])
    order = _shuffled(rows)
    return [position for position in order if position not in test], [p for p in order if p in test]


def split_by_image(rows: Sequence[Row]) -> tuple[list[int], list[int]]:
    """Positions in `rows` of the training and the test images: a random fifth of all images is for testing.

    The split of the study that this project grew from: pictures of one lesion are on both sides, which flatters
    the test accuracy.
    """
    order = _shuffled(rows)
    test_size = round(TEST_SHARE * len(rows))
    return order[test_size:], order[:test_size]


def _shuffled(rows: Sequence[Row]) -> list[int]:
    return sorted(range(len(rows)), key=lambda position: _chance("image", rows[position].image_id))


def _chance(purpose: str, identifier: str) -> bytes:
    return hashlib.sha256(f"fedbench ham10000 {purpose} {identifier}".encode()).digest()
