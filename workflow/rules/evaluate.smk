# Scores of everything that has masks.

ROWS = f"{WORK}/rows/{{rows}}"
SCORES = f"{WORK}/scores/{{scores}}"


def masks_to_evaluate(wildcards):
    """The masks that are scored; none for baselines, which need no file."""
    sources = [source for source in product_of(wildcards).sources if source.kind != "samples"]
    return [path_of(source, wildcards) for source in sources]


rule evaluate:
    input:
        samples=made_from("samples"),
        masks=masks_to_evaluate,
    output:
        rows=f"{ROWS}/rows-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{ROWS}/evaluate-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{ROWS}/evaluate-{{split}}-{{shard}}-of-{{shards}}.tsv"
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 2000),
        runtime=asks("runtime", 60),
    params:
        scored=lambda w: product_of(w).options["scored"],
        boxes=lambda w: "--boxes" if product_of(w).options["boxes"] else "--no-boxes",
        side=lambda w: product_of(w).options.get("side", 0),
        empty=lambda w: product_of(w).options.get("empty_response", "empty"),
    shell:
        "python -m stages.evaluate --samples {input.samples:q} --scored {params.scored}"
        " --split {wildcards.split} --masks {input.masks:q} --results {output.rows:q}"
        " {params.boxes} --side {params.side} --empty-response {params.empty} > {log:q} 2>&1"


rule score:
    input:
        samples=made_from("samples"),
        rows=lambda w: shards(product_of(w).source("rows"), w.split),
    output:
        metrics=f"{SCORES}/{{split}}.json",
        results=f"{SCORES}/{{split}}.samples.parquet",
    log:
        f"{SCORES}/score-{{split}}.log",
    benchmark:
        f"{SCORES}/score-{{split}}.tsv"
    threads: asks("threads", 1)
    resources:
        gpu=asks("gpu", 0),
        mem_mb=asks("mem_mb", 2000),
        runtime=asks("runtime", 60),
    params:
        scored=lambda w: product_of(w).options["scored"],
        dataset=lambda w: product_of(w).dataset,
    shell:
        "python -m stages.score --dataset {params.dataset} --samples {input.samples:q}"
        " --scored {params.scored} --split {wildcards.split} --rows {input.rows:q}"
        " --metrics {output.metrics:q} --results {output.results:q} > {log:q} 2>&1"
