"""Where the annotations of a data set are, and how to read them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.config.section import Count, Positive, Section


class RefShapes(Section):
    """The generated data set: what to draw."""

    seed: Count = 0  # another one, another data set
    size: Annotated[int, Field(ge=48, le=512)] = 96  # pixels of a side
    train_images: Positive = 500
    val_images: Positive = 150
    test_images: Positive = 75  # each of testA and testB
    generalized: bool = False  # gRefCOCO format, with no-target and multi-target expressions
    hard: bool = False  # 4 to 10 objects; relations of two, negations, groups (with a size of 160)


class DatasetConfig(Section):
    """Where the annotations of a data set are and how to read them (configs/datasets/)."""

    source: Literal["refshapes", "refer", "grefcoco", "referit", "lmdb", "table", "mix"]
    # refer, grefcoco: folder of refs(...).p and instances.json; referit: of <split>.pickle;
    # lmdb: of <split>.lmdb; table: file
    annotations: Path | None = None
    images: Path | None = None  # folder that image names are relative to; lmdb: of those taken out
    split_by: str | None = None  # refer: the name in refs(<split_by>).p
    on_bad_row: Literal["stop", "drop"] = "stop"  # stop at rows that are wrong, or leave them out
    overlap: Literal["union", "official"] = "union"  # pixels in two polygons of one object
    members: tuple[str, ...] = ()  # mix: the data sets that it is made of
    pooled: bool = False  # mix: splits of one name are one; else a member's are <member>_<split>
    drop_evaluated_images: bool = True  # mix: do not train on images of the members' other splits
    published: dict[str, Positive] = Field(default_factory=dict)  # objects that each split has
    refshapes: RefShapes = RefShapes()  # what to draw

    @property
    def annotation_files(self) -> list[Path]:
        """The files that the annotations are read from; none of a data set that is generated."""
        folder = self.annotations
        if folder is None or self.source in ("refshapes", "mix"):
            return []
        if self.source == "table":
            return [folder]
        if self.source in ("refer", "grefcoco"):
            names = [f"refs({self.split_by}).p"]
            if self.source == "grefcoco":
                names = [f"grefs({self.split_by}).{ending}" for ending in ("json", "p")]
            refs = [path for name in names if (path := folder / name).exists()]
            return [*(refs[:1] or [folder / names[0]]), folder / "instances.json"]
        pattern = "*.pickle" if self.source == "referit" else "*.lmdb"
        matches = sorted(folder.rglob(pattern))
        files = [path / "data.mdb" if path.is_dir() else path for path in matches]
        return files or [folder]
