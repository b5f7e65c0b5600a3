/* N22: control groups. argv: a directory that may be mounted on. Whatever it makes it removes. */
static int try_dir(const char *base, char *made) {
    snprintf(made, 2600, "%s/escape-probe-%d", base, getpid());
    return mkdir(made, 0755);
}

static void attack(int count, char **arguments) {
    if (count < 1) return;
    static const char *types[] = {"cgroup", "cgroup2"};
    for (int i = 0; i < 2; i++) tell(i ? "mount_cgroup2" : "mount_cgroup", mount("none", arguments[0], types[i], 0, i ? 0 : "none,name=escape"));
    umount2(arguments[0], MNT_DETACH);
    umount2(arguments[0], MNT_DETACH);
    FILE *table = fopen("/proc/self/mountinfo", "re");
    char line[4000], at[2000], made[2600], path[2600];
    int found = 0, changed = 0;
    while (table && fgets(line, sizeof line, table)) {
        char *kind = strstr(line, " - ");
        if (!kind || strncmp(kind + 3, "cgroup", 6) || sscanf(line, "%*s %*s %*s %*s %1999s", at) != 1) continue;
        found++;
        if (try_dir(at, made) == 0) { changed++; rmdir(made); }
        static const char *files[] = {"cgroup.procs", "tasks", "release_agent", "memory.max", "memory.limit_in_bytes", "pids.max", "cgroup.kill", "cgroup.freeze", "devices.allow"};
        for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
            snprintf(path, sizeof path, "%s/%s", at, files[i]);
            int fd = open(path, O_WRONLY | O_CLOEXEC);
            if (fd >= 0) { changed++; close(fd); }
        }
    }
    text("hierarchies", "%d", found);
    text("changed", "%d", changed);
    tell("sys", access("/sys/fs/cgroup/cgroup.procs", F_OK) && access("/sys/fs/cgroup/memory", F_OK) ? -1 : 0);
    char own[2000] = "";
    int fd = open("/proc/self/cgroup", O_RDONLY);
    long n = read(fd, own, sizeof own - 1);
    text("own", "=%.*s", n > 0 ? (int)n : 0, own);
}
