//! Which calls are allowed whatever their arguments? Each group says why; the numbers are x86_64's and aarch64's.
//!
//! Not here, hence refused: `mount umount2 fsopen fsconfig fsmount fspick open_tree move_mount mount_setattr
//! pivot_root chroot` and `unshare setns` (the root and the namespaces stay what they are) · `bpf perf_event_open
//! userfaultfd io_uring_* fanotify_*` (where most kernel bugs of the last years were found) · `process_vm_*
//! process_madvise pidfd_getfd kcmp move_pages migrate_pages` (other processes' memory and files; gdb needs none) ·
//! `add_key request_key keyctl` (keyrings know no namespace) · `open_by_handle_at` · modules, kexec, swap, quota,
//! accounting, clocks, log, host name, `reboot iopl ioperm` · `modify_ldt memfd_secret cachestat lookup_dcookie
//! vhangup file_setattr statmount listmount sched_setattr` (its policy lies in memory, where a filter can't look).

use super::Call;

macro_rules! number {
    (-) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}
macro_rules! call {
    ($name:ident $x86_64:tt $aarch64:tt) => {
        Call { name: stringify!($name), x86_64: number!($x86_64), aarch64: number!($aarch64) }
    };
}
macro_rules! allowed {
    ($($why:literal: $($name:ident $x86_64:tt $aarch64:tt),*;)*) => {
        &[$($(call!($name $x86_64 $aarch64)),*),*]
    };
}
pub(super) use {call, number};

/// A dash: this architecture has no such call.
#[rustfmt::skip]
pub(super) const ALLOWED: &[Call] = allowed! {
    "files by descriptor: what was opened by the rules of paths":
        read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69,
        pwritev 296 70, preadv2 327 286, pwritev2 328 287, lseek 8 62, close 3 57, close_range 436 436,
        dup 32 23, dup2 33 -, dup3 292 24, fcntl 72 25, flock 73 32, fsync 74 82, fdatasync 75 83,
        sync_file_range 277 84, syncfs 306 267, ftruncate 77 46, fallocate 285 47, fadvise64 221 223,
        readahead 187 213, copy_file_range 326 285, sendfile 40 71, splice 275 76, tee 276 77, vmsplice 278 75,
        fstat 5 80, fstatfs 138 44, getdents 78 -, getdents64 217 61, fchmod 91 52, fchown 93 55, fchdir 81 50;
    "files by path: mounts, ids and modes decide; nodes of devices are refused by the kernel":
        open 2 -, openat 257 56, openat2 437 437, creat 85 -, access 21 -, faccessat 269 48, faccessat2 439 439,
        stat 4 -, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, truncate 76 45, rename 82 -,
        renameat 264 38, renameat2 316 276, mkdir 83 -, mkdirat 258 34, rmdir 84 -, link 86 -, linkat 265 37,
        unlink 87 -, unlinkat 263 35, symlink 88 -, symlinkat 266 36, readlink 89 -, readlinkat 267 78,
        chmod 90 -, fchmodat 268 53, fchmodat2 452 452, chown 92 -, lchown 94 -, fchownat 260 54, umask 95 166,
        utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, mknod 133 -, mknodat 259 33, getcwd 79 17,
        chdir 80 49, name_to_handle_at 303 264, sync 162 81;
    "extended attributes: user.* only, the kernel wants privilege for the rest":
        setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463, getxattr 191 8, lgetxattr 192 9,
        fgetxattr 193 10, getxattrat 464 464, listxattr 194 11, llistxattr 195 12, flistxattr 196 13,
        listxattrat 465 465, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16,
        removexattrat 466 466, file_getattr 468 468;
    "waiting for descriptors, notifications, timers":
        poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20,
        epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd 284 -,
        eventfd2 290 19, signalfd 282 -, signalfd4 289 74, timerfd_create 283 85, timerfd_settime 286 86,
        timerfd_gettime 287 87, inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27,
        inotify_rm_watch 255 28, pipe 22 -, pipe2 293 59, io_setup 206 0, io_destroy 207 1, io_submit 209 2,
        io_cancel 210 3, io_getevents 208 4, io_pgetevents 333 292;
    "sockets once made: families are decided at socket()":
        bind 49 200, listen 50 201, accept 43 202, accept4 288 242, connect 42 203, shutdown 48 210,
        getsockname 51 204, getpeername 52 205, getsockopt 55 209, sendto 44 206, sendmsg 46 211,
        sendmmsg 307 269, recvfrom 45 207, recvmsg 47 212, recvmmsg 299 243;
    "memory of the caller's own":
        brk 12 214, mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233, msync 26 227,
        mincore 27 232, mlock 149 228, mlock2 325 284, mlockall 151 230, munlock 150 229, munlockall 152 231,
        pkey_alloc 330 289, pkey_free 331 290, pkey_mprotect 329 288, mseal 462 462, memfd_create 319 279,
        membarrier 324 283, map_shadow_stack 453 453, get_mempolicy 239 236, set_mempolicy 238 237,
        set_mempolicy_home_node 450 450, mbind 237 235;
    "processes and threads; clone has a rule, clone3 none to have":
        fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, exit 60 93, exit_group 231 94, wait4 61 260,
        waitid 247 95, set_tid_address 218 96, set_robust_list 273 99, get_robust_list 274 100, rseq 334 293,
        arch_prctl 158 -, restart_syscall 219 128, gettid 186 178, getpid 39 172, getppid 110 173,
        getpgid 121 155, setpgid 109 154, getpgrp 111 -, getsid 124 156, setsid 112 157, futex 202 98,
        futex_waitv 449 449, futex_wait 455 455, futex_wake 454 454, futex_requeue 456 456;
    "signals: the kernel checks whose":
        kill 62 129, tkill 200 130, tgkill 234 131, pidfd_open 434 434, pidfd_send_signal 424 424,
        process_mrelease 448 448, pause 34 -, alarm 37 -, sigaltstack 131 132, rt_sigaction 13 134,
        rt_sigprocmask 14 135, rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigqueueinfo 129 138,
        rt_tgsigqueueinfo 297 240, rt_sigsuspend 130 133, rt_sigreturn 15 139;
    "debugging one's own children: gdb, strace; the kernel refuses other users and the agent":
        ptrace 101 117;
    "the kernel's own return from a probed function; elsewhere it ends the caller":
        uretprobe 335 -, uprobe 336 -;
    "ids: inside the inner user namespace, no_new_privs holds":
        getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150,
        getgroups 115 158, setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143,
        setresuid 117 147, setresgid 119 149, setgroups 116 159, setfsuid 122 151, setfsgid 123 152,
        capget 125 90, capset 126 91;
    "giving rights up":
        landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446;
    "System V and POSIX queues: the ipc namespace is the sandbox's own":
        shmget 29 194, shmat 30 196, shmctl 31 195, shmdt 67 197, semget 64 190, semop 65 193,
        semtimedop 220 192, semctl 66 191, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187,
        mq_open 240 180, mq_unlink 241 181, mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184,
        mq_getsetattr 245 185;
    "clocks read, never set":
        clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101,
        gettimeofday 96 169, time 201 -, times 100 153, getitimer 36 102, setitimer 38 103,
        timer_create 222 107, timer_settime 223 110, timer_gettime 224 108, timer_getoverrun 225 109,
        timer_delete 226 111;
    "facts of the machine that libraries ask for":
        uname 63 160, sysinfo 99 179, getcpu 309 168, getrandom 318 278, getrusage 98 165, getrlimit 97 163,
        getpriority 140 141, ioprio_get 252 31;
    "scheduling within what the kernel gives to anybody":
        sched_yield 24 124, sched_getaffinity 204 123, sched_getscheduler 145 120, sched_getparam 143 121,
        sched_getattr 315 275, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
        sched_rr_get_interval 148 127;
};
