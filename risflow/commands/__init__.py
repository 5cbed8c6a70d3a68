"""The verbs of the command, one file each; what takes long to import is imported when needed."""
