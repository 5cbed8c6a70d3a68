# From response maps to pseudo masks.


MAPS = f"{RUN}/prms/maps-{{split}}-{{shard}}-of-{{shards}}.parquet"
LABELS = f"{RUN}/irnet/labels-{{split}}-{{shard}}-of-{{shards}}.parquet"
PSEUDO_MASKS = f"{RUN}/pseudo/masks-{{split}}-{{shard}}-of-{{shards}}.parquet"


rule make_labels:
    input:
        samples=samples,
        maps=MAPS,
    output:
        labels=LABELS,
    log:
        f"{RUN}/irnet/make_labels-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RUN}/irnet/make_labels-{{split}}-{{shard}}-of-{{shards}}.tsv"
    params:
        config=options("labels"),
    threads: workflow.cores or 1
    resources:
        mem_mb=resource("mem_mb"),
        runtime=resource("runtime"),
    shell:
        "python -m irnet.make_labels --samples {input.samples:q} --maps {input.maps:q}"
        " --labels {output.labels:q} --config {params.config:q} --workers {threads}"
        " > {log:q} 2>&1"


rule train_affinity:
    input:
        samples=samples,
        labels=lambda w: shard_files(LABELS, w.experiment, split="train"),
    output:
        model=f"{RUN}/irnet/model.safetensors",
        losses=f"{RUN}/irnet/losses.json",
    log:
        f"{RUN}/irnet/train_affinity.log",
    benchmark:
        f"{RUN}/irnet/train_affinity.tsv"
    params:
        config=options("affinity"),
    threads: resource("threads")
    resources:
        gpu=resource("gpu"),
        mem_mb=resource("mem_mb"),
        runtime=resource("runtime"),
    shell:
        "python -m irnet.train_affinity --samples {input.samples:q} --labels {input.labels:q}"
        " --model {output.model:q} --config {params.config:q} > {log:q} 2>&1"


rule propagate:
    input:
        samples=samples,
        maps=MAPS,
        model=f"{RUN}/irnet/model.safetensors",
    output:
        masks=PSEUDO_MASKS,
    log:
        f"{RUN}/pseudo/propagate-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RUN}/pseudo/propagate-{{split}}-{{shard}}-of-{{shards}}.tsv"
    params:
        config=options("propagation"),
    threads: resource("threads")
    resources:
        gpu=resource("gpu"),
        mem_mb=resource("mem_mb"),
        runtime=resource("runtime"),
    shell:
        "python -m irnet.propagate --samples {input.samples:q} --maps {input.maps:q}"
        " --model {input.model:q} --masks {output.masks:q} --config {params.config:q}"
        " > {log:q} 2>&1"
