"""What jobs ask for: by step, by experiment, and stated by every rule."""

import re
import typing

import pytest

from stages.config.resources import STEP_RESOURCES, Name, Resources, SharedStep, Step, resource
from tests.conftest import ROOT

RULES = {
    name: body
    for file in (ROOT / "workflow" / "rules").glob("*.smk")
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(), re.M | re.S)
    if "    shell:" in body and "localrule: True" not in body
}


def test_each_step_with_jobs_is_in_the_table_once() -> None:
    steps = {*typing.get_args(Step), *typing.get_args(SharedStep)} - {"default"}
    assert steps == set(STEP_RESOURCES) == set(RULES)
    assert all(None not in dict(asked).values() for asked in STEP_RESOURCES.values())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_states_all_that_its_jobs_ask_for(rule: str) -> None:
    for name in typing.get_args(Name):
        assert f'resource("{rule}", "{name}")' in RULES[rule]


def test_an_experiment_sets_a_step_before_all_of_its_steps_before_the_table() -> None:
    chosen: dict[Step, Resources] = {
        "default": Resources(threads=2, mem_mb=3000),
        "predict": Resources(threads=5),
    }
    assert resource("predict", "threads", chosen) == 5
    assert resource("predict", "mem_mb", chosen) == 3000
    assert resource("train_stage1", "threads", chosen) == 2
    assert resource("predict", "gpu", chosen) == STEP_RESOURCES["predict"].gpu
    assert resource("mix", "threads") == 1


def test_a_default_gpu_is_for_steps_that_use_one() -> None:
    chosen: dict[Step, Resources] = {"default": Resources(gpu=2)}
    assert resource("train_segmentor", "gpu", chosen) == 2
    assert resource("evaluate", "gpu", chosen) == 0
    assert resource("evaluate", "gpu", {"evaluate": Resources(gpu=1)}) == 1
