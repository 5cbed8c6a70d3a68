"""The scores that experiments have."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from risflow.project.project import find_experiment
from stages.config.baselines import BASELINES
from stages.config.figures import Figures
from stages.config.load import Configs
from stages.storage.files import read_json


@dataclass
class Scores:
    """Metrics in the order of rows, by data set; and what has none yet."""

    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)  # experiment and split
    figures: dict[str, Figures] = field(default_factory=dict)  # published ones, by experiment


def find_scores(names: Sequence[str], configs: Configs) -> Scores:
    """Scores of segmentors, and of the trivial baselines of each data set where there are some.

    Raises InputError for a name that is no experiment.
    """
    scores = Scores(figures={name: find_experiment(name, configs).figures for name in names})
    of_dataset: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        of_dataset.setdefault(find_experiment(name, configs).dataset, []).append(name)
    for dataset, members in of_dataset.items():
        splits = [s for name in members for s in configs.experiments[name].evaluation.splits]
        for split in dict.fromkeys(splits):
            baselines = [(members[0], baseline) for baseline in BASELINES]
            for name, scored in [*baselines, *((member, "segmentor") for member in members)]:
                path = configs.settings.results / name / "scores" / scored / f"{split}.json"
                if path.is_file():
                    row = {"experiment": name, **read_json(path)}
                    scores.metrics.setdefault(dataset, []).append(row)
                elif scored == "segmentor" and split in configs.experiments[name].evaluation.splits:
                    scores.missing.append((name, split))
    return scores
