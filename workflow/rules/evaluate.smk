# Scores of everything that has masks, and the page.


METRICS = f"{RUN}/metrics/{{what}}-{{split}}.json"
COMPARISON = f"{RESULTS}/comparisons/{{comparison}}.txt"
STORED = {"prms": MAPS, "labels": LABELS, "pseudo": PSEUDO_MASKS}  # the others are predictions
BASELINES = ("whole_image", "center_box")  # need no file


def to_score(wildcards):
    if wildcards.what in BASELINES:
        return []
    pattern = STORED.get(wildcards.what, PREDICTIONS.replace("{what}", wildcards.what))
    return shard_files(pattern, wildcards.experiment, split=wildcards.split)


def scored(name):
    """What the report of an experiment compares: (experiment, what, split) in the order of rows."""
    experiment, source = configs.experiments[name], configs.source(name)
    rows = []
    for split in experiment.evaluation.splits:
        rows += [(name, what, split) for what in BASELINES]
        if experiment.from_text:
            rows += [(source, what, split) for what in ("zero_shot", "stage1", *STORED)]
        rows.append((name, "segmentor", split))
        if experiment.upper_bound:
            rows.append((experiment.upper_bound, "segmentor", split))
    if experiment.from_text:
        rows += [(source, what, "train") for what in STORED]
    return rows


def trained(name):
    """The trainings behind a report: (experiment, stage)."""
    experiment, source = configs.experiments[name], configs.source(name)
    stages = [(name, "segmentor")]
    if experiment.from_text:
        stages = [(source, "stage1"), (source, "irnet"), *stages]
    if experiment.upper_bound:
        stages.append((experiment.upper_bound, "segmentor"))
    return [
        (e, stage)
        for e, stage in stages
        if stage != "segmentor" or configs.experiments[e].checkpoint is None
    ]


def pictures(name):
    """The columns of the picture grid, from the first split: option of the report -> shards."""
    experiment, source = configs.experiments[name], configs.source(name)
    split = experiment.evaluation.splits[0]

    def files(pattern, of):
        return shard_files(pattern, of, split=split)

    segmentor = PREDICTIONS.replace("{what}", "segmentor")
    columns = {"predictions": files(segmentor, name)}
    if experiment.from_text:
        columns |= {what: files(pattern, source) for what, pattern in STORED.items()}
    if experiment.upper_bound:
        columns["upper_bound"] = files(segmentor, experiment.upper_bound)
    return columns


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
        results=f"{RUN}/metrics/{{what}}-{{split}}.samples.parquet",
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


def compared(wildcards):
    """The metrics of a comparison, data set by data set: trivial baselines, then segmentors."""
    names = configs.settings.comparisons[wildcards.comparison]
    of_dataset = {}
    for name in names:
        of_dataset.setdefault(configs.experiments[name].dataset, []).append(name)
    return [
        METRICS.format(experiment=name, what=what, split=split)
        for experiments in of_dataset.values()
        for split in configs.experiments[experiments[0]].evaluation.splits
        for name, what in [
            *[(experiments[0], baseline) for baseline in BASELINES],
            *[(experiment, "segmentor") for experiment in experiments],
        ]
    ]


rule compare:
    input:
        metrics=compared,
    output:
        scores=report(COMPARISON, category="Scores", labels={"comparison": "{comparison}"}),
    log:
        f"{RESULTS}/comparisons/{{comparison}}.log",
    threads: resource("compare", "threads")
    resources:
        gpu=resource("compare", "gpu"),
        mem_mb=resource("compare", "mem_mb"),
        runtime=resource("compare", "runtime"),
    shell:
        "python -m stages.compare --metrics {input.metrics:q} --scores {output.scores:q}"
        " > {log:q} 2>&1"


rule make_report:
    input:
        unpack(lambda w: pictures(w.experiment)),
        samples=samples,
        metrics=lambda w: [
            METRICS.format(experiment=e, what=what, split=split)
            for e, what, split in scored(w.experiment)
        ],
        losses=lambda w: [
            f"{RUN}/{stage}/losses.json".format(experiment=e) for e, stage in trained(w.experiment)
        ],
    output:
        report=report(
            f"{RUN}/report.html",
            caption="../report/report.rst",
            category="Reports",
            labels={"experiment": "{experiment}"},
        ),
        scores=f"{RUN}/scores.txt",
    log:
        f"{RUN}/report.log",
    benchmark:
        f"{RUN}/report.tsv"
    threads: resource("make_report", "threads")
    resources:
        gpu=resource("make_report", "gpu"),
        mem_mb=resource("make_report", "mem_mb"),
        runtime=resource("make_report", "runtime"),
    params:
        experiment=lambda w: experiment_of(w).model_dump_json(
            exclude={"resources"}, exclude_unset=True
        ),
        columns=lambda w, input: " ".join(
            f"--{name.replace('_', '-')} {' '.join(shlex.quote(str(f)) for f in files)}"
            for name, files in pictures(w.experiment).items()
        ),
    shell:
        "python -m stages.report --name {wildcards.experiment} --samples {input.samples:q}"
        " --metrics {input.metrics:q} --losses {input.losses:q} {params.columns}"
        " --experiment {params.experiment:q}"
        " --report {output.report:q} --scores {output.scores:q} > {log:q} 2>&1"
