"""The best values of a study as a suite file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from fedbench.components import KINDS
from fedbench.datasets import splits_of
from fedbench.suites.cell import CellSpec
from fedbench.tuning.results import Candidate, TuningResult
from fedbench.util.errors import SuiteError
from fedbench.util.files import plain_errors, replacing
from fedbench.util.text import one_line

MARK = "# Written by fedbench tune"  # how a file begins that may be replaced


def require_new_file(path: Path) -> None:
    """Find out before a search whether its result can be saved.

    Raises
    ------
    SuiteError
        If the file is there and not from an earlier `fedbench tune`, its folder is not, or it is no suite file's name.
    DataError
        If nothing can be written there.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SuiteError(f"--save {path}: a suite file ends in .yaml")
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(MARK.encode())):
        raise SuiteError(f"--save {path}: the file is there already; name a new one")
    if not path.absolute().parent.is_dir():
        raise SuiteError(f"--save {path}: there is no folder {path.parent}; make it first")
    with plain_errors(f"cannot write {path}"), tempfile.TemporaryFile(dir=path.absolute().parent):
        pass


def save_suite(path: Path, result: TuningResult, best: Candidate, seeds: tuple[int, ...]) -> None:
    """Write a suite of one scenario with the best values; `seeds` are those of the suite that was tuned."""
    plan = result.plan
    defaults = CellSpec.model_construct().values | {"split": splits_of(best.spec.part("dataset"))[0]}
    for kind in KINDS:
        for option, declared in best.spec.component(kind).options.model_fields.items():
            defaults[option] = declared.default
    always = {"dataset", "model", "rounds", *best.params}
    fields = {name: value for name, value in best.spec.values.items() if name in always or value != defaults.get(name)}
    for part in best.spec.parts:  # with its options, which a part that takes any has in this form only
        options = best.spec.options_of(part.kind)
        fields[part.kind] = {"use": part.named_from(path.parent), **options}
        for option in options:
            fields.pop(option, None)
    content = {
        "name": f"{plan.suite}-tuned"[:100],
        "question": f"How good is {plan.cell} of {plan.suite} with the best values of its tuning?",
        "seeds": list(seeds),
        "scenarios": [{"name": plan.scenario, **fields}],
    }
    text = yaml.safe_dump(content, sort_keys=False)
    head = (
        f"{MARK}: the best of {len(result.trials)} trials by {plan.objective} on a validation split.\n"
        f"# {result.answer}: {one_line(result.reason)}\n"
    )
    with plain_errors(f"cannot write {path}"), replacing(path) as file:
        file.write((head + text).encode())
