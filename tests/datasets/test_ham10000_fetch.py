from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedbench.datasets import ham10000, ham10000_fetch, ham10000_files, load_dataset
from fedbench.util.errors import DataError

FIRST = "ISIC_0029271"
TABLE = "HAM10000_metadata.csv"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def content(skin: Path) -> dict[str, bytes]:
    """The table and the images of a copy, by path."""
    files = (path for path in skin.rglob("*") if path.suffix in {".csv", ".jpg"})
    return {path.relative_to(skin).as_posix(): path.read_bytes() for path in files}


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".part"))]


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            file.writestr(name, member)
    return path


# --- from folders and archives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1])
def test_a_fetch_from_a_folder_copies_the_set(small_ham: Path, data: Path, depth: int) -> None:
    ham10000.fetch(data, [small_ham, small_ham.parent][depth])
    assert content(small_ham) == content(data / "skin")
    assert not left_over(data)
    ham10000.verify(data)
    assert ham10000.is_present(data)


def test_a_fetch_decodes_so_that_the_first_load_need_not(
    small_ham: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ham10000.fetch(data, small_ham)
    expected = load_dataset("ham10000", folder=small_ham.parent).digest
    monkeypatch.setattr(ham10000_files, "decode_images", None)
    assert expected == load_dataset("ham10000", folder=data).digest


def test_the_mirror_folder_is_used_if_no_source_is_given(
    small_ham: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBENCH_MIRROR", str(small_ham.parent))
    ham10000.fetch(data, None)
    assert content(small_ham) == content(data / "skin")


def test_without_source_and_mirror_the_error_names_the_download_pages(data: Path) -> None:
    with pytest.raises(DataError) as caught:
        ham10000.fetch(data, None)
    for part in ("kmader/skin-cancer-mnist-ham10000", "doi:10.7910/DVN/DBW86T", "--from FILE.zip"):
        assert part in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_of_two_forms_of_the_table_the_csv_file_counts(
    small_ham: Path, data: Path, tmp_path: Path, packed: bool
) -> None:
    files = content(small_ham)
    other = files[TABLE].replace(b"\n", b",vidir\n")
    if packed:
        source = archive(tmp_path / "both.zip", {"HAM10000_metadata": other, **files})
    else:
        (small_ham / "HAM10000_metadata").write_bytes(other)
        source = small_ham
    ham10000.fetch(data, source)
    assert files == content(data / "skin")


def test_kaggles_archive_with_everything_twice_is_unpacked(small_ham: Path, data: Path, tmp_path: Path) -> None:
    members = content(small_ham)
    twice = {**members, **{f"nested/{name.lower().replace('isic', 'ISIC')}": file for name, file in members.items()}}
    ham10000.fetch(data, archive(tmp_path / "archive.zip", {**twice, "hmnist_28_28_L.csv": b"1,2"}))
    assert members == content(data / "skin")


def test_dataverses_files_in_one_folder_are_unpacked(small_ham: Path, data: Path, tmp_path: Path) -> None:
    members = content(small_ham)
    folder = tmp_path / "downloads"
    folder.mkdir()
    for part in ("HAM10000_images_part_1", "HAM10000_images_part_2"):
        images = {Path(name).name: file for name, file in members.items() if name.startswith(part)}
        archive(folder / f"{part}.zip", images)
    archive(folder / "ISIC2018_Task3_Test_Images.zip", {"ISIC_0034524.jpg": b"\xff\xd8 not of the table"})
    (folder / "broken.zip").write_bytes(b"PK not an archive")
    (folder / "HAM10000_metadata.tab").write_bytes(members[TABLE].replace(b",", b"\t"))
    ham10000.fetch(data, folder)
    assert members == content(data / "skin")


@pytest.mark.parametrize("depth", [1, 2])
def test_archives_in_archives_are_unpacked(small_ham: Path, data: Path, tmp_path: Path, depth: int) -> None:
    members = content(small_ham)
    files = {"HAM10000_metadata.tab": members[TABLE].replace(b",", b"\t"), "HAM10000_broken.zip": b"PK"}
    for part in ("HAM10000_images_part_1", "HAM10000_images_part_2"):
        images = {Path(name).name: file for name, file in members.items() if name.startswith(part)}
        files[f"{part}.ZIP"] = archive(tmp_path / "part.zip", images).read_bytes()
    bundle = archive(tmp_path / "dataverse_files.zip", files)
    if depth == 2:
        bundle = archive(tmp_path / "backup.zip", {"a/dataverse_files.zip": bundle.read_bytes()})
    ham10000.fetch(data, bundle)
    assert members == content(data / "skin")
    assert {"HAM10000_images_part_1", "HAM10000_images_part_2"} == {path.name for path in (data / "skin").glob("*/")}


def test_images_in_capitals_are_taken_from_a_folder_and_an_archive(small_ham: Path, data: Path, tmp_path: Path) -> None:
    members = content(small_ham)
    capitals = {name.replace(".jpg", ".JPG" if "1" in name else ".jpeg"): file for name, file in members.items()}
    ham10000.fetch(data, archive(tmp_path / "up.zip", capitals))
    assert members == content(data / "skin")
    with zipfile.ZipFile(tmp_path / "up.zip") as file:
        file.extractall(tmp_path / "up")
    ham10000.fetch(tmp_path / "again", tmp_path / "up")
    assert members == content(tmp_path / "again/skin")


def test_archives_that_were_put_into_the_data_folder_are_taken(small_ham: Path, data: Path) -> None:
    members = content(small_ham)
    (data / "skin").mkdir(parents=True)
    archive(data / "skin/HAM10000_images_part_1.zip", {name: members[name] for name in members if "part_1" in name})
    (data / "skin/HAM10000_metadata").write_bytes(members[TABLE])
    with pytest.raises(DataError, match=r"skin lacks 35 of 70 images .*: give the others too, .* from Kaggle"):
        ham10000.fetch(data, None)
    archive(data / "skin/HAM10000_images_part_2.zip", {name: members[name] for name in members if "part_2" in name})
    ham10000.fetch(data, None)
    assert members == content(data / "skin")


def test_a_second_source_completes_what_the_first_lacked(small_ham: Path, data: Path, tmp_path: Path) -> None:
    members = content(small_ham)
    halves: list[dict[str, bytes]] = [{}, {}]
    for name, file in members.items():
        halves["part_2" in name][name] = file
    with pytest.raises(DataError, match=r"first.zip lacks 35 of 70 images \(first: ISIC_0029306.jpg\)"):
        ham10000.fetch(data, archive(tmp_path / "first.zip", halves[0]))
    assert not (data / "skin" / "manifest.json").exists()
    ham10000.fetch(data, archive(tmp_path / "second.zip", halves[1]))
    assert members == content(data / "skin")


def test_hostile_members_are_not_written_anywhere(small_ham: Path, data: Path, tmp_path: Path) -> None:
    members = content(small_ham)
    image = members[f"HAM10000_images_part_1/{FIRST}.jpg"]
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../escaped.jpg", image)
        file.writestr(f"../../{FIRST}.jpg", b"\xff\xd8 from outside")
        link = zipfile.ZipInfo("x/ISIC_0029272.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("/etc/ISIC_0029273.jpg.exe", b"x")
        file.writestr("ISIC_0029274.jpg/", b"")
        for name, member in members.items():
            file.writestr(f"/absolute/{name}", member)
    before = {item for item in tmp_path.rglob("*") if data not in item.parents}
    ham10000.fetch(data, path)
    assert members == content(data / "skin")
    assert before | {data} == {item for item in tmp_path.rglob("*") if data not in item.parents}
    assert not any(item.is_symlink() for item in data.rglob("*"))


def test_a_member_that_unpacks_to_too_much_is_refused(small_ham: Path, data: Path, tmp_path: Path) -> None:
    members = content(small_ham)
    members[f"HAM10000_images_part_1/{FIRST}.jpg"] = b"\xff\xd8" + bytes(ham10000_fetch.LARGEST_IMAGE)
    with pytest.raises(DataError, match=rf"{FIRST}.jpg in \S+bomb.zip is larger than 8000000 bytes"):
        ham10000.fetch(data, archive(tmp_path / "bomb.zip", members))
    assert not left_over(data)


def test_an_archive_with_a_wrong_checksum_is_named(small_ham: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, member in content(small_ham).items():
            file.writestr(name, member)
    image = content(small_ham)[f"HAM10000_images_part_1/{FIRST}.jpg"]
    path.write_bytes(path.read_bytes().replace(image[100:110], bytes(10)))
    with pytest.raises(DataError, match=rf"{FIRST}.jpg in \S+damaged.zip cannot be unpacked \(Bad CRC-32"):
        ham10000.fetch(data, path)
    assert not left_over(data)


@pytest.mark.parametrize("cut", [0, -10])
def test_a_truncated_archive_is_named(small_ham: Path, data: Path, tmp_path: Path, cut: int) -> None:
    path = archive(tmp_path / "short.zip", content(small_ham))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"short.zip is not a whole .zip file"):
        ham10000.fetch(data, path)


def test_a_source_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.zip does not exist"):
        ham10000.fetch(data, tmp_path / "nowhere.zip")


def test_something_that_is_no_image_is_not_copied(small_ham: Path, data: Path) -> None:
    (small_ham / "HAM10000_images_part_1" / f"{FIRST}.jpg").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match=rf"{FIRST}.jpg is not a JPEG image"):
        ham10000.fetch(data, small_ham)


# --- fetching again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_source", [False, True])
def test_a_fetch_of_present_files_touches_nothing(
    small_ham: Path, data: Path, unchanged: Callable[..., Any], with_source: bool
) -> None:
    ham10000.fetch(data, small_ham)
    before = unchanged(data)
    ham10000.fetch(data, small_ham if with_source else None)
    assert before == unchanged(data)


def test_a_copy_unpacked_by_hand_is_listed_where_it_is(small_ham: Path) -> None:
    ham10000.fetch(small_ham.parent, None)
    listed = json.loads((small_ham / "manifest.json").read_text())
    assert sorted(content(small_ham)) == list(listed)


@pytest.mark.parametrize("name", [f"HAM10000_images_part_1/{FIRST}.jpg", TABLE])
def test_a_file_damaged_after_the_fetch_is_named_and_fixed(small_ham: Path, data: Path, name: str) -> None:
    ham10000.fetch(data, small_ham)
    path = data / "skin" / name
    good = path.read_bytes()
    position = good.index(b"male") if name == TABLE else 300
    path.write_bytes(good[:position] + b"MALE" + good[position + 4 :])  # of the same size
    with pytest.raises(
        DataError, match=rf"{Path(name).name} is missing or damaged, one of 1: run: fedbench data fetch"
    ):
        ham10000.verify(data)
    with pytest.raises(DataError, match="by hand"):  # nothing to fix it from
        ham10000.fetch(data, None)
    assert path.exists()
    ham10000.fetch(data, small_ham)
    assert content(small_ham) == content(data / "skin")
    ham10000.verify(data)


def test_a_damaged_manifest_is_named(small_ham: Path, data: Path) -> None:
    ham10000.fetch(data, small_ham)
    (data / "skin" / "manifest.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match=r"manifest.json is damaged: delete it"):
        ham10000.verify(data)


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(small_ham: Path, serve: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    server = serve(small_ham.parent)
    monkeypatch.setenv("FEDBENCH_MIRROR", server.url)
    return server


def test_a_fetch_from_a_mirror_url_asks_for_each_file_once(small_ham: Path, server: Any, data: Path) -> None:
    ham10000.fetch(data, None)
    assert content(small_ham) == content(data / "skin")
    assert sorted(f"/skin/{name}" for name in content(small_ham)) == sorted(path for path, _ in server.requests)


@pytest.mark.usefixtures("server")
def test_an_image_in_the_other_folder_is_found(small_ham: Path, data: Path) -> None:
    moved = small_ham / "HAM10000_images_part_1" / f"{FIRST}.jpg"
    moved.rename(small_ham / "HAM10000_images_part_2" / moved.name)
    ham10000.fetch(data, None)
    ham10000.verify(data)
    assert (data / "skin" / "HAM10000_images_part_1" / moved.name).exists()


@pytest.mark.usefixtures("server")
def test_an_image_in_neither_folder_is_named(small_ham: Path, data: Path) -> None:
    (small_ham / "HAM10000_images_part_1" / f"{FIRST}.jpg").unlink()
    with pytest.raises(DataError, match=rf"FEDBENCH_MIRROR has {FIRST}.jpg in neither image folder"):
        ham10000.fetch(data, None)
    assert not (data / "skin" / "manifest.json").exists()


@pytest.mark.usefixtures("server")
def test_a_mirror_url_without_the_set_is_named(small_ham: Path, data: Path) -> None:
    (small_ham / TABLE).unlink()
    with pytest.raises(DataError, match=rf"^FEDBENCH_MIRROR has no http://\S+/skin/{TABLE}: HAM10000 cannot be"):
        ham10000.fetch(data, None)


def test_a_second_fetch_asks_only_for_what_is_missing_or_truncated(small_ham: Path, server: Any, data: Path) -> None:
    ham10000.fetch(data, small_ham)
    (data / "skin" / "manifest.json").unlink()
    folder = data / "skin" / "HAM10000_images_part_1"
    (folder / f"{FIRST}.jpg").unlink()
    (folder / "ISIC_0029272.jpg").write_bytes((folder / "ISIC_0029272.jpg").read_bytes()[:400])
    ham10000.fetch(data, None)
    names = [TABLE, "ISIC_0029271.jpg", "ISIC_0029272.jpg"]
    assert names == sorted(Path(path).name for path, _ in server.requests)
    assert content(small_ham) == content(data / "skin")


def test_a_connection_that_breaks_off_is_retried(small_ham: Path, server: Any, data: Path) -> None:
    server.break_after = 500
    ham10000.fetch(data, None)
    assert content(small_ham) == content(data / "skin")
    assert len(content(small_ham)) + 1 == len(server.requests)


def test_a_killed_fetch_leaves_nothing_that_loads_and_resumes(
    small_ham: Path, server: Any, data: Path, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    server.serve_only = 30  # then it stalls
    code = (
        "import dataclasses; from pathlib import Path; from fedbench.datasets import ham10000\n"
        "sizes = {'lesion': (56, 14), 'image': (56, 14)}\n"
        "ham10000.INFO = dataclasses.replace(ham10000.INFO, sizes=sizes)\n"
        f"ham10000.fetch(Path({str(data)!r}), None)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: len(list(data.rglob("*.jpg"))) >= 29 or process.poll() is not None)
    process.kill()
    expected_end = -signal.SIGKILL
    assert expected_end == process.wait()
    with pytest.raises(DataError, match=r"lacks 41 of 70 images"):
        load_dataset("ham10000", folder=data)
    assert not ham10000.is_present(data)
    server.serve_only, before = None, len(server.requests)
    ham10000.fetch(data, None)
    assert content(small_ham) == content(data / "skin")
    asked = {path for path, _ in server.requests[before:]}  # one may be a late one of the process that was killed
    assert 41 + 1 == len(asked)
    assert not left_over(data)
