"""The guards of ``deploy/`` before real policy servers that are restarted, killed and frozen."""
