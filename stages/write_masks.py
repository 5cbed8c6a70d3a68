"""The masks of a stage in the format of another tool: a folder for each split.

`risflow masks` writes the same, wherever it is asked to. stages/mask_formats/ has the formats.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from stages.config.exports import MaskFormat, MaskStage
from stages.mask_formats.rows import MaskRows
from stages.mask_formats.write import WRITERS, count_masks
from stages.runtime.command_line import main
from stages.storage.files import replacing_folder, write_json
from stages.storage.tables import read_samples

VERSION = 2

log = logging.getLogger(__name__)


def run(
    samples: Path,
    split: str,
    stage: MaskStage,
    format: MaskFormat,
    record: Path,
    shards: Sequence[Path] = (),
) -> None:
    """Write the folder <split> beside `record`, then that: the counts of what is in it.

    `shards` are the files of the stage; `ground_truth` has none.
    """
    rows = MaskRows(read_samples(samples), [split], stage, shards)
    counts = count_masks(rows)
    with replacing_folder(record.parent / split) as folder:
        WRITERS[format](folder, rows)
    write_json(record, {"split": split, "stage": stage, "format": format, **counts})
    log.info("%d masks of %d images, %d of them empty", *counts.values())


if __name__ == "__main__":
    main(run)
