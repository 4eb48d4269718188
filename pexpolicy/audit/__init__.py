"""The audit log: one JSON line for each call, written before its reply is sent.

``AuditLog`` makes the lines. A ``Journal``
numbers and chains them (``hash_chain``), writes them to a file or a stream, and stores those that
cannot be written in a spool and in memory until they can. ``reader`` and ``verify`` read them.
"""
