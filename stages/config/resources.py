"""What an experiment asks of the jobs of its steps, beside what the rules say."""

from collections.abc import Mapping
from typing import Literal

from stages.config.section import Count, Positive, Section

# Steps of an experiment; `default` is for all of them.
Step = Literal[
    "default",
    "train_stage1",
    "select_maps",
    "vote",
    "make_labels",
    "train_affinity",
    "propagate",
    "find_regions",
    "assign_masks",
    "train_segmentor",
    "predict",
    "evaluate",
    "score",
    "visualize",
    "write_masks",
    "make_report",
]
# Steps that an experiment may set the execution of; `default` is for all of them.
ExecutionStep = Literal[
    "default", "train_stage1", "make_labels", "train_affinity", "train_segmentor"
]
Name = Literal["threads", "gpu", "mem_mb", "runtime"]


class Resources(Section):
    """What a job of a step asks for; what is not set is as the rule has it (workflow/rules/)."""

    threads: Positive | None = None
    gpu: Count | None = None
    mem_mb: Positive | None = None
    runtime: Positive | None = None  # minutes


def chosen_resource(resources: Mapping[Step, Resources], step: str, name: Name, usual: int) -> int:
    """What a step asks for: what an experiment chose for it, or for all of its steps, or `usual`.

    A step that has no use for a GPU gets none by default.
    """
    known = [values for key, values in resources.items() if key == step]
    if "default" in resources and (name, usual) != ("gpu", 0):
        known.append(resources["default"])
    values = [getattr(values, name) for values in known]
    return next((value for value in values if value is not None), usual)
