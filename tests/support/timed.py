"""Run a command, and print the seconds and the CPU minutes that it took, those of all processes that it left behind included.

python tests/support/timed.py <command> [argument ...]
"""

import ctypes
import os
import resource
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36  # of Linux' prctl: processes whose parent has ended become ours

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.monotonic()
    try:
        code = subprocess.run(sys.argv[1:], check=False).returncode
    except KeyboardInterrupt:
        code = 130
    seconds = time.monotonic() - start
    deadline = time.monotonic() + 10  # what ends by then is counted, what does not is left alone
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.1)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{seconds:.0f} s, {(used.ru_utime + used.ru_stime) / 60:.2f} CPU minutes")
    sys.exit(code)
