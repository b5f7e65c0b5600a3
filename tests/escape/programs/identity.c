/* N01, N02: who am I, and with which rights? */
static void attack(int count, char **arguments) {
    (void)count, (void)arguments;
    static const char *files[] = {"uid_map", "gid_map", "setgroups"};
    for (int i = 0; i < 3; i++) {
        char path[64], buffer[2000];
        snprintf(path, sizeof path, "/proc/self/%s", files[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        long n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);
        if (n < 0) { tell(files[i], -1); continue; }
        buffer[n] = 0;
        text(files[i], "=%s", buffer);
    }
    FILE *status = fopen("/proc/self/status", "re");
    char line[1000];
    while (status && fgets(line, sizeof line, status)) {
        char *value = strchr(line, ':');
        if (!value) continue;
        *value++ = 0;
        static const char *wanted[] = {"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"};
        for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) if (!strcmp(line, wanted[i])) text(wanted[i], "=%s", value);
    }
    text("real_is_effective", "%d", getuid() == geteuid() && getgid() == getegid());
    char pattern[300];
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
    long n = fd < 0 ? -1 : read(fd, pattern, sizeof pattern);
    fd = open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC);
    tell("core_pattern", fd);
    if (fd >= 0 && n > 0) tell("core_pattern_written", write(fd, pattern, n)); /* its own content */
}
