"""Where suite files are, by name or path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedbench.suites.checks import check_name
from fedbench.suites.variants import AT
from fedbench.suites.yaml_loader import read_yaml
from fedbench.util.advice import command
from fedbench.util.errors import SuiteError
from fedbench.util.text import one_line, unknown


def shipped_suites() -> Path:
    """The folder of the suites that come with fedbench: in the package if installed, next to it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "_suites" if (package / "_suites").is_dir() else package.parent / "suites"


def list_suites() -> dict[str, Path]:
    """Every suite by name: those in ``suites/`` of the working directory, then the shipped ones they do not hide.

    Hidden files and what editors leave are no suites.
    """
    folders = (shipped_suites(), Path("suites"))
    found = {path.stem: path for folder in folders for path in folder.glob("[!.#~]*.yaml")}
    return dict(sorted(found.items()))


def argument_of(name: str, path: Path) -> str:
    """How a command names a suite: by its name if that finds the file, else by the file."""
    return name if list_suites().get(name) == path else str(path)


def find_suite(name_or_path: str | Path) -> Path:
    """Return the file of a suite.

    Parameters
    ----------
    name_or_path
        A path if it holds a separator or ends in ``.yaml`` or ``.yml``; else a name (see `list_suites`).

    Raises
    ------
    SuiteError
        For an unknown name, with the nearest one. A path is not checked here.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    suites = list_suites()
    if text not in suites:
        name, is_variant, variant = text.partition(AT)
        if is_variant:
            raise SuiteError(
                one_line(
                    f"{text} is a variant, which has records and no file: name {name}, or its file; to run it, add "
                    f"--variant {variant} and what was set with --set"
                )
            )
        all_of_them = command("fedbench", "suites")
        raise SuiteError(one_line(f"{unknown('suite', text, suites, all_of_them)}, or give the path of a YAML file"))
    return suites[text]


@contextmanager
def errors_in(place: Path | str) -> Iterator[None]:
    """Name the file, or the option, in what is said of it."""
    try:
        yield
    except SuiteError as error:
        raise SuiteError(one_line(f"{place}: {error}")) from None


def read_key(path: Path, key: str) -> object:
    """A key of a suite file, of which nothing is checked; None if it has no such key."""
    suite = read_yaml(path)
    return suite.get(key) if isinstance(suite, dict) else None


def read_name(path: Path) -> str:
    """The name of the suite in a file, of which nothing else is checked, and no code executed."""
    with errors_in(path):
        return check_name(read_key(path, "name"), "name")
