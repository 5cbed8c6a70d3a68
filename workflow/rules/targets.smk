# Target rules: one by name for every experiment, comparison, sweep, data set and download.

from stages.config.requirements import (
    files_of_dataset,
    files_of_experiment,
    missing,
    missing_trackers,
)
from stages.storage.splits import missing_split


def check_files(target, files):
    """Stops the run with one line if files that a user brings are missing."""
    found = missing(target, files, configs)
    if found is not None:
        raise WorkflowError(found)


def check_page(page, experiments):
    """Stops the run with one line if files, packages or splits are missing that a page needs."""
    for name in experiments:
        check_files(name, files_of_experiment(name, configs))
    for (name, _, split), scores in page.rows.items():
        samples = Path(path_of(catalog.products.samples(scores.dataset)))
        fault = samples.exists() and missing_split(samples, [split])
        if fault:
            raise WorkflowError(f"{name}: evaluation.splits: {fault}")
    found = missing_trackers([page.product], Path(RESULTS))
    if found is not None:
        raise WorkflowError(found)


def check_targets():
    """Stops the run with the closest name if a target, or a step of --forcerun, is none."""
    names = [rule.name for rule in workflow.rules]
    steps = [rule.name for rule in workflow.rules if rule.output]
    for target in unknown(TARGETS, names):
        remedy = suggest(target, names, "`snakemake --list-rules` shows them")
        raise WorkflowError(f"{target!r} is no target; {remedy}")
    for name in unknown(FORCED_STEPS, steps):
        remedy = suggest(name, steps, f"one of {', '.join(steps)}")
        if name in names:
            remedy = "targets stand before --forcerun, which takes all that follows it"
        raise WorkflowError(f"--forcerun: {name!r} is no step; {remedy}")


def unknown(given, names):
    """Those that are no name and no file."""
    return [
        name
        for name in given
        if name.isidentifier() and name not in names and not Path(name).exists()
    ]


def page_files(target):
    """The page of a target and the links to what is behind it; of a data set those of its rows too."""

    def files(wildcards):
        try:
            page = catalog.page(target)
        except InputError as error:
            raise WorkflowError(str(error))
        product = page.product
        made = f"{RESULTS}/{product.folder}/report.html"
        if not Path(made).exists():
            check_page(page, configs.members(target))
        return [made, f"{RESULTS}/{page.name}/.{product.digest}"]

    return files


def pages_of(target):
    """The page of a data set, and those of all its experiments."""
    names = [target, *configs.of_dataset(target)]
    return lambda wildcards: [path for name in names for path in page_files(name)(wildcards)]


def samples_of(name):
    def files(wildcards):
        path = path_of(catalog.products.samples(name))
        if not Path(path).exists():
            check_files(name, files_of_dataset(name, configs))
        return path

    return files


def masks_of(name):
    """The masks of an experiment in the formats that it asks for, and the links to them."""

    def files(wildcards):
        try:
            page = catalog.page(name)
        except InputError as error:
            raise WorkflowError(str(error))
        records = taken_away(page, ("masks",))
        if not records:
            raise WorkflowError(
                f"masks_{name}: the experiment asks for no format; name one, for once:"
                ' --config set="masks.formats=[coco]"'
            )
        if not all(Path(path).exists() for path in records):
            check_page(page, [name])
        return [*records, f"{RESULTS}/{name}/.{page.product.digest}"]

    return files


for name in [*configs.experiments, *configs.sweeps, *configs.settings.comparisons]:

    rule:
        name:
            name
        input:
            page_files(name),
        localrule: True


for name in configs.experiments:

    rule:
        name:
            f"masks_{name}"
        input:
            masks_of(name),
        localrule: True


for name in configs.datasets:

    rule:
        name:
            f"prepare_{name}"
        input:
            samples_of(name),
        localrule: True

    rule:
        name:
            name
        input:
            pages_of(name) if configs.of_dataset(name) else samples_of(name),
        localrule: True


for name in configs.downloads:

    rule:
        name:
            f"fetch_{name}"
        input:
            FETCHED.format(download=name),
        localrule: True


rule fetch_weights:
    input:
        [
            FETCHED.format(download=name)
            for name, download in configs.downloads.items()
            if all(file.path.parts[0] == "weights" for file in download.contents)
        ],
    localrule: True


rule small_clip:
    input:
        f"{RESULTS}/small_clip/small_clip.safetensors",
    localrule: True


rule placed_clip:
    input:
        f"{RESULTS}/placed_clip/placed_clip.safetensors",
    localrule: True


rule mini_dino:
    input:
        rules.pretrain_dino.output.weights,
    localrule: True
