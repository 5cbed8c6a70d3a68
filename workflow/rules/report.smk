# The pages: one of each experiment, and one of each comparison.

import json

from stages.config.figures import Compared
from stages.config.contamination import coco_warning

COMPARISON = f"{RESULTS}/comparisons/{{comparison}}.txt"
COMPARISON_PAGE = f"{RESULTS}/comparisons/{{comparison}}.html"


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
    return [(e, stage) for e, stage in stages if f"{e}/{stage}" not in IMPORTED]


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


def step(rule, owner, needs, title=None, model=None, **wildcards):
    """A step for the picture of the workflow; shards are `*`, so that their number costs nothing."""
    title = title or rule.replace("_", " ")
    benchmark = str(getattr(rules, rule).benchmark)
    wildcards = {"experiment": owner, "dataset": owner, "shard": "*", **wildcards}
    facts = f"{RUN}/{model}/run.json".format(experiment=owner) if model else None
    return {
        "name": f"{owner}/{title}",
        "title": title,
        "owner": owner,
        "needs": needs,
        "benchmarks": expand(benchmark, **wildcards),
        "facts": facts,
    }


def steps_of_data(name):
    """The steps behind samples; the last one makes them."""
    dataset = configs.datasets[name]
    if dataset.source == "mix":
        members = [steps_of_data(member) for member in dataset.members]
        needs = [steps[-1]["name"] for steps in members]
        return [*sum(members, []), step("mix", name, needs)]
    if dataset.source == "refshapes":
        made = step("make_refshapes", name, [])
        return [made, step("prepare", name, [made["name"]])]
    return [step("prepare", name, [])]


def made_stage1(source):
    """The step that makes stage 1: a training, or the import of an official checkpoint."""
    if f"{source}/stage1" in IMPORTED:
        details = {"title": "import stage 1", "imported": f"{source}/stage1"}
        return "import_checkpoint", {"model": "stage1", **details}
    return "train_stage1", {"model": "stage1", "title": "train stage 1"}


def steps_of_pseudo_masks(source, samples, splits):
    """The chain from text to pseudo masks; the last step makes them."""
    experiment = configs.experiments[source]
    maps = {"split": [*splits, "train"], "shards": shards_of(source)}
    text = step("encode_text", experiment.dataset, [samples], clip=text_name(experiment.judge))
    chain = [
        made_stage1(source),
        ("select_maps", maps),
        ("make_labels", maps),
        ("train_affinity", {"model": "irnet"}),
        ("propagate", maps),
    ]
    steps = [text]
    for rule, details in chain:
        steps.append(step(rule, source, [steps[-1]["name"]], **details))
    return steps


def steps_of_segmentor(name, learned, samples, splits):
    """A segmentor and its predictions; one that is imported learned nothing here."""
    experiment = configs.experiments[name]
    shards = {"what": "segmentor", "split": splits, "shards": shards_of(name)}
    if experiment.checkpoint is None:
        made = step("train_segmentor", name, [learned], model="segmentor")
        return [made, step("predict", name, [made["name"]], **shards)]
    imported = f"{name}/segmentor"
    made = step("import_checkpoint", name, [], model="segmentor", imported=imported)
    return [made, step("predict", name, [made["name"], samples], **shards)]


def steps_behind(name):
    """All steps behind a report, for its picture of the workflow."""
    experiment, source = configs.experiments[name], configs.source(name)
    splits = experiment.evaluation.splits
    steps = steps_of_data(experiment.dataset)
    samples = learned = steps[-1]["name"]
    scored_steps = []
    if experiment.from_text:
        chain = steps_of_pseudo_masks(source, samples, splits)
        shards = {"split": splits, "shards": shards_of(source)}
        whats = {"what": ["zero_shot", "stage1"]}
        first = step("predict", source, [chain[1]["name"]], "predict stage 1", **shards, **whats)
        steps += [*chain, first]
        learned = chain[-1]["name"]
        scored_steps.append(first["name"])
    for owner, masks in ((name, learned), (experiment.upper_bound, samples)):
        if owner:
            steps += steps_of_segmentor(owner, masks, samples, splits)
            scored_steps.append(steps[-1]["name"])
    whats = list(dict.fromkeys(what for e, what, _ in scored(name) if e == name))
    rows = {"what": whats, "split": [*splits, "train"]}
    evaluated = step("evaluate", name, scored_steps, shards="*", **rows)
    return [*steps, evaluated, step("score", name, [evaluated["name"]], **rows)]


def compared(comparison):
    """What a comparison shows, data set by data set: (experiment, what, split)."""
    of_dataset = {}
    for name in configs.settings.comparisons[comparison]:
        of_dataset.setdefault(configs.experiments[name].dataset, []).append(name)
    return [
        (name, what, split)
        for experiments in of_dataset.values()
        for split in configs.experiments[experiments[0]].evaluation.splits
        for name, what in [
            *[(experiments[0], baseline) for baseline in BASELINES],
            *[(experiment, "segmentor") for experiment in experiments],
        ]
    ]


def files_of(pattern, rows):
    return [pattern.format(experiment=e, what=what, split=split) for e, what, split in rows]


rule compare:
    input:
        metrics=lambda w: files_of(METRICS, compared(w.comparison)),
        results=lambda w: files_of(SCORED_SAMPLES, compared(w.comparison)),
    output:
        scores=COMPARISON,
        page=report(
            COMPARISON_PAGE,
            caption="../report/comparison.rst",
            category="Comparisons",
            labels={"comparison": "{comparison}"},
        ),
    log:
        f"{RESULTS}/comparisons/{{comparison}}.log",
    benchmark:
        f"{RESULTS}/comparisons/{{comparison}}.tsv"
    threads: resource("compare", "threads")
    resources:
        gpu=resource("compare", "gpu"),
        mem_mb=resource("compare", "mem_mb"),
        runtime=resource("compare", "runtime"),
    params:
        figures=lambda w: Compared(
            experiments={
                name: configs.experiments[name].figures
                for name in configs.settings.comparisons[w.comparison]
            }
        ).model_dump_json(exclude_defaults=True),
    shell:
        "python -m stages.compare --name {wildcards.comparison} --metrics {input.metrics:q}"
        " --results {input.results:q} --figures {params.figures:q} --scores {output.scores:q}"
        " --page {output.page:q} > {log:q} 2>&1"


# What Snakemake measured (benchmarks) and the facts of a training are no outputs that another rule
# could ask for: the page shows those that are there.
rule make_report:
    input:
        unpack(lambda w: pictures(w.experiment)),
        samples=samples,
        metrics=lambda w: files_of(METRICS, scored(w.experiment)),
        results=lambda w: files_of(SCORED_SAMPLES, scored(w.experiment)),
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
        note=lambda w: coco_warning(configs, w.experiment) or "",
        pipeline=lambda w: json.dumps({"steps": steps_behind(w.experiment)}),
        columns=lambda w, input: " ".join(
            f"--{name.replace('_', '-')} {' '.join(shlex.quote(str(f)) for f in files)}"
            for name, files in pictures(w.experiment).items()
        ),
    shell:
        "python -m stages.report --name {wildcards.experiment} --samples {input.samples:q}"
        " --metrics {input.metrics:q} --results {input.results:q} --losses {input.losses:q}"
        " {params.columns} --experiment {params.experiment:q} --note {params.note:q}"
        " --pipeline {params.pipeline:q}"
        " --report {output.report:q} --scores {output.scores:q} > {log:q} 2>&1"
