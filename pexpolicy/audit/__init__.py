"""The audit: one JSON line for each call that was answered, written before the answer leaves.

``Audit`` makes the lines and ``open_audit`` opens the place where they go. Behind it a ``Journal``
numbers and chains them (``seal``), writes them to a file or a stream, and keeps those that cannot
be written in a spool and in memory until they can. The commands read them again (``reading``,
``verify``).
"""
