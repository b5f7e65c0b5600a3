/* N08, N11, N12, N13: what PID 1 lets its commands do. argv: links CANARY | memory | steer | secrets */
static void links(const char *canary) {
    static const char *names[] = {"root", "cwd", "exe", "maps", "mem", "environ", "auxv", "stack", "pagemap", "syscall", "io", "fd", "fdinfo", "map_files", "ns/mnt", "timers"};
    char path[600], step[80];
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/proc/1/%s", names[i]);
        snprintf(step, sizeof step, "open_%s", names[i]);
        for (char *c = step; *c; c++) if (*c == '/') *c = '_';
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        char byte;
        if (fd < 0) tell(step, -1);
        else if (!strcmp(names[i], "fd") || !strcmp(names[i], "fdinfo") || !strcmp(names[i], "map_files")) {
            DIR *d = fdopendir(fd);
            int count = 0;
            for (struct dirent *e; (e = readdir(d));) if (e->d_name[0] != '.') count++;
            text(step, count ? "listed" : "EMPTY");
        } else if (!strcmp(names[i], "root") || !strcmp(names[i], "cwd") || !strcmp(names[i], "ns/mnt")) tell(step, fd);
        else { long n = read(fd, &byte, 1); if (n == 0) text(step, "EMPTY"); else tell(step, n); } /* some open and then give nothing */
    }
    int opened = 0, inside = 0;
    for (int n = 0; n < 64; n++) {
        snprintf(path, sizeof path, "/proc/1/fd/%d", n);
        if (open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) >= 0) opened++;
    }
    text("agent_fds", "%d", opened);
    struct stat root, s;
    stat("/", &root);
    int foreign = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *d; (d = readdir(proc));) {
        if (atoi(d->d_name) <= 0) continue;
        snprintf(path, sizeof path, "/proc/%s/root", d->d_name);
        if (stat(path, &s)) continue;
        if (s.st_ino == root.st_ino && s.st_dev == root.st_dev) inside++; else foreign++;
        snprintf(path, sizeof path, "/proc/%s/root/%s", d->d_name, canary);
        if (!access(path, F_OK)) foreign++;
        snprintf(path, sizeof path, "/proc/%s/cwd/../../../../../../../../%s", d->d_name, canary);
        if (!access(path, F_OK)) foreign++;
    }
    text("roots", "%s foreign %d", inside ? "seen" : "none", foreign);
    static const char *ways[] = {"/proc/self/root/usr/../..", "/proc/self/root", "/proc/thread-self/root/..", "/proc/self/cwd/../../../../..", "/dev/fd/../root"};
    int outside = 0;
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
        if (!stat(ways[i], &s) && (s.st_ino != root.st_ino || s.st_dev != root.st_dev)) outside++;
    int kept = open("/usr", O_PATH | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d/..", kept);
    if (!stat(path, &s) && (s.st_ino != root.st_ino || s.st_dev != root.st_dev)) outside++;
    text("own_ways", "%d", outside);
}

static void memory(void) {
    tell("ptrace_seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
    tell("ptrace_attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
    int fd = open("/proc/1/mem", O_RDWR | O_CLOEXEC);
    tell("mem", fd);
    char buffer[16];
    struct iovec local = {buffer, 16}, remote = {(void *)0x400000, 16};
    tell("vm_readv", process_vm_readv(1, &local, 1, &remote, 1, 0));
    tell("vm_writev", process_vm_writev(1, &local, 1, &remote, 1, 0));
    int pidfd = syscall(SYS_pidfd_open, 1, 0), taken = 0;
    for (int n = 0; n < 64; n++) if (syscall(SYS_pidfd_getfd, pidfd, n, 0) >= 0) taken++;
    text("getfd", "%d", taken);
    tell("kcmp", syscall(SYS_kcmp, 1, getpid(), 0, 0, 0));
}

static long put(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    long n = write(fd, value, strlen(value));
    int e = errno;
    close(fd);
    errno = e;
    return n;
}

static void steer(void) {
    char step[40];
    int sent = 0, refused = 0;
    for (int s = 1; s <= 64; s++) {
        if (s == SIGKILL || s == SIGSTOP) continue; /* told apart below */
        if (kill(1, s) == 0) sent++; else if (errno == EPERM) refused++;
    }
    text("signals", "sent %d refused %d", sent, refused);
    tell("kill", kill(1, SIGKILL));
    tell("stop", kill(1, SIGSTOP));
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    tell("pidfd_signal", syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0));
    siginfo_t info = {.si_code = -1};
    tell("sigqueue", syscall(SYS_rt_sigqueueinfo, 1, SIGTERM, &info));
    struct rlimit limit = {3, 3};
    tell("prlimit", prlimit(1, RLIMIT_NOFILE, &limit, 0));
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    tell("affinity", sched_setaffinity(1, sizeof one, &one));
    tell("priority", setpriority(PRIO_PROCESS, 1, 19));
    tell("ioprio", syscall(SYS_ioprio_set, 1, 1, (3 << 13) | 7));
    struct sched_param p = {0};
    tell("scheduler", sched_setscheduler(1, SCHED_IDLE, &p));
    static const struct { const char *file, *value; } files[] = {
        {"oom_score_adj", "1000"}, {"timerslack_ns", "1"}, {"clear_refs", "1"}, {"coredump_filter", "0xff"}, {"comm", "x"},
        {"autogroup", "19"}, {"setgroups", "deny"}, {"uid_map", "0 0 1"}, {"sched", "0"}, {"make-it-fail", "1"}, {"oom_adj", "15"},
    };
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char path[80];
        snprintf(path, sizeof path, "/proc/1/%s", files[i].file);
        snprintf(step, sizeof step, "write_%s", files[i].file);
        tell(step, put(path, files[i].value));
    }
}

static void read_out(const char *step, const char *path) {
    char buffer[3000];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    long n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);
    if (n < 0) { tell(step, -1); return; }
    buffer[n] = 0;
    for (long i = 0; i < n; i++) if (buffer[i] < ' ') buffer[i] = ' ';
    text(step, "=%s", buffer);
}

static void attack(int count, char **arguments) {
    if (count < 1) return;
    if (!strcmp(arguments[0], "links") && count > 1) links(arguments[1]);
    if (!strcmp(arguments[0], "memory")) memory();
    if (!strcmp(arguments[0], "steer")) steer();
    if (!strcmp(arguments[0], "all_signals")) tell("kill_all", kill(-1, SIGCONT));
    if (!strcmp(arguments[0], "secrets")) {
        read_out("environ", "/proc/1/environ");
        read_out("cmdline", "/proc/1/cmdline");
        read_out("auxv", "/proc/1/auxv");
    }
}
