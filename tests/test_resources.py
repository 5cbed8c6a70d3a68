"""What jobs ask for: stated by every rule, and by an experiment for its own steps."""

import re
import typing

import pytest

from stages.config.resources import Name, Resources, Step, chosen_resource
from tests.conftest import ROOT

RULES = {
    name: body
    for file in (ROOT / "workflow" / "rules").glob("*.smk")
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(), re.M | re.S)
    if "    shell:" in body and "localrule: True" not in body
}


def test_each_step_that_an_experiment_can_set_is_a_rule() -> None:
    assert set(typing.get_args(Step)) - {"default"} <= set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_states_all_that_its_jobs_ask_for(rule: str) -> None:
    for name in typing.get_args(Name):
        assert re.search(rf"^ +{name}(: |=)", RULES[rule], re.M), name


def test_an_experiment_sets_a_step_before_all_of_its_steps_before_the_rule() -> None:
    chosen: dict[Step, Resources] = {
        "default": Resources(threads=2, mem_mb=3000),
        "predict": Resources(threads=5),
    }
    assert chosen_resource(chosen, "predict", "threads", 8) == 5
    assert chosen_resource(chosen, "predict", "mem_mb", 16000) == 3000
    assert chosen_resource(chosen, "train_stage1", "threads", 8) == 2
    assert chosen_resource(chosen, "predict", "gpu", 1) == 1
    assert chosen_resource({}, "mix", "threads", 1) == 1


def test_a_default_gpu_is_for_steps_that_use_one() -> None:
    chosen: dict[Step, Resources] = {"default": Resources(gpu=2)}
    assert chosen_resource(chosen, "train_segmentor", "gpu", 1) == 2
    assert chosen_resource(chosen, "evaluate", "gpu", 0) == 0
    assert chosen_resource({"evaluate": Resources(gpu=1)}, "evaluate", "gpu", 0) == 1
