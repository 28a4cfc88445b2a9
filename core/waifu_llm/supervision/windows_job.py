"""Windows: a job object whose end, with its last handle, ends every process in it. Untested (no Windows here)."""

import sys
from typing import Final

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _KILL_ON_JOB_CLOSE: Final = 0x2000
    _EXTENDED_LIMITS: Final = 9
    _SET_QUOTA_AND_TERMINATE: Final = 0x0100 | 0x0001
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("per_process_user_time", wintypes.LARGE_INTEGER),
            ("per_job_user_time", wintypes.LARGE_INTEGER),
            ("limit_flags", wintypes.DWORD),
            ("minimum_working_set", ctypes.c_size_t),
            ("maximum_working_set", ctypes.c_size_t),
            ("active_process_limit", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("priority_class", wintypes.DWORD),
            ("scheduling_class", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("basic", _BasicLimits),
            ("io", ctypes.c_ulonglong * 6),
            ("process_memory", ctypes.c_size_t),
            ("job_memory", ctypes.c_size_t),
            ("peak_process_memory", ctypes.c_size_t),
            ("peak_job_memory", ctypes.c_size_t),
        )

    class Job:
        """The job of one run; its handle closes with the core, whatever ends it."""

        def __init__(self) -> None:
            _kernel32.CreateJobObjectW.restype = wintypes.HANDLE
            _kernel32.OpenProcess.restype = wintypes.HANDLE
            self._handle = wintypes.HANDLE(_kernel32.CreateJobObjectW(None, None))
            limits = _ExtendedLimits()
            limits.basic.limit_flags = _KILL_ON_JOB_CLOSE
            done = _kernel32.SetInformationJobObject(
                self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
            )
            if not done:
                raise ctypes.WinError(ctypes.get_last_error())

        def add(self, pid: int) -> None:
            """Put a process, and with it all its later children, into the job."""
            process = wintypes.HANDLE(_kernel32.OpenProcess(_SET_QUOTA_AND_TERMINATE, False, pid))
            _kernel32.AssignProcessToJobObject(self._handle, process)
            _kernel32.CloseHandle(process)
