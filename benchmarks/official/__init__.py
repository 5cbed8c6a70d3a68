"""The official code, imported at run time from a folder of clones, beside ours: see benchmarks.peers."""
