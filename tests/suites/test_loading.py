"""Suite files: what a valid one means; an error is one line that names file, field and value."""

import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbench.suites.cell import CellSpec
from fedbench.suites.files import find_suite, list_suites
from fedbench.suites.loading import load_suite, parse_overrides, parse_seeds
from fedbench.suites.yaml_loader import parse_yaml
from fedbench.util.errors import SuiteError

HEAD = "name: s\nquestion: Why?\nseeds: [0, 1]\n"
PLAIN = HEAD + "scenarios: [{name: a}]\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "suite.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def with_fields(fields: str) -> str:
    """A suite whose only scenario, a, has these fields."""
    return f"{HEAD}scenarios: [{{name: a, {fields}}}]\n"


def error_of(folder: Path, text: str | bytes, **options: Any) -> str:
    path = write(folder, text)
    with pytest.raises(SuiteError) as caught:
        load_suite(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < 800
    return message.removeprefix(f"{path}: ")


# Valid files


def test_a_field_left_out_has_its_default(tmp_path: Path) -> None:
    (cell,) = load_suite(write(tmp_path, PLAIN)).cells
    assert CellSpec() == cell.spec
    assert ("shared", 2, None, 5, 50, 0.01, 5) == (
        cell.spec.init,
        cell.spec.num_clients,
        cell.spec.examples_per_client,
        cell.spec.local_epochs,
        cell.spec.batch_size,
        cell.spec.learning_rate,
        cell.spec.rounds,
    )


def test_a_split_left_out_or_null_becomes_the_datasets_default(tmp_path: Path) -> None:
    (cell,) = load_suite(write(tmp_path, PLAIN)).cells
    assert "stratified" == cell.spec.split
    (cell,) = load_suite(write(tmp_path, with_fields("split: null, dataset: mnist"))).cells
    assert "standard" == cell.spec.split


def test_lists_are_axes_whose_product_is_in_the_order_of_the_fields(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, with_fields("rounds: [1, 2], init: [shared, independent]")))
    assert [
        "a init=shared rounds=1",
        "a init=shared rounds=2",
        "a init=independent rounds=1",
        "a init=independent rounds=2",
    ] == [cell.label for cell in suite.cells]
    assert ("init", "rounds") == suite.cells[0].axes


def test_a_list_of_one_value_is_an_axis_and_a_cell_without_axes_is_labelled_by_its_scenario(tmp_path: Path) -> None:
    text = HEAD + "scenarios: [{name: a, batch_size: [null]}, {name: b, require_loss_fall: true}]"
    assert ["a batch_size=null", "b"] == [cell.label for cell in load_suite(write(tmp_path, text)).cells]


def test_the_scenario_replaces_defaults_and_overrides_replace_both(tmp_path: Path) -> None:
    text = (
        HEAD
        + "defaults: {rounds: [1, 2], batch_size: 5, init: independent}\n"
        + "scenarios: [{name: a, rounds: 3, batch_size: [6, 7]}]\n"
    )
    path = write(tmp_path, text)
    assert [("independent", 3, 6), ("independent", 3, 7)] == [
        (cell.spec.init, cell.spec.rounds, cell.spec.batch_size) for cell in load_suite(path).cells
    ]
    (cell,) = load_suite(path, overrides={"batch_size": 9}).cells
    assert (3, 9) == (cell.spec.rounds, cell.spec.batch_size)
    assert 4 == len(load_suite(path, overrides={"rounds": [8, 9]}).cells)


def test_what_is_overridden_is_in_the_labels_so_that_the_cells_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "scenarios: [{name: a, rounds: [1, 2], init: independent}]")
    overrides = {"batch_size": 9, "init": "shared"}
    labels = [cell.label for cell in load_suite(path, overrides=overrides).cells]
    assert ["a init=shared batch_size=9 rounds=1", "a init=shared batch_size=9 rounds=2"] == labels


def test_runs_are_cells_times_seeds_and_all_seeds_of_a_cell_share_its_label(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, with_fields("rounds: [1, 2]")))
    assert [("a rounds=1", 0), ("a rounds=1", 1), ("a rounds=2", 0), ("a rounds=2", 1)] == [
        (run.cell, run.seed) for run in suite.runs
    ]


def test_seeds_can_be_replaced(tmp_path: Path) -> None:
    assert [7] == [run.seed for run in load_suite(write(tmp_path, PLAIN), seeds=[7]).runs]


def test_only_keeps_the_named_scenarios(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "scenarios: [{name: a}, {name: b}]")
    assert ["b"] == [scenario.name for scenario in load_suite(path, only=["b"]).scenarios]


def test_an_integer_equals_the_same_number_as_a_float() -> None:
    assert CellSpec(learning_rate=1) == CellSpec(learning_rate=1.0)
    assert hash(CellSpec(learning_rate=1)) == hash(CellSpec(learning_rate=1.0))


def test_suites_cells_and_runs_are_hashable_and_survive_pickling(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, PLAIN))
    assert 2 == len({*suite.runs, *load_suite(suite.path).runs})
    assert suite == pickle.loads(pickle.dumps(suite))  # noqa: S301 (our own bytes)
    assert isinstance(hash(suite), int)


@pytest.mark.parametrize(
    ("spec", "shortfall"),
    [
        (CellSpec(dataset="mnist", num_clients=3, examples_per_client=20_000), None),
        (
            CellSpec(dataset="mnist", num_clients=5, examples_per_client=20_000),
            "needs 5 x 20000 = 100000 training examples; mnist has 60000",
        ),
        (CellSpec(num_clients=4_000), None),
        (CellSpec(num_clients=4_001), "4001 clients share 4000 training examples of mnist-5k: 0 for each"),
    ],
)
def test_a_cell_beyond_the_data_says_its_shortfall(spec: CellSpec, shortfall: str | None) -> None:
    assert shortfall == spec.shortfall()


def test_without_a_number_of_examples_clients_share_all_in_equal_parts() -> None:
    assert 1_333 == CellSpec(num_clients=3).num_examples
    assert 600 == CellSpec(num_clients=3, examples_per_client=600).num_examples


# YAML


def test_numbers_and_words_are_read_as_in_yaml_1_2() -> None:
    assert [0.001, 10, "no", "2024-01-01", 0.5, None, True] == parse_yaml("[1e-3, 010, no, 2024-01-01, .5, ~, true]")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["empty", "scenarios"]),
        ("# only a comment\n", ["empty"]),
        (b"\xff\xfe\x00\x01", ["UTF-8"]),
        (b"PK\x03\x04\x00", ["not text"]),
        ("- 1\n- 2\n", ["[1, 2]", "mapping"]),
        ("just text", ["just text", "mapping"]),
        ("!!python/object/apply:os.system ['true']", ["line 1", "tag", "python/object"]),
        (PLAIN + "defaults: {rounds: !!int ''}", ["tag"]),
        ("a: &a [1]\nb: *a\n", ["line 2", "aliases"]),
        ("[" * 10_000, ["nested"]),
        ("a: 1\nb: 2\na: 3\n", ["line 3", "'a'", "twice"]),
        ("[a]: 1", ["line 1", "key"]),
        ("a: b: c", ["line 1"]),
        ("a: 1\n--- \nb: 2", ["line 2"]),
        ("a: " + "1" * 5_000, ["number"]),
        ('a: "\\UFFFFFFFF"', ["escape"]),
        ("a: " + "x" * 100_000, ["larger than 64,000 bytes"]),
    ],
)
def test_a_file_that_is_no_plain_yaml_mapping_is_one_line(tmp_path: Path, text: str | bytes, named: list[str]) -> None:
    message = error_of(tmp_path, text)
    assert [] == [word for word in named if word not in message], message


# Errors


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (PLAIN + "sceanrios: 1", ["'sceanrios'", "did you mean scenarios"]),
        (PLAIN + "zzz: 1", ["'zzz'", "choose from name, question, seeds, scenarios, defaults"]),
        (PLAIN + "1: 1", ["key 1"]),
        (PLAIN + "defaults: {num_client: 2}", ["defaults", "'num_client'", "did you mean num_clients"]),
        (with_fields("learning-rate: 1"), ["scenario 1", "'learning-rate'", "did you mean learning_rate"]),
        (PLAIN.replace("name: s\n", ""), ["name is missing"]),
        (PLAIN.replace("question: Why?\n", ""), ["question is missing"]),
        (PLAIN.replace("seeds: [0, 1]\n", ""), ["seeds is missing"]),
        (HEAD, ["scenarios is missing"]),
        (PLAIN.replace("name: s", "name: a b"), ["name", "'a b'", "letters"]),
        (PLAIN.replace("name: s", "name: ../up"), ["name", "'../up'"]),
        (PLAIN.replace("name: s", "name: " + "n" * 101), ["name", "100"]),
        (PLAIN.replace("name: s", "name: 5"), ["name is 5"]),
        (PLAIN.replace("Why?", "''"), ["question is ''"]),
        (PLAIN.replace("[0, 1]", "[]"), ["seeds is []"]),
        (PLAIN.replace("[0, 1]", "3"), ["seeds is 3", "list"]),
        (PLAIN.replace("[0, 1]", "[0, 0]"), ["seeds holds 0 twice"]),
        (PLAIN.replace("[0, 1]", "[-1]"), ["seeds holds -1"]),
        (PLAIN.replace("[0, 1]", "[true]"), ["seeds holds true"]),
        (PLAIN.replace("[0, 1]", "[1.0]"), ["seeds holds 1.0"]),
        (PLAIN.replace("[0, 1]", "[9223372036854775808]"), ["seeds holds 9223372036854775808"]),
        (HEAD + "scenarios: []", ["scenarios is []"]),
        (HEAD + "scenarios: {name: a}", ["scenarios", "list"]),
        (HEAD + "scenarios: [5]", ["scenario 1 is 5", "mapping"]),
        (HEAD + "scenarios: [{rounds: 1}]", ["scenario 1", "name is missing"]),
        (HEAD + "scenarios: [{name: [a, b]}]", ["scenario 1: name is ['a', 'b']"]),
        (HEAD + "scenarios: [{name: a}, {name: a}]", ["scenario 2", "name a is there twice"]),
        (PLAIN + "defaults: [1]", ["defaults is [1]", "mapping"]),
        (HEAD + "defaults: {rounds: 0}\nscenarios: [{name: a, rounds: 1}]", ["defaults: rounds is 0"]),
        (with_fields("rounds: '5'"), ["scenario a: rounds is '5'", "whole number"]),
        (with_fields("rounds: true"), ["scenario a: rounds is true", "whole number"]),
        (with_fields("rounds: 2.5"), ["scenario a: rounds is 2.5", "whole number"]),
        (with_fields("rounds: null"), ["scenario a: rounds is null", "whole number"]),
        (with_fields("rounds: {a: 1}"), ["scenario a: rounds is {'a': 1}"]),
        (with_fields("rounds: 0"), ["scenario a: rounds is 0", "at least 1"]),
        (with_fields("rounds: 10000000000"), ["scenario a: rounds", "at most 1,000,000,000"]),
        (with_fields("num_clients: -1"), ["num_clients is -1", "at least 1"]),
        (with_fields("examples_per_client: 0"), ["examples_per_client is 0", "or null"]),
        (with_fields("batch_size: all"), ["batch_size is 'all'", "whole number or null"]),
        (with_fields("client_fraction: 1.5"), ["client_fraction is 1.5", "at most 1"]),
        (with_fields("learning_rate: 0"), ["learning_rate is 0", "above 0"]),
        (with_fields("learning_rate: .nan"), ["learning_rate is nan", "finite"]),
        (with_fields("learning_rate: .inf"), ["learning_rate is inf", "finite"]),
        (with_fields("learning_rate: 1e999"), ["learning_rate is inf", "finite"]),
        (with_fields("learning_rate: true"), ["learning_rate is true", "a number"]),
        (with_fields("require_accuracy: 80"), ["require_accuracy is 80", "at most 1"]),
        (with_fields("require_loss_fall: 1"), ["require_loss_fall is 1", "true or false"]),
        (with_fields("require_loss_fall: yes"), ["require_loss_fall is 'yes'", "true or false"]),
        (with_fields("init: same"), ["init: unknown init 'same'", "choose from shared, independent"]),
        (with_fields("dataset: minst"), ["dataset: unknown dataset 'minst'", "did you mean mnist?", "ham10000"]),
        (with_fields("model: simple-cn"), ["model: unknown model", "did you mean simple-cnn?"]),
        (with_fields("partition: idd"), ["partition: unknown partition 'idd'", "did you mean iid?", "consecutive"]),
        (
            with_fields("algorithm: fedadm"),
            ["unknown algorithm 'fedadm'", "did you mean fedadam?", "scaffold"],
        ),
        (with_fields("algorithm: null"), ["algorithm: unknown algorithm null"]),
        (with_fields("algorithm: fedavgm, server_momentum: 1"), ["server_momentum is 1", "below 1"]),
        (with_fields("algorithm: fedavgm, server_momentum: -0.1"), ["server_momentum is -0.1", "at least 0"]),
        (with_fields("algorithm: scaffold, server_learning_rate: -1"), ["server_learning_rate is -1", "above 0"]),
        (with_fields("algorithm: fedyogi, server_adaptivity: 0"), ["server_adaptivity is 0", "above 0"]),
        (with_fields("algorithm: fedprox, proximal_weight: -1"), ["proximal_weight is -1", "at least 0"]),
        (with_fields("algorithm: fedprox, proximal_weight: .nan"), ["proximal_weight is nan", "finite"]),
        (
            with_fields("algorithm: [fedprox, fedavg], proximal_weight: 1"),
            ["proximal_weight: algorithm fedavg does not read it", "leave it out, or set algorithm to fedprox"],
        ),
        (with_fields("dataset: null"), ["dataset: unknown dataset null"]),
        (with_fields("split: lesson"), ["scenario a: split", "'lesson'", "choose from stratified"]),
        (with_fields("split: 3"), ["split is 3", "text"]),
        (
            with_fields("dataset: ham10000"),
            ["scenario a: model: simple-cnn", "ham10000", "models that fit: simple-cnn-ham"],
        ),
        (with_fields("dataset: [mnist, ham10000]"), ["scenario a: model: simple-cnn", "ham10000"]),
        (with_fields("rounds: []"), ["scenario a: rounds is an empty list"]),
        (with_fields("rounds: [1, 2, 1]"), ["scenario a: rounds holds 1 twice"]),
        (with_fields("learning_rate: [1, 1.0]"), ["scenario a: learning_rate holds 1.0 twice"]),
        (with_fields("rounds: [[1]]"), ["scenario a: rounds holds the list [1]"]),
        (with_fields("rounds: [1, 0]"), ["scenario a: rounds is 0"]),
        (with_fields("split: [null, stratified]"), ["scenario a: split", "stratified"]),
        (with_fields(f"rounds: {list(range(1, 401))}, batch_size: {list(range(1, 401))}"), ["320,000 runs", "100,000"]),
        (with_fields("rounds: " + "x" * 5_000), ["rounds is 'xxx", "..."]),
        (with_fields('dataset: "a\\nb\\e[1m"'), ["a\\nb"]),
    ],
)
def test_a_wrong_suite_is_one_line_that_names_the_place(tmp_path: Path, text: str, named: list[str]) -> None:
    message = error_of(tmp_path, text)
    assert [] == [word for word in named if word not in message], message


def test_a_wrong_override_is_said_to_come_from_the_command_line(tmp_path: Path) -> None:
    assert "--set: rounds is 0; it must be at least 1" == error_of(tmp_path, PLAIN, overrides={"rounds": 0})
    assert "--set: unknown key 'lerning_rate'; did you mean learning_rate, " in error_of(
        tmp_path, PLAIN, overrides={"lerning_rate": 1}
    )
    assert "--set: unknown key 'name'" in error_of(tmp_path, PLAIN, overrides={"name": "x"})


def test_wrong_seeds_are_said_to_come_from_the_command_line(tmp_path: Path) -> None:
    assert "--seeds holds 3 twice; keep one" == error_of(tmp_path, PLAIN, seeds=[3, 3])


def test_only_with_an_unknown_scenario_names_those_there_are(tmp_path: Path) -> None:
    text = HEAD + "scenarios: [{name: grid}, {name: study}]"
    assert "--only: unknown scenario 'gird'; did you mean grid? choose from grid, study" == error_of(
        tmp_path, text, only=["gird"]
    )


def test_a_missing_file_a_directory_and_an_impossible_path_are_one_line_each(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "no.yaml", "no such file"),
        (tmp_path, "directory"),
        (Path("a\0/b"), "null (byte|character)"),
    ):
        with pytest.raises(SuiteError, match=reason) as caught:
            load_suite(path)
        assert "\0" not in str(caught.value)


def test_an_unreadable_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, PLAIN)
    monkeypatch.setattr(Path, "open", refuse)  # a file mode would not stop root
    with pytest.raises(SuiteError, match=r"suite\.yaml: cannot be read: Permission denied"):
        load_suite(path)


@given(
    st.one_of(
        st.text(),
        st.text(alphabet=" \n-:[]{}&*!?|>'\"%@#,0a\u0435\t", max_size=60),
        st.text(alphabet=" -:[]{}'\"0123456789.eabn,", max_size=40).map(with_fields),
        st.text(alphabet=" \n-:[]{},0a", max_size=40).map(lambda junk: PLAIN + junk),
    )
)
def test_junk_raises_nothing_but_a_suite_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = write(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    try:
        load_suite(path)
    except SuiteError as error:
        assert "\n" not in str(error)  # noqa: PT017 (a suite may also be right)


# Finding suites


def test_a_suite_of_the_working_directory_hides_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_suite("quickstart")
    assert shipped.is_file()
    own = tmp_path / "suites" / "quickstart.yaml"
    own.parent.mkdir()
    own.write_text(PLAIN)
    assert own == find_suite("quickstart").absolute()
    assert "client-grid-mnist" in list_suites()


def test_an_unknown_name_gets_the_nearest_and_where_the_list_is() -> None:
    said = r"unknown suite 'quikstart'; did you mean quickstart\? see all \d+ with: fedbench suites, or give the path"
    with pytest.raises(SuiteError, match=said):
        find_suite("quikstart")


@pytest.mark.parametrize("text", ["my.yaml", "my.yml", "folder/name", "./name"])
def test_a_path_is_taken_as_it_is(text: str) -> None:
    assert Path(text) == find_suite(text)


# Options of the command line


def test_set_reads_values_as_yaml() -> None:
    assert {"learning_rate": 0.001, "num_clients": [2, 3], "batch_size": None, "init": "shared"} == parse_overrides(
        ["learning_rate=1e-3", "num_clients=[2,3]", "batch_size=null", "init=shared"]
    )


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("rounds", ["'rounds'", "FIELD=VALUE"]),
        ("rounds=", ["FIELD=VALUE"]),
        ("rounds=[1", ["line 1"]),
        ("rounds=\x00", ["not text"]),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, named: list[str]) -> None:
    with pytest.raises(SuiteError, match=r"\A--set: [^\n]*\Z") as caught:
        parse_overrides([setting])
    assert [] == [word for word in named if word not in str(caught.value)]


def test_a_field_set_twice_is_refused() -> None:
    with pytest.raises(SuiteError, match="rounds is given twice"):
        parse_overrides(["rounds=1", "rounds=2"])


def test_seeds_are_a_list_a_range_or_both() -> None:
    assert [0, 1, 2] == parse_seeds("0,1,2")
    assert [0, 1, 2, 3, 4] == parse_seeds("0-4")
    assert [0, 1, 7] == parse_seeds("0-1, 7")


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "-1", "4-0", "0-999999999", "1,1", "1.5", "99999999999999999999", "٣"]
)
def test_wrong_seeds_are_one_line(text: str) -> None:
    with pytest.raises(SuiteError, match=r"\A--seeds[^\n]*\Z"):
        parse_seeds(text)


# The shipped suites


def test_every_shipped_suite_loads_opens_with_a_comment_and_asks_a_question() -> None:
    for path in list_suites().values():
        assert path.read_text().startswith("# ")
        assert load_suite(path).question.endswith("?")


# Speed


def test_suites_import_neither_torch_nor_mlflow_and_an_error_is_quick(tmp_path: Path) -> None:
    path = write(tmp_path, with_fields("rounds: 0"))
    program = (
        "import sys, time\n"
        "from fedbench.util.errors import SuiteError\n"
        "from fedbench.suites.loading import load_suite\n"
        "try: load_suite(sys.argv[1])\n"
        "except SuiteError: pass\n"
        "heavy = {'torch', 'mlflow'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time() < 0.5)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "[] True" == done.stdout.strip()


def test_a_large_grid_is_laid_out_in_seconds(tmp_path: Path) -> None:
    text = with_fields(f"rounds: {list(range(1, 101))}, batch_size: {list(range(1, 101))}")
    start = time.process_time()
    assert 10_000 == len(load_suite(write(tmp_path, text)).cells)
    assert time.process_time() - start < 2


def test_a_label_has_four_digits_of_a_number_that_nobody_wrote_by_hand(tmp_path: Path) -> None:
    fields = "learning_rate: [0.06940364732004282, 0.12345], clip_norm: 1234567.891"
    suite = load_suite(write(tmp_path, PLAIN.replace("{name: a}", f"{{name: a, {fields}}}")))
    assert ["a learning_rate=0.0694", "a learning_rate=0.12345"] == [cell.label for cell in suite.cells]
    assert 0.06940364732004282 == suite.cells[0].spec.learning_rate


def test_two_cells_do_not_share_a_label(tmp_path: Path) -> None:
    text = PLAIN.replace("{name: a}", "{name: a, learning_rate: [0.0694036473, 0.0694036474]}")
    said = "scenario a: two cells are both called a learning_rate=0.0694; give their values fewer digits"
    assert said == error_of(tmp_path, text)
