# Target rules: `snakemake demo`, and one by name for every experiment, data set and comparison.

from stages.config.requirements import (files_of_dataset, files_of_experiment, missing)


def result_of(target, result, files_of):
    """An input that says, before it is made, which of the files that a user brings are missing."""

    def checked(wildcards):
        if not Path(result).exists():
            found = missing(target, files_of(target, configs), configs)
            if found is not None:
                raise WorkflowError(found)
        return result

    return checked


localrules:
    demo,


rule demo:
    default_target: True
    input:
        f"{RESULTS}/{configs.settings.demo}/report.html",


for name in configs.experiments:

    rule:
        name:
            name
        input:
            result_of(name, f"{RESULTS}/{name}/report.html", files_of_experiment),
        localrule: True


for name in configs.datasets:

    rule:
        name:
            name
        input:
            result_of(name, f"{RESULTS}/datasets/{name}/samples.json", files_of_dataset),
        localrule: True


for name in configs.settings.comparisons:

    rule:
        name:
            name
        input:
            COMPARISON.format(comparison=name),
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
        rules.pretrain_clip.output.weights,
    localrule: True
