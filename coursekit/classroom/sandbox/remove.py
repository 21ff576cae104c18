"""Remove a folder, whatever it holds: never raise, never follow a link, change nothing outside it.

A folder is held by its descriptor. What is in a folder of its own inside it is first moved up into the top folder, so
that neither the depth of what is removed nor the length of a path ever matters.
"""

import contextlib
import os
import stat

PASSES = 1_000_000  # a bound for a folder into which somebody goes on writing


def remove(path: str | os.PathLike) -> bool:
    """Remove the folder `path` with all that is in it; whether nothing of it is left."""
    try:
        about = os.lstat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    if not stat.S_ISDIR(about.st_mode):
        return _tried(os.unlink, path)
    top = _open(path)
    if top is None:
        return _tried(os.rmdir, path)
    try:
        with contextlib.suppress(OSError):
            _empty(top)
    finally:
        os.close(top)
    return _tried(os.rmdir, path)


def _empty(top: int) -> None:
    stuck: set[str] = set()
    number = 0
    for _ in range(PASSES):
        names = [name for name in os.listdir(top) if name not in stuck]
        if not names:
            return
        for name in names:
            if _tried(os.unlink, name, dir_fd=top) or _tried(os.rmdir, name, dir_fd=top):
                continue
            inner = _open(name, dir_fd=top)
            if inner is None:
                stuck.add(name)
                continue
            try:
                for below in os.listdir(inner):
                    if _tried(os.unlink, below, dir_fd=inner) or _tried(os.rmdir, below, dir_fd=inner):
                        continue
                    _own(below, inner)  # its ".." changes: it has to be writable to be moved
                    while _there(moved := f".up-{number}", top):
                        number += 1
                    _tried(os.rename, below, moved, src_dir_fd=inner, dst_dir_fd=top)
            except OSError:
                pass
            finally:
                os.close(inner)
            if not _tried(os.rmdir, name, dir_fd=top):
                stuck.add(name)


def _there(name: str, folder: int) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _own(name: str, folder: int) -> None:
    fd = _open(name, dir_fd=folder)
    if fd is not None:
        os.close(fd)


def _open(path, *, dir_fd: int | None = None) -> int | None:
    """A descriptor of a folder, made readable and writable for its owner first; None for anything else."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except PermissionError:
        fd = None
    except (OSError, ValueError):
        return None
    try:
        if fd is not None:
            with contextlib.suppress(OSError):
                os.fchmod(fd, 0o700)
            return fd
        held = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            os.chmod(f"/proc/self/fd/{held}", 0o700)  # the very folder that is held, whatever its name is by now
            return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(held)
    except OSError:
        return None


def _tried(function, *args, **kwargs) -> bool:
    try:
        function(*args, **kwargs)
    except (OSError, ValueError):
        return False
    return True
