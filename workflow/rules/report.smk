# The pages: one of each experiment, and one of each comparison, sweep and data set.

REPORT = f"{WORK}/report/{{report}}"
ONE = rf"({one_of(configs.experiments)})-{DIGEST}"  # pages of one experiment


def scores(ending):
    """The files of the scores that a page shows, in the order of its rows."""
    return lambda wildcards: [
        kept(product, f"{RESULTS}/{product.folder}/{split}{ending}")
        for (_, _, split), product in page_of(wildcards).rows.items()
    ]


def columns(page):
    """The shards of each column of the examples."""
    return {name: shards(product, page.split) for name, product in page.columns.items()}


def label(heading):
    """In the report of Snakemake: the name of a page, under a heading."""
    return lambda wildcards: {heading: wildcards.report.rpartition("-")[0]}


def overview(files):
    """The first page of that report: called by workflow/report/workflow.rst."""
    from workflow.report.overview import draw_overview  # imports pandas, for half a second

    return draw_overview(files)


# In results/<name>/: links to all that a page is made of, from the start of the run.
rule link_results:
    output:
        steps=f"{WORK}/report/{{page}}-{{digest}}/steps.yaml",
        linked=f"{RESULTS}/{{page}}/.{{digest}}",
    log:
        f"{WORK}/report/{{page}}-{{digest}}/link_results.log",
    wildcard_constraints:
        page=r"\w+",
    priority: 2
    localrule: True
    params:
        configs=str(CONFIGS),
        results=RESULTS,
        changes=CHANGES,
    shell:
        "python -m stages.link_results --page {wildcards.page} --digest {wildcards.digest}"
        " --steps {output.steps:q} --linked {output.linked:q} --configs {params.configs:q} --results {params.results:q}"
        " --changes {params.changes:q} > {log:q} 2>&1"


# What Snakemake measured (benchmarks) and the provenance of a training are no outputs that another
# rule could ask for: the page shows those that are there.
rule make_report:
    input:
        unpack(lambda w: columns(page_of(w))),
        steps=ancient(f"{REPORT}/steps.yaml"),
        samples=lambda w: path_of(catalog.products.samples(page_of(w).dataset)),
        metrics=scores(".json"),
        results=scores(".samples.parquet"),
        losses=lambda w: [
            kept(product, f"{RESULTS}/{product.folder}/losses.json")
            for product in page_of(w).trainings.values()
        ],
        taken_away=lambda w: taken_away(page_of(w)),
    output:
        report=report(
            f"{REPORT}/report.html",
            caption="../report/report.rst",
            category="Experiments",
            labels=label("experiment"),
        ),
        scores=f"{REPORT}/scores.txt",
    log:
        f"{REPORT}/make_report.log",
    benchmark:
        f"{REPORT}/make_report.tsv"
    wildcard_constraints:
        report=ONE,
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 4000),
        runtime=asks("runtime", 60),
    # Without names: Snakemake's report prints parameters that have one, and these are long.
    params:
        lambda w: page_of(w).product.owner.model_dump_json(
            exclude={"resources", "execution"}, exclude_unset=True
        ),
        lambda w, input: " ".join(
            f"--{name.replace('_', '-')} {' '.join(shlex.quote(str(f)) for f in files)}"
            for name, files in columns(page_of(w)).items()
        ),
    shell:
        "python -m stages.make_report --steps {input.steps:q} --samples {input.samples:q}"
        " --metrics {input.metrics:q} --results {input.results:q} --losses {input.losses:q}"
        " {params[1]} --taken-away {input.taken_away:q} --experiment {params[0]:q} --report {output.report:q}"
        " --scores {output.scores:q} > {log:q} 2>&1"


rule compare:
    input:
        steps=ancient(f"{REPORT}/steps.yaml"),
        samples=lambda w: path_of(catalog.products.samples(page_of(w).dataset)),
        predictions=lambda w: [file for files in columns(page_of(w)).values() for file in files],
        metrics=scores(".json"),
        results=scores(".samples.parquet"),
    output:
        report=report(
            f"{REPORT}/report.html",
            caption="../report/comparison.rst",
            category="Comparisons",
            labels=label("comparison"),
        ),
        scores=f"{REPORT}/scores.txt",
    log:
        f"{REPORT}/compare.log",
    benchmark:
        f"{REPORT}/compare.tsv"
    wildcard_constraints:
        report=rf"(?!{ONE})\w+-{DIGEST}",
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 4000),
        runtime=asks("runtime", 30),
    shell:
        "python -m stages.compare --steps {input.steps:q} --samples {input.samples:q}"
        " --metrics {input.metrics:q} --results {input.results:q}"
        " --predictions {input.predictions:q} --report {output.report:q} --scores {output.scores:q}"
        " > {log:q} 2>&1"
