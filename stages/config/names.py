"""Names of targets: what one can be, and which are taken."""

import keyword
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.config.load import Configs

# Names of targets and folders that the workflow makes itself.
MADE_ONCE = ("small_clip", "placed_clip", "mini_dino")  # kept in data/
RESERVED = ("demo", "all", "fetch_weights", *MADE_ONCE, "work", "downloads", "none")
LONGEST = 150  # characters: files have this name, a digest and an ending, and at most 255 in all
PREFIXES = ("prepare_", "fetch_", "masks_")  # of targets that are made from other names
RULE = re.compile(r"^(?:rule|checkpoint) (\w+):", re.MULTILINE)
WORKFLOW = Path(__file__).parents[2] / "workflow" / "rules"


def name_fault(name: str) -> str | None:
    """Why nothing can have a name, with the remedy; None if something can."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        return "needed a word of letters, digits and _, a letter first"
    if len(name) > LONGEST:
        return f"{len(name)} characters; needed at most {LONGEST}"
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
    if prefix is not None:
        return f"names that begin with {prefix} are the workflow's; needed another"
    return None


def workflow_names() -> dict[str, str]:
    """The names that the workflow itself uses, and for what."""
    files = WORKFLOW.glob("*.smk")
    rules = {name for file in files for name in RULE.findall(file.read_text())}
    taken = dict.fromkeys(rules, "a step of the workflow")
    return taken | dict.fromkeys(RESERVED, "a target of the workflow")


def taken_names(configs: "Configs") -> dict[str, str]:
    """All names that are taken, and by what."""
    taken = workflow_names()
    for kind, names in named_things(configs).items():
        taken |= dict.fromkeys(names, kind)
    return taken


def named_things(configs: "Configs") -> dict[str, list[str]]:
    """Everything in configs/ that gives a target its name, by its kind."""
    return {
        "a data set": list(configs.datasets),
        "an experiment": list(configs.experiments),
        "a sweep": list(configs.sweeps),
        "a comparison": list(configs.settings.comparisons),
    }
