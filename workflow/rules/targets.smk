# Target rules: `snakemake demo`, and one by name for every experiment and every data set.


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
        localrule: True
        input:
            f"{RESULTS}/{name}/report.html",


for name in configs.datasets:

    rule:
        name:
            name
        localrule: True
        input:
            f"{RESULTS}/datasets/{name}/samples.json",


rule small_clip:
    localrule: True
    input:
        rules.pretrain_clip.output.weights,
