"""A filter on system calls: what no notebook needs and what has opened sandboxes is refused, not merely useless.

The filter is a classic BPF program of 8 bytes an instruction, built here and handed to prctl(2). It cannot be taken
off, and every process that is started under it has it. Numbers of calls are those of <asm/unistd.h>.
"""

import ctypes
import errno
import os
import platform
import struct

# name: (x86_64, aarch64); None where the architecture has no such call
REFUSED = {
    "keys that outlive the box": {
        "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    },
    "other processes": {
        "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
        "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
        "perf_event_open": (298, 241), "migrate_pages": (256, 238), "move_pages": (279, 239),
    },
    "namespaces and mounts": {
        "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
        "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430),
        "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
        "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
        "sethostname": (170, 161), "setdomainname": (171, 162), "ustat": (136, None), "sysfs": (139, None),
    },
    "files by handle, and watches on a whole mount": {
        "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "lookup_dcookie": (212, 18),
        "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    },
    "the kernel itself": {
        "bpf": (321, 280), "userfaultfd": (323, 282), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
        "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
        "create_module": (174, None), "query_module": (178, None), "get_kernel_syms": (177, None),
        "reboot": (169, 142), "acct": (163, 89),
        "syslog": (103, 116), "vhangup": (153, 58), "settimeofday": (164, 170), "clock_settime": (227, 112),
        "clock_adjtime": (305, 266), "adjtimex": (159, 171), "nfsservctl": (180, 42), "iopl": (172, None),
        "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None), "_sysctl": (156, None),
    },
}  # fmt: skip
# These do not exist, as on an older or smaller kernel: libraries then take another way.
ABSENT = {
    "asynchronous calls past this filter": {
        "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    },
    "processes made by a structure that a filter cannot read": {"clone3": (435, 435)},
    "memory that no process maps and no folder shows": {
        "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
        "shmctl": (31, 195), "shmdt": (67, 197), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
        "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
        "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183),
        "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    },
}  # fmt: skip
NEWEST = 452  # calls that came later are unknown here, and so they are absent
CLONE, SOCKET, IOCTL = (56, 220), (41, 198), (16, 29)
NEW_NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink: not vsock, packet, alg, which no network namespace holds
TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into somebody's terminal

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, ARGUMENT_0, ARGUMENT_1 = 0, 4, 16, 24  # where they stand in struct seccomp_data, low halves
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
X32 = 0x40000000
PR_SET_SECCOMP, MODE_FILTER = 22, 2


def program(machine: str) -> bytes:
    """The filter for "x86_64" or "aarch64"; KeyError for another one."""
    column, arch = ARCHITECTURES[machine]
    code: list[tuple[int, int, int, int]] = []

    def add(op: int, value: int, yes: int = 0, no: int = 0) -> None:
        code.append((op, yes, no, value))

    def answer(number: int) -> None:
        add(RETURN, ERRNO | number)

    def unless(op: int, value: int, number: int) -> None:
        """Answer with an error where the test holds; go on where it does not."""
        add(op, value, 0, 1)
        answer(number)

    add(LOAD, ARCH)
    add(JUMP_EQUAL, arch, 1, 0)
    add(RETURN, KILL)  # a call in the numbers of another architecture
    add(LOAD, NUMBER)
    unless(JUMP_GREATER_EQUAL, NEWEST + 1, errno.ENOSYS)  # x32 too, whose numbers begin at 0x40000000
    for table, number in ((REFUSED, errno.EPERM), (ABSENT, errno.ENOSYS)):
        for group in table.values():
            for numbers in group.values():
                if numbers[column] is not None:
                    unless(JUMP_EQUAL, numbers[column], number)
    add(JUMP_EQUAL, CLONE[column], 0, 4)
    add(LOAD, ARGUMENT_0)
    unless(JUMP_SET, NEW_NAMESPACES, errno.EPERM)
    add(RETURN, ALLOW)
    add(JUMP_EQUAL, SOCKET[column], 0, len(FAMILIES) + 3)
    add(LOAD, ARGUMENT_0)
    for position, family in enumerate(FAMILIES):
        add(JUMP_EQUAL, family, len(FAMILIES) - position, 0)
    answer(errno.EAFNOSUPPORT)
    add(RETURN, ALLOW)
    add(JUMP_EQUAL, IOCTL[column], 0, 2 * len(TERMINAL) + 1)
    add(LOAD, ARGUMENT_1)
    for request in TERMINAL:
        unless(JUMP_EQUAL, request, errno.EPERM)
    add(RETURN, ALLOW)
    return b"".join(struct.pack("=HBBI", *line) for line in code)


class _Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def machine() -> str:
    """The architecture that this process runs as."""
    return platform.machine() if ctypes.sizeof(ctypes.c_void_p) == 8 else f"{platform.machine()} with 32 bits"


def unavailable() -> str:
    """Why there is no filter here; empty where there is one."""
    if machine() not in ARCHITECTURES:
        return f"no filter is written for {machine()}"
    status = "/proc/self/status"
    try:
        with open(status) as file:
            known = any(line.startswith("Seccomp:") for line in file)
    except OSError as error:
        return f"{status}: {error.strerror}"
    return "" if known else "this Linux is built without seccomp"


def apply() -> None:
    """Put this process, and all that it will start, under the filter; needs no_new_privs. OSError if Linux refuses."""
    data = program(machine())
    buffer = ctypes.create_string_buffer(data, len(data))
    line = _Program(len(data) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(line), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_SECCOMP): {os.strerror(error)}")
