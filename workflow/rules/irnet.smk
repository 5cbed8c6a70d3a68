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
    priority: 1
    threads: resource("make_labels", "threads")
    resources:
        gpu=resource("make_labels", "gpu"),
        mem_mb=resource("make_labels", "mem_mb"),
        runtime=resource("make_labels", "runtime"),
    params:
        config=options("labels"),
    shell:
        "python -m irnet.make_labels --samples {input.samples:q} --maps {input.maps:q}"
        " --labels {output.labels:q} --config {params.config:q} --workers {threads}"
        " > {log:q} 2>&1"


rule train_affinity:
    input:
        samples=samples,
        labels=lambda w: shard_files(LABELS, w.experiment, split="train"),
        weights=weights_of("affinity"),
    output:
        model=f"{RUN}/irnet/model.safetensors",
        losses=f"{RUN}/irnet/losses.json",
    log:
        f"{RUN}/irnet/train_affinity.log",
    benchmark:
        f"{RUN}/irnet/train_affinity.tsv"
    priority: 1
    threads: resource("train_affinity", "threads")
    resources:
        gpu=resource("train_affinity", "gpu"),
        mem_mb=resource("train_affinity", "mem_mb"),
        runtime=resource("train_affinity", "runtime"),
    params:
        config=options("affinity"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} irnet.train_affinity --samples {input.samples:q} --labels {input.labels:q}"
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
    priority: 1
    threads: resource("propagate", "threads")
    resources:
        gpu=resource("propagate", "gpu"),
        mem_mb=resource("propagate", "mem_mb"),
        runtime=resource("propagate", "runtime"),
    params:
        config=options("propagation"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} irnet.propagate --samples {input.samples:q} --maps {input.maps:q}"
        " --model {input.model:q} --masks {output.masks:q} --config {params.config:q}"
        " > {log:q} 2>&1"
