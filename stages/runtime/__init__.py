"""How a step runs: command line, device, processes, errors."""
