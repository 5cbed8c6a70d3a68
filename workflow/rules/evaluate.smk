# Scores of everything that has masks.

METRICS = f"{RUN}/metrics/{{what}}-{{split}}.json"
SCORED_SAMPLES = f"{RUN}/metrics/{{what}}-{{split}}.samples.parquet"
STORED = {"prms": MAPS, "labels": LABELS, "pseudo": PSEUDO_MASKS}  # the others are predictions
BASELINES = ("whole_image", "center_box")  # need no file


def to_score(wildcards):
    if wildcards.what in BASELINES:
        return []
    pattern = STORED.get(wildcards.what, PREDICTIONS.replace("{what}", wildcards.what))
    return shard_files(pattern, wildcards.experiment, split=wildcards.split)


rule evaluate:
    input:
        samples=samples,
        masks=to_score,
    output:
        metrics=report(
            METRICS,
            caption="../report/metrics.rst",
            category="Scores",
            labels={"experiment": "{experiment}", "what": "{what}", "split": "{split}"},
        ),
        results=SCORED_SAMPLES,
    log:
        f"{RUN}/metrics/{{what}}-{{split}}.log",
    benchmark:
        f"{RUN}/metrics/{{what}}-{{split}}.tsv"
    wildcard_constraints:
        what="|".join((*BASELINES, "zero_shot", "stage1", "segmentor", *STORED)),
    threads: resource("evaluate", "threads")
    resources:
        gpu=resource("evaluate", "gpu"),
        mem_mb=resource("evaluate", "mem_mb"),
        runtime=resource("evaluate", "runtime"),
    shell:
        "python -m stages.evaluate --name {wildcards.experiment} --samples {input.samples:q}"
        " --what {wildcards.what} --split {wildcards.split} --masks {input.masks:q} --metrics {output.metrics:q}"
        " --results {output.results:q} > {log:q} 2>&1"
