"""The key `tune` of a suite file: what a valid one means; an error is one line that names the place."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedbench.suites.checks import Parts
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import CellSpec
from fedbench.suites.tune import NOT_TUNED, SEARCHABLE, Axis, Objective, TuneSpec, check_tune
from fedbench.util.errors import SuiteError

SUITE = """
name: s
question: Why?
seeds: [0, 1, 2, 3]
scenarios: [{name: grid, num_clients: [2, 3]}, {name: study}]
"""
WHOLE = """
scenario: study
set: {num_clients: 3, examples_per_client: 500}
space:
  learning_rate: {low: 0.001, high: 1}
  local_epochs: {low: 1, high: 20}
  batch_size: [10, 20, 50, null]
objective: rounds_to_target
target: 0.9
budget: steps
trials: 12
seeds: [0, 1]
fresh_seeds: [100, 101]
validation: 0.25
pruning: false
"""


def tune_of(text: str) -> TuneSpec:
    return check_tune(yaml.safe_load(text), ["grid", "study"], Parts())


def error_of(text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        tune_of(text)
    message = str(caught.value)
    assert message.startswith("tune")
    assert "\n" not in message
    return message


def write(folder: Path, tune: str = "") -> Path:
    path = folder / "suite.yaml"
    path.write_text(SUITE + (f"tune: {tune}\n" if tune else ""))
    return path


# Valid keys


def test_every_key_is_read() -> None:
    assert TuneSpec(
        scenario="study",
        set=(("num_clients", 3), ("examples_per_client", 500)),
        space=(
            Axis(field="local_epochs", low=1, high=20),
            Axis(field="batch_size", choices=(10, 20, 50, None)),
            Axis(field="learning_rate", low=0.001, high=1.0, log=True),
        ),
        objective=Objective.ROUNDS_TO_TARGET,
        target=0.9,
        budget="steps",
        trials=12,
        seeds=(0, 1),
        fresh_seeds=(100, 101),
        validation=0.25,
        pruning=False,
    ) == tune_of(WHOLE)


@pytest.mark.parametrize("tune", ["", "{}", "null", "{scenario: null, set: null, target: null, seeds: null}"])
def test_what_is_left_out_or_null_has_its_default(tmp_path: Path, tune: str) -> None:
    assert TuneSpec() == load_suite(write(tmp_path, tune)).tune


def test_only_a_learning_rate_is_searched_by_its_logarithm_if_the_file_does_not_say() -> None:
    ends = "{low: 0.1, high: 1}"
    text = f"space: {{learning_rate: {ends}, client_fraction: {ends}, rounds: {{low: 1, high: 9}}}}"
    assert {"learning_rate": True, "client_fraction": False, "rounds": False} == {
        axis.field: axis.log for axis in tune_of(text).space or ()
    }


def test_log_can_be_set_and_a_linear_range_may_begin_at_0() -> None:
    text = "space: {learning_rate: {low: 0.1, high: 1, log: false}, client_fraction: {low: 0, high: 1}}"
    assert [False, False] == [axis.log for axis in tune_of(text).space or ()]
    (axis,) = tune_of("space: {local_epochs: {low: 1, high: 9, log: true}}").space or ()
    assert axis.log


def test_a_whole_number_and_the_same_fraction_are_the_same_range() -> None:
    one, same = (tune_of(f"space: {{learning_rate: {{low: 0.1, high: {high}}}}}") for high in ("1", "1.0"))
    assert repr(same) == repr(one)


def test_the_fields_that_can_be_searched_are_in_the_order_of_a_cells() -> None:
    assert [field for field in CellSpec.model_fields if field in SEARCHABLE] == list(SEARCHABLE)
    assert {*CellSpec.model_fields} >= {*NOT_TUNED}


def test_a_range_holds_its_ends_and_choices_hold_what_they_are() -> None:
    numbers, choices = Axis(field="rounds", low=1, high=5), Axis(field="batch_size", choices=(10, None))
    assert [True, True, False, False] == [numbers.holds(value) for value in (1, 5, 6, None)]
    assert [True, True, False] == [choices.holds(value) for value in (10, None, 20)]


def test_what_the_command_line_sets_is_left_out_of_the_files_set(tmp_path: Path) -> None:
    path = write(tmp_path, "{set: {num_clients: 3, rounds: 7}}")
    assert (("num_clients", 3), ("rounds", 7)) == load_suite(path).tune.set
    assert (("num_clients", 3),) == load_suite(path, overrides={"rounds": 9}).tune.set


def test_runs_are_the_same_with_and_without_the_key(tmp_path: Path) -> None:
    plain = load_suite(write(tmp_path)).runs
    assert plain == load_suite(write(tmp_path, "{scenario: study, set: {num_clients: 9, rounds: 7}}")).runs


def test_a_suite_with_the_key_is_hashable_and_survives_pickling(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, "{set: {rounds: 2}, space: {batch_size: [1, null]}}"))
    assert isinstance(hash(suite), int)
    assert suite == pickle.loads(pickle.dumps(suite))  # noqa: S301 (our own bytes)


# Errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", "tune is 5; it must be a mapping of scenario, set, space, "),
        ("[1]", "tune is [1]; it must be a mapping of "),
        ("{trails: 5}", "tune: unknown key 'trails'; did you mean trials? choose from scenario, "),
        ("{1: 5}", "tune: unknown key 1; choose from scenario, "),
        ("{scenario: stduy}", "tune: scenario: unknown scenario 'stduy'; did you mean study? choose from grid, study"),
        ("{scenario: [study]}", "tune: scenario: unknown scenario ['study']; "),
        ("{objective: acuracy}", "tune: objective: unknown objective 'acuracy'; did you mean accuracy? choose from "),
        ("{objective: null}", "tune: objective: unknown objective null; "),
        ("{budget: step}", "tune: budget: unknown budget 'step'; did you mean steps? choose from rounds, steps"),
        ("{trials: 0}", "tune: trials is 0; it must be at least 1"),
        ("{trials: 2.5}", "tune: trials is 2.5; it must be a whole number"),
        ("{trials: true}", "tune: trials is true; it must be a whole number"),
        ("{trials: null}", "tune: trials is null; it must be a whole number"),
        ("{trials: 100001}", "tune: trials is 100001; it must be at most 100,000"),
        ("{validation: 0}", "tune: validation is 0; it must be above 0"),
        ("{validation: 1}", "tune: validation is 1; it must be below 1"),
        ("{validation: '0.2'}", "tune: validation is '0.2'; it must be a number"),
        ("{validation: .nan}", "tune: validation is nan; it must be a finite number"),
        ("{pruning: 1}", "tune: pruning is 1; it must be true or false"),
        ("{pruning: null}", "tune: pruning is null; it must be true or false"),
        ("{seeds: 3}", "tune: seeds is 3; it must be a list of at least one whole number"),
        ("{seeds: [1, 1]}", "tune: seeds holds 1 twice; keep one"),
        ("{fresh_seeds: [-1]}", "tune: fresh_seeds holds -1; a seed is a whole number from 0 to 2**63 - 1"),
        (
            "{seeds: [1, 2], fresh_seeds: [3, 2]}",
            "tune: fresh_seeds holds 2, which is a seed of the trials; choose one that no trial has seen",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(text: str, expected: str) -> None:
    assert error_of(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{objective: rounds_to_target}",
            "tune: objective is rounds_to_target; set tune: target too, the accuracy to reach, such as 0.9",
        ),
        (
            "{target: 0.9}",
            "tune: target is 0.9, but the objective is accuracy; leave it out, or take rounds_to_target as the "
            "objective",
        ),
        ("{objective: rounds_to_target, target: 0}", "tune: target is 0; it must be above 0 or null"),
        ("{objective: rounds_to_target, target: 90}", "tune: target is 90; it must be at most 1 or null"),
    ],
)
def test_a_target_belongs_to_one_objective_and_is_a_fraction(text: str, expected: str) -> None:
    assert expected == error_of(text)


def test_a_budget_with_searched_rounds_is_refused() -> None:
    text = "{budget: rounds, space: {rounds: {low: 1, high: 5}}}"
    assert error_of(text).startswith("tune: budget: nothing is held equal where the rounds are searched; leave")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{num_client: 3}", "tune: set: unknown key 'num_client'; did you mean num_clients?"),
        ("{num_clients: 0}", "tune: set: num_clients is 0; it must be at least 1"),
        ("{num_clients: [2, 3]}", "tune: set: num_clients is the list [2, 3]; one cell is tuned, so give one value"),
        ("{interpolation: true}", "tune: set: interpolation has no effect, trials are judged by the objective; remove"),
        ("[1]", "tune: set is [1]; it must be a mapping of scenario fields (see: "),
    ],
)
def test_a_wrong_setting_is_named(text: str, expected: str) -> None:
    assert error_of(f"{{set: {text}}}").startswith(expected)


@pytest.mark.parametrize("text", ["{}", "null", "[]", "5", "[learning_rate]"])
def test_a_space_without_fields_is_refused(text: str) -> None:
    message = error_of(f"{{space: {text}}}")
    assert message.startswith("tune: space is ")
    assert message.endswith("or be left out")


def test_a_field_that_cannot_be_searched_is_told_from_one_that_is_unknown() -> None:
    choice = f"choose from {', '.join(SEARCHABLE)}, or an option"
    assert error_of("{space: {num_clients: [2, 3]}}").startswith(
        f"tune: space: num_clients cannot be searched; {choice}"
    )
    assert error_of("{space: {learn_rate: [2, 3]}}").startswith(
        f"tune: space: unknown field 'learn_rate'; did you mean learning_rate? {choice}"
    )


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("momentum: {low: 0, high: 0.9}", Axis(field="momentum", low=0.0, high=0.9)),
        ("shards_per_client: [1, 2]", Axis(field="shards_per_client", choices=(1, 2))),
        ("clip_norm: [null, 1]", Axis(field="clip_norm", choices=(None, 1.0))),
    ],
)
def test_numbers_among_the_options_of_parts_can_be_searched(axis: str, expected: Axis) -> None:
    assert (expected,) == tune_of(f"{{space: {{{axis}}}}}").space


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("nesterov: [true, false]", "nesterov: a choice is true; only numbers can be searched"),
        ("partition_column: [age, sex]", "partition_column: a choice is 'age'; only numbers can be searched"),
        ("momentum: {low: -1, high: 0.9}", "momentum: low is -1; it must be at least 0"),
    ],
)
def test_an_option_that_is_no_number_is_not_searched(axis: str, expected: str) -> None:
    assert f"tune: space: {expected}" == error_of(f"{{space: {{{axis}}}}}")


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("local_epochs: 5", "local_epochs is 5; it must be a range {low: ..., high: ...} or a list of choices"),
        ("local_epochs: null", "local_epochs is null; it must be a range"),
        ("local_epochs: {}", "local_epochs: low is missing; a range has low and high"),
        ("local_epochs: {low: 1}", "local_epochs: high is missing; a range has low and high"),
        ("local_epochs: {low: 1, hihg: 2}", "local_epochs: unknown key 'hihg'; did you mean high?"),
        ("local_epochs: {low: 9, high: 3}", "local_epochs: low is 9, above high, which is 3; swap them"),
        ("local_epochs: {low: 3, high: 3}", "local_epochs: low and high are both 3; set local_epochs in the scenario"),
        ("local_epochs: {low: 0, high: 3}", "local_epochs: low is 0; it must be at least 1"),
        ("local_epochs: {low: 1, high: 2.5}", "local_epochs: high is 2.5; it must be a whole number"),
        ("local_epochs: {low: true, high: 2}", "local_epochs: low is true; it must be a whole number"),
        ("local_epochs: {low: '1', high: 2}", "local_epochs: low is '1'; it must be a whole number"),
        ("batch_size: {low: null, high: 2}", "batch_size: low is null; it must be a number"),
        ("learning_rate: {low: 0, high: 1}", "learning_rate: low is 0; it must be above 0"),
        ("learning_rate: {low: 0.1, high: .inf}", "learning_rate: high is inf; it must be a finite number"),
        ("learning_rate: {low: .nan, high: 1}", "learning_rate: low is nan; it must be a finite number"),
        ("learning_rate: {low: 0.1, high: 1, log: 1}", "learning_rate: log is 1; it must be true or false"),
        ("client_fraction: {low: 0.5, high: 1.5}", "client_fraction: high is 1.5; it must be at most 1"),
        ("client_fraction: {low: 0, high: 1, log: true}", "client_fraction: low is 0.0, which has no logarithm; raise"),
        ("batch_size: []", "batch_size is []; give two choices or more"),
        ("batch_size: [10]", "batch_size is [10]; give two choices or more, or set batch_size in the scenario instead"),
        ("batch_size: [10, 10]", "batch_size holds 10 twice; keep one"),
        ("batch_size: [10, 0]", "batch_size: a choice is 0; it must be at least 1 or null"),
        ("batch_size: [10, [20]]", "batch_size: a choice is [20]; it must be a whole number or null"),
        ("learning_rate: [1, 1.0]", "learning_rate holds 1.0 twice; keep one"),
        ("learning_rate: [0.1, null]", "learning_rate: a choice is null; it must be a number"),
    ],
)
def test_a_wrong_range_or_choice_is_named(axis: str, expected: str) -> None:
    assert error_of(f"{{space: {{{axis}}}}}").startswith(f"tune: space: {expected}")


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "{trials: 0}")
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert f"{path}: tune: trials is 0; it must be at least 1" == str(caught.value)


numbers = st.one_of(st.integers(), st.just(10**400), st.floats(), st.integers(0, 5), st.floats(0, 1))
plain = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=5), st.sampled_from([*Objective, "steps", "grid"])
)
words = st.sampled_from([*TuneSpec.model_fields, *SEARCHABLE, "low", "high", "log", "num_clients"])
values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words | plain, inner, max_size=4)),
    max_leaves=12,
)
ranges = st.fixed_dictionaries({"low": plain, "high": plain}, optional={"log": plain})
spaces = st.dictionaries(st.sampled_from(SEARCHABLE), st.one_of(ranges, st.lists(plain, max_size=3)), min_size=1)
likely = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(TuneSpec.model_fields, values)
    | {"space": spaces, "set": st.dictionaries(st.sampled_from([*CellSpec.model_fields]), values, max_size=2)},
)


@given(st.one_of(values, likely))
def test_any_value_ends_in_a_suite_error_or_a_spec(value: Any) -> None:
    try:
        tune = check_tune(value, ["grid", "study"], Parts())
    except SuiteError:
        return
    assert isinstance(hash(tune), int)
