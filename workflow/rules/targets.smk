# Target rules: `snakemake demo`, and one by name for every experiment, data set and comparison.


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
            f"{RESULTS}/{name}/report.html",
        localrule: True


for name in configs.datasets:

    rule:
        name:
            name
        input:
            f"{RESULTS}/datasets/{name}/samples.json",
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
