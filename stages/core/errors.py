"""The one error that is shown without a traceback."""


class InputError(ValueError):
    """Something the user gave is wrong: says where, what was found and what is needed."""
