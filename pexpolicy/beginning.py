"""The beginning of the package.

While it is imported the collector rests: nothing of it is garbage, and looking through it again and
again is a thirtieth of what a start takes.
"""

import gc

_COLLECTS = gc.isenabled()
gc.disable()


def over() -> None:
    """Let the collector go on, where it did before.

    What was imported lives as long as the program: it would be looked through at once, and in vain.
    """
    if _COLLECTS:
        gc.freeze()
        gc.enable()
