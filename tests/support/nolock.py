"""A library that takes the locks from a process, as a network disk without a lock service does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

int flock(int file, int operation) { errno = ENOLCK; return -1; }

#define WITHOUT_LOCKS(name)                                                     \
    int name(int file, int command, ...) {                                      \
        static int (*real)(int, int, ...);                                      \
        va_list rest;                                                           \
        va_start(rest, command);                                                \
        void *argument = va_arg(rest, void *);                                  \
        va_end(rest);                                                           \
        if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) { \
            errno = ENOLCK;                                                     \
            return -1;                                                          \
        }                                                                       \
        if (!real) real = dlsym(RTLD_NEXT, #name);                              \
        return real(file, command, argument);                                   \
    }
WITHOUT_LOCKS(fcntl)
WITHOUT_LOCKS(fcntl64)
"""
COMPILERS = ("cc", "gcc", "clang", "g++")


def build(folder: Path) -> Path | None:
    """Compile the library, for LD_PRELOAD; None without a compiler."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    source, library = folder / "nolock.c", folder / "nolock.so"
    source.write_text(
        f'#ifdef __cplusplus\nextern "C" {{\n#endif\n{SOURCE}\n#ifdef __cplusplus\n}}\n#endif\n'
    )
    language = ["-x", "c"]
    subprocess.run([compiler, *language, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
