"""The lock on an open file by which one process keeps others from writing a run.

It lies on the open file and not on its path, as filelock's does: a run's directory is renamed into place while its lock
is held, the lock file holds the number of the process that has it (filelock empties the file when it looks), and a
reader without the right to write must see that a run is taken. The system lets go when the process dies.
"""

from __future__ import annotations

import errno
import os
import sys


def take(file: int, shared: bool = False) -> None:
    """Locks an open file, alone or together with others that share it, until it is closed.

    Raises BlockingIOError when another process has it, and OSError where the system has no such locks.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 20, os.SEEK_SET)  # past the text, which others may then read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOSYS, "this system cannot lock a file") from None
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
