# From response maps to pseudo masks.

LABELS = f"{WORK}/labels/{{labels}}"
AFFINITY = f"{WORK}/affinity/{{affinity}}"
PSEUDO_MASKS = f"{WORK}/pseudo_masks/{{pseudo_masks}}"


rule make_labels:
    input:
        samples=made_from("samples"),
        maps=made_from("maps", "votes"),
    output:
        labels=f"{LABELS}/labels-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{LABELS}/make_labels-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{LABELS}/make_labels-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: train_first
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("labels"),
        crf=lambda w: chosen_execution(w).crf,
    shell:
        "python -m stages.runtime.launch {resources.gpu} irnet.make_labels"
        " --samples {input.samples:q} --maps {input.maps:q} --labels {output.labels:q}"
        " --config {params.config:q} --workers {threads} --crf {params.crf} > {log:q} 2>&1"


rule train_affinity:
    input:
        samples=made_from("samples"),
        labels=lambda w: shards(product_of(w).source("labels"), "train"),
        weights=files_read,
    output:
        model=f"{AFFINITY}/model.safetensors",
        losses=f"{AFFINITY}/losses.json",
    log:
        f"{AFFINITY}/train_affinity.log",
    benchmark:
        f"{AFFINITY}/train_affinity.tsv"
    priority: 1
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("affinity"),
        execution=execution,
        name=run_name,
    shell:
        "python -m stages.runtime.launch {resources.gpu} irnet.train_affinity"
        " --samples {input.samples:q} --labels {input.labels:q} --model {output.model:q}"
        " --config {params.config:q}"
        " --execution {params.execution:q}"
        " --name {params.name} > {log:q} 2>&1"


rule propagate:
    input:
        samples=made_from("samples"),
        maps=made_from("maps", "votes"),
        model=made_from("affinity"),
    output:
        masks=f"{PSEUDO_MASKS}/masks-{{split}}-{{shard}}-of-{{shards}}.parquet",
    log:
        f"{PSEUDO_MASKS}/propagate-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{PSEUDO_MASKS}/propagate-{{split}}-{{shard}}-of-{{shards}}.tsv"
    priority: train_first
    threads: asks("threads", 8)
    resources:
        gpu=asks("gpu", 1),
        mem_mb=asks("mem_mb", 16000),
        runtime=asks("runtime", 1440),
    params:
        config=recipe("propagation"),
    shell:
        "python -m stages.runtime.launch {resources.gpu} irnet.propagate"
        " --samples {input.samples:q} --maps {input.maps:q} --model {input.model:q}"
        " --masks {output.masks:q} --config {params.config:q} --workers {threads}"
        " > {log:q} 2>&1"
