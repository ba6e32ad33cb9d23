#!/usr/bin/env python3
"""Runs a command and prints one JSON line: its exit code, its wall time in seconds, its peak memory in bytes.

    process.py COMMAND ARGUMENT …

What the command prints on standard output is dropped. The peak is the kernel's count of resident memory; a process begins
with that of the one it was made from, which is this small one.
"""

import json
import os
import sys
import time

start = time.perf_counter()
pid = os.posix_spawnp(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "peakBytes": usage.ru_maxrss * unit}))
