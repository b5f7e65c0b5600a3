/* N03: makes every call that must be refused, with arguments that do no harm where it is not. */
struct call { const char *name; long number, a, b, c, d, e; };

static char path[] = "/nonexistent";
static char zeros[4096];

static void attack(int count, char **arguments) {
    (void)count, (void)arguments;
    long z = (long)zeros, p = (long)path, here = getpid();
    struct call calls[] = {
        {"bpf", SYS_bpf, 0, z, 48}, {"perf_event_open", SYS_perf_event_open, z, 0, -1, -1}, {"userfaultfd", SYS_userfaultfd, 0},
        {"userfaultfd_user_mode", SYS_userfaultfd, 1}, {"io_uring_setup", SYS_io_uring_setup, 4, z},
        {"io_uring_enter", SYS_io_uring_enter, -1}, {"io_uring_register", SYS_io_uring_register, -1},
        {"open_by_handle_at", SYS_open_by_handle_at, -100, z}, {"kexec_load", SYS_kexec_load, 0, 0, 0, -1},
        {"kexec_file_load", SYS_kexec_file_load, -1, -1, 0, 0, -1}, {"init_module", SYS_init_module, z, 0, p},
        {"finit_module", SYS_finit_module, -1, p}, {"delete_module", SYS_delete_module, p},
        {"add_key", SYS_add_key, (long)"user", (long)"escape", (long)"x", 1, -2},
        {"request_key", SYS_request_key, (long)"user", (long)"escape", 0, 0}, {"keyctl", SYS_keyctl, 0, -3, 0},
        {"quotactl", SYS_quotactl, -1, p}, {"quotactl_fd", SYS_quotactl_fd, -1}, {"swapon", SYS_swapon, p}, {"swapoff", SYS_swapoff, p},
        {"acct", SYS_acct, p}, {"reboot", SYS_reboot, 1, 2, 3}, {"clock_settime", SYS_clock_settime, 99, z},
        {"settimeofday", SYS_settimeofday, 1, 1}, {"adjtimex", SYS_adjtimex, z}, {"clock_adjtime", SYS_clock_adjtime, 0, z},
        {"syslog", SYS_syslog, 99}, {"syslog_size", SYS_syslog, 10}, {"fanotify_init", SYS_fanotify_init, 0x200, 0},
        {"fanotify_mark", SYS_fanotify_mark, -1}, {"pidfd_getfd", SYS_pidfd_getfd, syscall(SYS_pidfd_open, here, 0), 0, 0},
        {"process_vm_readv", SYS_process_vm_readv, here, z, 0, z}, {"process_vm_writev", SYS_process_vm_writev, here, z, 0, z},
        {"process_madvise", SYS_process_madvise, -1}, {"kcmp", SYS_kcmp, here, here, 1, 0},
        {"move_pages", SYS_move_pages, here, 0, 0, 0, 0}, {"migrate_pages", SYS_migrate_pages, here, 0, 0, 0},
        {"seccomp_listener", SYS_seccomp, 1, 8, z}, {"memfd_secret", SYS_memfd_secret, 0}, {"cachestat", 451, -1},
        {"lookup_dcookie", SYS_lookup_dcookie}, {"vhangup", SYS_vhangup}, {"personality_no_randomize", SYS_personality, 0x40000},
        {"personality_read_implies_exec", SYS_personality, 0x400000}, {"personality_high_half", SYS_personality, 0x100000008},
        {"sethostname", SYS_sethostname, p, -1}, {"setdomainname", SYS_setdomainname, p, -1}, {"chroot", SYS_chroot, p},
        {"sched_setattr", SYS_sched_setattr, 0, z, 0}, {"sched_fifo", SYS_sched_setscheduler, 0, 1, (long)"\1\0\0\0"}, {"unknown_600", 600},
        {"unknown_1023", 1023},
#ifdef __x86_64__
        {"iopl", SYS_iopl, 3}, {"ioperm", SYS_ioperm, 0x80, 1, 1}, {"modify_ldt", SYS_modify_ldt, 0, z, 64},
#endif
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct call *c = &calls[i];
        tell(c->name, syscall(c->number, c->a, c->b, c->c, c->d, c->e));
    }
    struct rlimit core = {0, 0};
    text("core_limit", "%d %d", setrlimit(RLIMIT_CORE, &core), getrlimit(RLIMIT_CORE, &core) || core.rlim_cur != 1 || core.rlim_max != 1);
    tell("personality", syscall(SYS_personality, 0));
    tell("personality_query", syscall(SYS_personality, 0xffffffff));
    /* A refusal that the C library lives with. */
    pid_t child = fork();
    if (child == 0) _exit(7);
    int status = 0;
    waitpid(child, &status, 0);
    text("fork", "%d", WEXITSTATUS(status));
}
