# Scores of everything that has masks.

METRICS = f"{RUN}/metrics/{{what}}-{{split}}.json"
SCORED_SAMPLES = f"{RUN}/metrics/{{what}}-{{split}}.samples.parquet"
STORED = {"prms": MAPS, "labels": LABELS, "pseudo": PSEUDO_MASKS}  # the others are predictions
BASELINES = ("whole_image", "center_box")  # need no file
SCORABLE = one_of((*BASELINES, "zero_shot", "stage1", "segmentor", *STORED))


ROWS = f"{RUN}/metrics/rows/{{what}}-{{split}}-{{shard}}-of-{{shards}}.parquet"


def masks_to_evaluate(wildcards):
    if wildcards.what in BASELINES:
        return []
    pattern = STORED.get(wildcards.what, PREDICTIONS)
    return pattern.format(**wildcards)


def rows_to_score(wildcards):
    """All shards of what is scored; the baselines have one."""
    names = {"what": wildcards.what, "split": wildcards.split}
    if wildcards.what in BASELINES:
        return [ROWS.format(experiment=wildcards.experiment, shard=0, shards=1, **names)]
    return shard_files(ROWS, wildcards.experiment, **names)


rule evaluate:
    input:
        samples=samples,
        masks=masks_to_evaluate,
    output:
        rows=ROWS,
    log:
        f"{RUN}/metrics/rows/{{what}}-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RUN}/metrics/rows/{{what}}-{{split}}-{{shard}}-of-{{shards}}.tsv"
    wildcard_constraints:
        what=SCORABLE,
    threads: resource("evaluate", "threads")
    resources:
        gpu=resource("evaluate", "gpu"),
        mem_mb=resource("evaluate", "mem_mb"),
        runtime=resource("evaluate", "runtime"),
    shell:
        "python -m stages.evaluate --samples {input.samples:q} --what {wildcards.what}"
        " --split {wildcards.split} --masks {input.masks:q} --results {output.rows:q}"
        " > {log:q} 2>&1"


rule score:
    input:
        samples=samples,
        rows=rows_to_score,
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
        what=SCORABLE,
    threads: resource("score", "threads")
    resources:
        gpu=resource("score", "gpu"),
        mem_mb=resource("score", "mem_mb"),
        runtime=resource("score", "runtime"),
    shell:
        "python -m stages.score --name {wildcards.experiment} --samples {input.samples:q}"
        " --what {wildcards.what} --split {wildcards.split} --rows {input.rows:q}"
        " --metrics {output.metrics:q} --results {output.results:q} > {log:q} 2>&1"
