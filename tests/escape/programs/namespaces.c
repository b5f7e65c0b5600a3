/* N05: new and other namespaces by every call that gives them. */
static int nothing(void *unused) { (void)unused; return 0; }
static void *thread(void *unused) { return unused; }

static void attack(int count, char **arguments) {
    (void)count, (void)arguments;
    static const struct { const char *name; unsigned long flag; } kinds[] = {
        {"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC},
        {"uts", CLONE_NEWUTS}, {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80}, {"user_and_mnt", CLONE_NEWUSER | CLONE_NEWNS},
    };
    static char stack[1 << 16];
    char step[64];
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(step, sizeof step, "unshare_%s", kinds[i].name);
        pid_t child = fork(); /* what succeeds must not change the next step */
        if (child == 0) { tell(step, unshare(kinds[i].flag)); _exit(0); }
        waitpid(child, 0, 0);
        if (kinds[i].flag == 0x80) continue; /* in clone these bits are the signal */
        snprintf(step, sizeof step, "clone_%s", kinds[i].name);
        child = clone(nothing, stack + sizeof stack, kinds[i].flag | SIGCHLD, 0);
        tell(step, child);
        if (child > 0) waitpid(child, 0, 0);
    }
    unsigned long args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    for (int i = 0; i < 2; i++, args[0] = 0) {
        long child = syscall(SYS_clone3, args, 88);
        if (child == 0) _exit(0);
        tell(i ? "clone3" : "clone3_user", child);
        if (child > 0) waitpid(child, 0, 0);
    }
    DIR *proc = opendir("/proc");
    int tried = 0, entered = 0, other = 0;
    for (struct dirent *d; proc && (d = readdir(proc));) {
        if (atoi(d->d_name) <= 0) continue;
        static const char *names[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};
        for (int i = 0; i < 8; i++) {
            char path[300];
            snprintf(path, sizeof path, "/proc/%s/ns/%s", d->d_name, names[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) continue;
            pid_t child = fork();
            if (child == 0) _exit(setns(fd, 0) == 0 ? 0 : errno);
            int status;
            waitpid(child, &status, 0);
            close(fd);
            tried++;
            if (WEXITSTATUS(status) == 0) entered++;
            else if (WEXITSTATUS(status) != EPERM) other++;
        }
    }
    text("setns", "%s entered %d other %d", tried ? "tried" : "none", entered, other);
    tell("setns_pidfd", setns(syscall(SYS_pidfd_open, getppid() ? getppid() : 1, 0), CLONE_NEWNET));
    int deep = 0;
    pid_t child = fork();
    if (child == 0) {
        while (deep < 50 && unshare(CLONE_NEWUSER) == 0) deep++;
        text("depth", "%d", deep);
        _exit(0);
    }
    waitpid(child, 0, 0);
    pthread_t id;
    void *joined = 0;
    int made = pthread_create(&id, 0, thread, (void *)7L);
    if (!made) pthread_join(id, &joined);
    text("thread", "%ld", (long)joined);
}
