"""The official code, from a folder of clones, beside ours: see benchmarks.peers."""
