"""Following line sources: files through every kind of rotation, pipes, journald.

Bytes in, complete lines out, with positions that survive a restart. Knows nothing of what a line says.

``lines`` splits bytes, ``trail`` remembers what was read, ``disk`` is the file system, ``file`` follows one file,
``chain`` the files that one path had in turn, ``siblings`` finds where they went, ``watch`` all files of some
patterns; ``stdin`` and ``journald`` are the other sources; ``state`` keeps positions; ``follower`` joins them.
"""
