"""A plan: which cell is tuned, over what space, and what its budget allows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedbench.suites.files import list_suites
from fedbench.suites.loading import load_suite, parse_overrides
from fedbench.suites.schema import CellSpec, Suite
from fedbench.suites.tune import Axis, Objective
from fedbench.tuning.plan import Plan, identity, make_plan, most_training, require_enough
from fedbench.util.errors import SuiteError

SUITE = """
name: s
question: Why?
seeds: [3, 4, 5, 6]
defaults: {examples_per_client: 100, local_epochs: 4, rounds: 6}
scenarios:
  - {name: plain}
  - {name: grid, num_clients: [2, 3, 5], examples_per_client: [25, 50, 100], learning_rate: [0.01, 0.1]}
tune: """
EPOCHS, RATE = Axis(field="local_epochs", low=1, high=20), Axis(field="learning_rate", low=0.001, high=1.0, log=True)


def suite_of(folder: Path, tune: str = "{}", *overrides: str) -> Suite:
    path = folder / "suite.yaml"
    path.write_text(SUITE + tune + "\n")
    return load_suite(path, overrides=parse_overrides(overrides))


def plan_of(folder: Path, tune: str = "{}", *overrides: str, **options: Any) -> Plan:
    return make_plan(suite_of(folder, tune, *overrides), **options)


def error_of(folder: Path, tune: str = "{}", *overrides: str, **options: Any) -> str:
    with pytest.raises(SuiteError) as caught:
        plan_of(folder, tune, *overrides, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder}/suite.yaml: ")
    return message.removeprefix(f"{folder}/suite.yaml: ")


# Which cell


def test_the_first_scenario_is_the_default(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert ("s", "plain", "plain", ()) == (plan.suite, plan.scenario, plan.cell, plan.notes)
    assert CellSpec(examples_per_client=100, local_epochs=4, rounds=6) == plan.spec


def test_the_option_overrides_the_files_scenario(tmp_path: Path) -> None:
    assert "grid" == plan_of(tmp_path, "{scenario: grid}").scenario
    assert "plain" == plan_of(tmp_path, "{scenario: grid}", scenario="plain").scenario
    assert "--scenario: unknown scenario 'gird'; did you mean grid? choose from plain, grid" == error_of(
        tmp_path, scenario="gird"
    )


def test_of_a_grid_the_last_cell_is_tuned_but_the_first_value_of_a_searched_field(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{scenario: grid}")
    assert (5, 100, 0.01) == (plan.spec.num_clients, plan.spec.examples_per_client, plan.spec.learning_rate)
    assert "grid num_clients=5 examples_per_client=100 learning_rate=0.01" == plan.cell
    assert ("the last of 9 cells and the first of 2 values of learning_rate; choose another with --set",) == plan.notes


def test_set_chooses_one_cell_of_a_grid(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{scenario: grid, set: {num_clients: 3, examples_per_client: 50, learning_rate: 0.1}}")
    assert (3, 50, 0.1) == (plan.spec.num_clients, plan.spec.examples_per_client, plan.spec.learning_rate)
    assert () == plan.notes


def test_set_may_name_a_value_that_the_grid_does_not_have_and_a_field_that_is_no_axis(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{scenario: grid, set: {num_clients: 7, init: independent}}")
    assert (7, "independent", 100) == (plan.spec.num_clients, plan.spec.init, plan.spec.examples_per_client)
    assert "grid init=independent num_clients=7 examples_per_client=100 learning_rate=0.01" == plan.cell
    assert "the last of 3 cells and " in plan.notes[0]


def test_the_command_lines_set_overrides_the_files(tmp_path: Path) -> None:
    tune = "{scenario: grid, set: {num_clients: 3, examples_per_client: 50}}"
    plan = plan_of(tmp_path, tune, "num_clients=4", "learning_rate=0.1")
    assert (4, 50, 0.1, ()) == (
        plan.spec.num_clients,
        plan.spec.examples_per_client,
        plan.spec.learning_rate,
        plan.notes,
    )
    assert "the last of 2 cells; " in plan_of(tmp_path, tune, "num_clients=[4, 5]", "learning_rate=0.1").notes[0]


def test_a_cell_is_labelled_as_if_set_had_been_given_on_the_command_line(tmp_path: Path) -> None:
    (cell,) = (
        suite_of(tmp_path, "{}", "num_clients=3", "examples_per_client=50", "learning_rate=0.1").scenarios[1].cells
    )
    tune = "{scenario: grid, set: {num_clients: 3, examples_per_client: 50, learning_rate: 0.1}}"
    assert (cell.label, cell.spec) == (plan_of(tmp_path, tune).cell, plan_of(tmp_path, tune).spec)


def test_another_dataset_has_its_own_split(tmp_path: Path) -> None:
    assert "standard" == plan_of(tmp_path, "{set: {dataset: mnist}}").spec.split
    assert error_of(tmp_path, "{set: {dataset: ham10000}}").startswith("tune: set: model: simple-cnn takes 1x28x28")


def test_requirements_and_interpolation_are_left_out(tmp_path: Path) -> None:
    overrides = ("require_accuracy=[null, 0.9]", "require_loss_fall=true", "interpolation=true", "num_clients=2")
    plan = plan_of(tmp_path, "{}", *overrides)
    assert (CellSpec(examples_per_client=100, local_epochs=4, rounds=6), "plain num_clients=2", ()) == (
        plan.spec,
        plan.cell,
        plan.notes,
    )


# What is judged, and with which seeds


def test_options_override_the_file(tmp_path: Path) -> None:
    tune = "{objective: loss, trials: 3, budget: rounds, seeds: [1], pruning: true, validation: 0.3}"
    plan = plan_of(
        tmp_path,
        tune,
        objective="balanced_accuracy",
        trials=4,
        budget="steps",
        seeds=[7],
        pruning=False,
        sampler_seed=9,
    )
    assert (Objective.BALANCED_ACCURACY, 4, "steps", (7,), False, 9, 0.3) == (
        *(plan.objective, plan.trials, plan.budget, plan.seeds, plan.pruning, plan.sampler_seed),
        plan.validation,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"objective": "los"}, "--objective: unknown objective 'los'; did you mean loss? choose from accuracy, "),
        ({"budget": "step"}, "--budget: unknown budget 'step'; did you mean steps? choose from rounds, steps"),
        ({"trials": 0}, "--trials is 0; it must be at least 1"),
        ({"target": 1.5}, "--target is 1.5; it must be at most 1 or null"),
        ({"target": 0.9}, "--target is 0.9, but the objective is accuracy; leave it out, or take rounds_to_target"),
        ({"objective": "rounds_to_target"}, "--objective is rounds_to_target; set --target too, the accuracy to reach"),
        ({"seeds": [1, 1]}, "--seeds holds 1 twice; keep one"),
        ({"sampler_seed": -1}, "--seed is -1; it must be a whole number from 0 to 2**32 - 1"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    assert error_of(tmp_path, **options).startswith(expected)


def test_the_files_target_is_for_the_files_objective(tmp_path: Path) -> None:
    tune = "{objective: rounds_to_target, target: 0.9}"
    assert 0.9 == plan_of(tmp_path, tune).target
    assert 0.8 == plan_of(tmp_path, tune, target=0.8).target
    assert None is plan_of(tmp_path, tune, objective="loss").target


def test_the_first_three_seeds_are_searched_and_the_five_after_all_others_are_fresh(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert ((3, 4, 5), (7, 8, 9, 10, 11)) == (plan.seeds, plan.fresh_seeds)
    assert ((90,), (91, 92, 93, 94, 95)) == (
        plan_of(tmp_path, seeds=[90]).seeds,
        plan_of(tmp_path, seeds=[90]).fresh_seeds,
    )


def test_fresh_seeds_are_none_of_the_trials(tmp_path: Path) -> None:
    expected = "tune: fresh_seeds holds 4, which is a seed of the trials; choose one that no trial has seen"
    assert expected == error_of(tmp_path, "{fresh_seeds: [9, 4]}")
    assert expected == error_of(tmp_path, "{fresh_seeds: [9, 4], seeds: [0]}", seeds=[4])
    assert (9, 4) == plan_of(tmp_path, "{fresh_seeds: [9, 4], seeds: [0]}").fresh_seeds


def test_seeds_that_leave_no_fresh_ones_are_one_line(tmp_path: Path) -> None:
    assert error_of(tmp_path, seeds=[2**63 - 1]).startswith("tune: fresh_seeds, which are those after the largest")


# The space


def test_the_default_space_is_local_epochs_and_the_learning_rates_logarithm(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert (EPOCHS, RATE) == plan.space
    assert {"local_epochs": 4, "learning_rate": 0.01} == plan.default


def test_the_default_space_is_widened_to_hold_the_default(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{}", "local_epochs=50", "learning_rate=0.0001")
    assert (50, 0.0001) == (plan.space[0].high, plan.space[1].low)
    assert 2.0 == plan_of(tmp_path, "{}", "learning_rate=2").space[1].high


def test_a_space_of_the_file_must_hold_the_default(tmp_path: Path) -> None:
    space = "{space: {learning_rate: {low: 0.1, high: 1}}}"
    assert error_of(tmp_path, space).startswith(
        "tune: space: learning_rate: 0.1 to 1.0 leaves out the scenario's own 0.01, where the search begins; widen it"
    )
    assert 0.5 == plan_of(tmp_path, space, "learning_rate=0.5").default["learning_rate"]
    assert error_of(tmp_path, "{space: {batch_size: [10, null]}}").startswith(
        "tune: space: batch_size: 10, null leaves out the scenario's own 50, "
    )


def test_nothing_is_held_equal_where_rounds_are_searched(tmp_path: Path) -> None:
    space = "{space: {rounds: {low: 1, high: 9}}}"
    assert "none" == plan_of(tmp_path, space).budget
    assert 9 == plan_of(tmp_path, space).spec_of({"rounds": 9}).rounds
    assert error_of(tmp_path, space, budget="steps").startswith("--budget: nothing is held equal where the rounds")


# Steps


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        # T · m · E · ⌈n / B⌉
        (CellSpec(rounds=2, num_clients=3, local_epochs=4, examples_per_client=100, batch_size=50), 2 * 3 * 4 * 2),
        (CellSpec(rounds=2, num_clients=3, local_epochs=4, examples_per_client=101, batch_size=50), 2 * 3 * 4 * 3),
        (CellSpec(rounds=2, num_clients=3, local_epochs=4, examples_per_client=101, batch_size=None), 2 * 3 * 4 * 1),
        (CellSpec(rounds=2, num_clients=10, client_fraction=0.25, local_epochs=4, batch_size=400), 2 * 2 * 4 * 1),
        (CellSpec(rounds=2, num_clients=4, client_fraction=0, local_epochs=4, batch_size=500), 2 * 1 * 4 * 2),
    ],
)
def test_local_steps_are_those_of_all_selected_clients(spec: CellSpec, steps: int) -> None:
    assert steps == spec.local_steps()
    assert steps // 2 == spec.local_steps(rounds=1)


def test_with_equal_rounds_a_configuration_keeps_its_rounds(tmp_path: Path) -> None:
    spec = plan_of(tmp_path).spec_of({"local_epochs": 9, "learning_rate": 1})
    assert (9, 1.0, 6, 100) == (spec.local_epochs, spec.learning_rate, spec.rounds, spec.examples_per_client)


def test_with_equal_steps_rounds_are_as_many_as_the_budget_allows(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{budget: steps}")
    assert plan.spec == plan.spec_of(plan.default)
    # 4 epochs in each of 6 rounds are 24 epochs
    assert [24, 4, 3, 2, 1] == [plan.spec_of({"local_epochs": epochs}).rounds for epochs in (1, 5, 8, 9, 20)]


def test_with_equal_steps_the_default_space_ends_where_one_round_is_the_budget(tmp_path: Path) -> None:
    assert 12 == plan_of(tmp_path, "{budget: steps}", "rounds=3").space[0].high
    assert 20 == plan_of(tmp_path, "{budget: rounds}", "rounds=3").space[0].high


def test_with_equal_steps_of_one_epoch_the_learning_rate_alone_is_searched(tmp_path: Path) -> None:
    assert (RATE,) == plan_of(tmp_path, "{budget: steps}", "rounds=1", "local_epochs=1").space


@pytest.mark.parametrize(
    ("space", "overrides", "values", "steps", "budget", "rounds"),
    [
        # the default takes 2 clients x 4 epochs x 2 batches = 16 steps a round
        ("{local_epochs: {low: 1, high: 25}}", (), "local_epochs 25", "100", 96, 7),
        ("{local_epochs: [4, 20, 30]}", (), "local_epochs 30", "120", 96, 8),
        ("{batch_size: [null, 5, 10, 50]}", (), "batch_size 5", "160", 96, 10),
        (
            "{client_fraction: {low: 0.1, high: 1}}",
            ("rounds=1", "num_clients=10", "client_fraction=0.2"),
            "client_fraction 1.0",
            "80",
            16,
            5,
        ),
        (
            "{local_epochs: {low: 4, high: 24}, batch_size: {low: 1, high: 50}}",
            ("rounds=1",),
            "local_epochs 24, batch_size 1",
            "4,800",
            16,
            300,
        ),
    ],
)
def test_with_equal_steps_a_round_beyond_the_budget_is_refused(
    tmp_path: Path, space: str, overrides: tuple[str, ...], values: str, steps: str, budget: int, rounds: int
) -> None:
    expected = (
        f"tune: space: one round with {values} takes {steps} local steps, but the budget of all rounds is {budget}; "
        f"narrow the space, or set rounds to {rounds} in the scenario"
    )
    assert expected == error_of(tmp_path, f"{{budget: steps, space: {space}}}", *overrides)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """A space as a suite file has it, around the default configuration of the suite above."""
    epochs = {"low": draw(st.integers(1, 4)), "high": draw(st.integers(5, 40))}
    batches = {"low": draw(st.integers(1, 50)), "high": draw(st.integers(51, 200))}
    choices = [50, *draw(st.sets(st.one_of(st.none(), st.integers(60, 120) | st.integers(1, 49)), min_size=1))]
    fractions = {"low": draw(st.floats(0, 0.9)), "high": 1}
    of_batches = draw(st.sampled_from([batches, choices]))
    every = {"local_epochs": epochs, "batch_size": of_batches, "client_fraction": fractions}
    kept = draw(st.sets(st.sampled_from(sorted(every)), min_size=1))
    return {field: every[field] for field in sorted(kept)}


@given(st.data(), spaces(), st.integers(1, 8), st.integers(1, 9))
def test_with_equal_steps_no_configuration_takes_more_steps_than_the_default(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, space: dict[str, Any], rounds: int, clients: int
) -> None:
    text = str({"budget": "steps", "space": space}).replace("None", "null")
    overrides = (f"rounds={rounds}", f"num_clients={clients}")
    try:
        plan = plan_of(tmp_path_factory.getbasetemp(), text, *overrides)
    except SuiteError as error:
        assert "the budget of all rounds is" in str(error)  # noqa: PT017 (a space may also fit)
        assume(False)
    params = {axis.field: data.draw(_values(axis)) for axis in plan.space}
    assert plan.spec_of(params).local_steps() <= plan.spec.local_steps()
    assert replace(plan, budget="rounds").spec_of(params).local_steps(rounds=1) <= plan.spec.local_steps()


def _values(axis: Axis) -> st.SearchStrategy[Any]:
    if axis.choices:
        return st.sampled_from(axis.choices)
    assert axis.low is not None
    assert axis.high is not None
    if axis.field == "client_fraction":
        return st.floats(axis.low, axis.high)
    return st.integers(int(axis.low), int(axis.high))


# The data


def test_clients_without_a_number_of_examples_share_those_that_remain(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{}", "examples_per_client=null", "num_clients=3")
    assert 3_200 // 3 == plan.searched_spec(plan.default, 3_200).examples_per_client
    assert None is plan.spec_of(plan.default).examples_per_client
    assert 100 == plan_of(tmp_path).searched_spec({}, 3_200).examples_per_client


def test_a_plan_that_needs_more_examples_than_remain_is_refused(tmp_path: Path) -> None:
    # a fifth of mnist-5k's 4,000 is held out; with rounding in 10 classes 3,210 remain at most
    assert 3_210 == most_training(plan_of(tmp_path, "{}", "num_clients=2", "examples_per_client=1605"))
    assert error_of(tmp_path, "{}", "num_clients=2", "examples_per_client=1606") == (
        "scenario plain: needs 2 x 1606 = 3212 training examples, but 3210 of 4000 training examples remain "
        "without the validation split; lower num_clients, examples_per_client or tune: validation"
    )


def test_the_number_that_remains_is_checked_exactly_when_it_is_known(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{}", "num_clients=2", "examples_per_client=1600")
    require_enough(plan, 3_200)
    with pytest.raises(SuiteError, match=r"\Ascenario plain: needs 2 x 1600 = 3200 [^\n]*, but 3199 of 4000"):
        require_enough(plan, 3_199)


def test_overlapping_clients_need_as_many_as_one_of_them(tmp_path: Path) -> None:
    overrides = ("partition=overlapping", "num_clients=9", "examples_per_client=3000")
    plan = plan_of(tmp_path, "{}", *overrides)
    require_enough(plan, 3_000)
    with pytest.raises(SuiteError, match=r"needs 3000 training .* 2999 of 4000 .*; lower examples_per_client or tune"):
        require_enough(plan, 2_999)


def test_each_client_needs_an_example(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{}", "num_clients=3000", "examples_per_client=null")
    require_enough(plan, 3_000)
    with pytest.raises(SuiteError, match="3000 clients need an example each, but 2999 of 4000"):
        require_enough(plan, 2_999)


# Identity


def test_what_moves_a_trial_moves_the_identity_and_nothing_else_does(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)

    def of(changed: Plan, *data: Any) -> str:
        return identity(changed, *(data or ("digest", "cpu", 2)))

    moved = [
        of(plan),
        of(replace(plan, scenario="other")),
        of(replace(plan, spec=CellSpec())),
        of(replace(plan, space=(RATE,))),
        of(replace(plan, objective=Objective.LOSS)),
        of(replace(plan, target=0.9)),
        of(replace(plan, budget="steps")),
        of(replace(plan, seeds=(1,))),
        of(replace(plan, validation=0.3)),
        of(replace(plan, pruning=False)),
        of(replace(plan, sampler_seed=1)),
        of(plan, "other", "cpu", 2),
        of(plan, "digest", "cuda", 2),
        of(plan, "digest", "cpu", 3),
    ]
    assert len(moved) == len(set(moved))
    assert 64 == len(moved[0])
    same = replace(plan, suite="t", cell="c", trials=7, fresh_seeds=(99,), notes=("n",))
    assert of(plan) == of(same)


def test_the_identity_of_a_plan_stays_what_it_is(tmp_path: Path) -> None:
    assert plan_of(tmp_path) == plan_of(tmp_path)
    assert isinstance(hash(plan_of(tmp_path)), int)
    one, same = "{space: {learning_rate: {low: 0.001, high: 1}}}", "{space: {learning_rate: {high: 1.0, low: 1e-3}}}"
    assert identity(plan_of(tmp_path, one), "d", "cpu", 2) == identity(plan_of(tmp_path, same), "d", "cpu", 2)


# All of it


@pytest.mark.parametrize("budget", ["rounds", "steps"])
@pytest.mark.parametrize("name", list_suites())
def test_every_scenario_of_a_shipped_suite_can_be_tuned(name: str, budget: str) -> None:
    suite = load_suite(name)
    for scenario in suite.scenarios:
        plan = make_plan(suite, scenario=scenario.name, budget=budget)
        assert plan.spec == plan.spec_of(plan.default)


def test_a_plan_is_made_without_torch_mlflow_and_optuna(tmp_path: Path) -> None:
    suite_of(tmp_path)
    program = (
        "import sys\n"
        "from fedbench.suites.loading import load_suite\n"
        "from fedbench.tuning.plan import identity, make_plan\n"
        "identity(make_plan(load_suite(sys.argv[1])), 'digest', 'cpu', 2)\n"
        "print(sorted({'torch', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "suite.yaml")]
    assert "[]\n" == subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
