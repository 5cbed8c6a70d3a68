"""The page of all options: `make docs` writes it to docs/configuration.md.

Keys, types and defaults are those of the classes in stages/config/; what a key means is the comment
that stands at it there.
"""

import ast
import inspect
import io
import json
import re
import tokenize
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stages.config import segmentors
from stages.config.datasets import DatasetConfig, RefShapes
from stages.config.encoders import ClipSource, JudgeSource
from stages.config.experiment import Experiment
from stages.config.exports import Masks
from stages.config.figures import Figures
from stages.config.resources import Resources
from stages.config.section import Execution, Section, Training
from stages.config.selection import SelectedTraining, Validation
from stages.config.settings import Downloads, RemoteFile, Settings
from stages.config.steps import (
    Affinity,
    Assignment,
    Evaluation,
    Labels,
    MaskedView,
    PretrainClip,
    PretrainDino,
    Prms,
    Propagation,
    Report,
    Stage1,
)

HEAD = """# Configuration

Every option with its type and default. `make docs` writes this page from `stages/config/`.

- Defaults are the published values. A file contains only what differs.
- All files are checked when the workflow is parsed. An unknown key, a value out of range or an
  unknown name stops the run before its first job; the message names file, key and remedy.
- A changed option runs the steps of its section again, and what follows from them, but nothing
  before: [what runs again](workflow.md#what-runs-again). `execution` and `resources` change no
  result and rerun nothing.
"""
STEPS = """
### What steps ask for

| step | threads | gpu | mem_mb | runtime |
|---|---|---|---|---|
"""
RULES = Path(__file__).parents[1] / "workflow" / "rules"
RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
ASKED = [rf"^ +{name}(?:: |=)\D*(\d+)" for name in ("threads", "gpu", "mem_mb", "runtime")]
# Title and class of each part; a class has the keys of its bases too.
PARTS: list[tuple[str, type[Section]]] = [
    ("## configs/config.yaml", Settings),
    ("## configs/datasets/(name).yaml", DatasetConfig),
    ("### refshapes", RefShapes),
    ("## configs/experiments/(name).yaml", Experiment),
    ("### published, expected", Figures),
    ("### clip", ClipSource),
    ("### judge", JudgeSource),
    ("### Every training", Training),
    ("### Trainings of stage 1 and of segmentors", SelectedTraining),
    ("### validation", Validation),
    ("### stage1", Stage1),
    ("### masked_view, of stage1 and segmentor", MaskedView),
    ("### prms", Prms),
    ("### labels", Labels),
    ("### affinity", Affinity),
    ("### propagation", Propagation),
    ("### assignment", Assignment),
    ("### segmentor", segmentors.Segmentor),
    ("### segmentor with model: tris", segmentors.TrisOptions),
    ("### segmentor with model: cris, etris or detris", segmentors.QueryOptions),
    ("### segmentor with model: cris", segmentors.CrisOptions),
    ("### segmentor with model: etris", segmentors.EtrisOptions),
    ("### segmentor with model: detris", segmentors.DetrisOptions),
    ("### dino, of detris", segmentors.DinoSource),
    ("### segmentor with model: rela", segmentors.RelaOptions),
    ("### evaluation", Evaluation),
    ("### report", Report),
    ("### masks", Masks),
    ("### resources", Resources),
    ("### execution", Execution),
    ("## configs/downloads.yaml", Downloads),
    ("### A file of downloads.yaml", RemoteFile),
    ("## The small CLIP", PretrainClip),
    ("## The mini DINOv2", PretrainDino),
]
KINDS: dict[Any, str] = {
    Any: "value",
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true, false",
    Path: "path",
}
BOUNDS = {
    "gt": "above {}",
    "ge": "{} or more",
    "lt": "below {}",
    "le": "at most {}",
    "min_length": "{} or more",
}


def main() -> None:
    print(HEAD + "".join(section_text(title, section) for title, section in PARTS), end="")


def section_text(title: str, section: type[Section]) -> str:
    """A heading, what the section is for, what it shares with others, and its own keys."""
    about = " ".join((inspect.getdoc(section) or "").split())
    shared = [
        f"[{heading(name)}](#{anchor(name)})" for name, base in PARTS if is_base(base, section)
    ]
    also = f" With the keys of: {', '.join(shared)}." if shared else ""
    lines = [f"| `{key}` | {' | '.join(cells)} |" for key, *cells in rows(section)]
    table = "\n".join(["| key | type | default | what it is |", "|---|---|---|---|", *lines])
    steps = STEPS + "".join(steps_of_rules()) if section is Resources else ""
    return f"\n{title}\n\n{about}{also}\n\n{table}\n{steps}"


def is_base(base: type[Section], section: type[Section]) -> bool:
    return base is not section and issubclass(section, base)


def heading(title: str) -> str:
    return title.lstrip("# ")


def anchor(title: str) -> str:
    """The name that Python-Markdown and GitHub give to a heading."""
    kept = "".join(
        letter for letter in heading(title).lower() if letter.isalnum() or letter in " _-"
    )
    return kept.replace(" ", "-")


def steps_of_rules() -> Iterator[str]:
    """A row for each rule with jobs: what it asks for, as it says in workflow/rules/."""
    for file in sorted(RULES.glob("*.smk")):
        for name, body in RULE.findall(file.read_text()):
            asked = [value for names in ASKED for value in re.findall(names, body, re.MULTILINE)]
            if len(asked) == len(ASKED):
                yield f"| `{name}` | {' | '.join(asked)} |\n"


def rows(section: type[Section]) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of what a class itself declares."""
    texts = comments(section)
    for key, comment in texts.items():
        if key in section.model_fields:
            field = section.model_fields[key]
            yield key, cell(kind_of(field)), cell(default_of(field)), cell(comment)


def comments(section: type[Section]) -> dict[str, str]:
    """The comment at or above each key that the class declares; that of a base if it has none."""
    source = inspect.getsource(section)
    lines = source.splitlines()
    comment_lines = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    result = {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            numbers = range(first, node.end_lineno + 1)
            text = " ".join(comment_lines[number] for number in numbers if number in comment_lines)
            text = text or inherited(section, node.target.id)
            result[node.target.id] = text.replace("None", "null")
    return result


def inherited(section: type[Section], key: str) -> str:
    bases = (base for base in section.__mro__[1:] if key in getattr(base, "__annotations__", {}))
    return next((comments(base).get(key, "") for base in bases), "")


def kind_of(field: FieldInfo) -> str:
    hint = field.annotation
    return kind(Annotated[(hint, *field.metadata)] if field.metadata else hint)


def kind(hint: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return bounded(kind(arguments[0]), arguments[1:])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind(argument) for argument in arguments if argument is not types.NoneType]
        if len(kinds) > 1:  # the segmentors
            return section_link(segmentors.Segmentor)
        return f"{kinds[0]}; or null"
    if origin is tuple:
        several = "list of" if arguments[-1] is ... else str(len(arguments))
        return f"{several} ({kind(arguments[0])})"
    if origin is dict:
        return f"{kind(arguments[0])} -> {kind(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, Section):
        return section_link(hint)
    return KINDS[hint]


def section_link(section: type[Section]) -> str:
    title = next(title for title, of in PARTS if of is section)
    return f"[section](#{anchor(title)})"


def bounded(text: str, metadata: tuple[Any, ...]) -> str:
    """A type with its range."""
    limits: list[str] = []
    for constraint in metadata:
        for limit in getattr(constraint, "metadata", None) or [constraint]:
            for name, phrase in BOUNDS.items():
                if getattr(limit, name, None) is not None:
                    limits.append(phrase.format(getattr(limit, name)))
            if getattr(limit, "multiple_of", None) is not None:
                limits.append(f"a multiple of {limit.multiple_of}")
    return ", ".join([text, *limits])


def default_of(field: FieldInfo) -> str:
    """A default as YAML would have it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, Section):
        changed = value.model_dump(mode="json", exclude_defaults=True)
        return f"`{json.dumps(changed)}`" if changed else "its defaults"
    if isinstance(value, float):
        return f"`{value:g}`".replace("e-0", "e-")
    return f"`{value}`" if isinstance(value, Path | str) else f"`{json.dumps(value)}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") or " "


if __name__ == "__main__":
    main()
