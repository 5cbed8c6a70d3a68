# Segmentation masks from text alone: the whole workflow.
#
#   snakemake --cores 32 --resources gpu=4
#
# runs the demo. A target for every experiment and every data set of configs/ has its name
# (snakemake --list-rules shows them). Rules with a priority are the longest chain: they go first.
# Elsewhere: --config configs=my/configs results=my/results
# Other options: --config set="segmentor.epochs=5 stage1.batch_size=24"


report: "workflow/report/workflow.rst"


# A job is its step itself, not a shell that waits for it: signals reach the step.
shell.prefix("set -euo pipefail; exec ")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tris.smk"
include: "workflow/rules/irnet.smk"
include: "workflow/rules/assign.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/takeaway.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


# Here, because an included file cannot choose what a run without a target makes.
rule demo:
    default_target: True
    input:
        page_files(configs.settings.demo),
    localrule: True


if workflow.is_main_process:
    check_targets()
