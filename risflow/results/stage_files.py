"""The files of a stage of an experiment, as far as they are made."""

from collections.abc import Sequence
from pathlib import Path

from risflow.project.run_options import DEFAULTS, RunOptions
from stages.config.exports import STAGES, MaskFormat, MaskStage
from stages.config.load import Configs
from stages.config.shard_files import complete_shards
from stages.runtime.errors import InputError

KINDS = {"predictions/segmentor": "predictions"}  # of products, where the name of a link is longer


def find_stage_files(
    experiment: str,
    stage: MaskStage,
    splits: Sequence[str],
    format: MaskFormat,
    configs: Configs,
    options: RunOptions = DEFAULTS,
) -> tuple[Path, list[Path]]:
    """The samples and the shards of a stage of some splits, by the links of results/<experiment>/.

    Raises InputError for a stage that the experiment does not have, for a split that is not in the
    data, and for masks that are not made yet: it names the command that makes them.
    """
    own = configs.experiments[experiment]
    folder = configs.settings.results / experiment
    if STAGES[stage] in ("maps", "labels", "pseudo_masks", "assigned") and not own.learns_from_text:
        raise InputError(
            f"{experiment}: does not make {stage.replace('_', ' ')}: no stage of it learns from"
            " text; needed --stage predictions or ground_truth"
        )
    if stage == "assigned" and not configs.experiments[configs.source(experiment)].assigns:
        raise InputError(
            f"{experiment}: assigns no masks; needed an assignment.method, or --stage pseudo_masks"
        )
    samples = folder / "samples" / "samples.json"
    if not samples.is_file():
        raise InputError(
            f"{experiment}: not made yet: {_command(experiment, stage, splits, format, options)}"
        )
    shards = []
    _require_splits(samples, splits)
    for split in splits:
        if stage == "ground_truth":
            continue
        name = "votes" if stage == "response" and own.votes_of else STAGES[stage]
        of_split = complete_shards(folder / name, KINDS.get(name, name), split)
        if not of_split:
            raise InputError(
                f"{experiment}: no {stage.replace('_', ' ')} of {split} yet:"
                f" {_command(experiment, stage, [split], format, options)}"
            )
        shards += of_split
    return samples, shards


def _require_splits(samples: Path, splits: Sequence[str]) -> None:
    from stages.storage.splits import missing_split

    fault = missing_split(samples, splits)
    if fault is not None:
        raise InputError(f"--split: {fault}")


def _command(
    experiment: str,
    stage: MaskStage,
    splits: Sequence[str],
    format: MaskFormat,
    options: RunOptions,
) -> str:
    """The command that makes masks, and writes them in this format too."""
    changes = f"masks.formats=[{format}] masks.stages=[{stage}] masks.splits=[{','.join(splits)}]"
    return options._replace(changes=changes).command(f"masks_{experiment}")
