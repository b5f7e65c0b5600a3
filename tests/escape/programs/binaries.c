/* N14: writing a program that others run. argv: watch SECONDS | keep PATH (a running program's /proc/PID/exe, as root) */
static int reopened;

static void keep(int fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_WRONLY | O_CLOEXEC);
    if (again >= 0) { reopened++; close(again); }
}

static void attack(int count, char **arguments) {
    if (count < 2) return;
    if (!strcmp(arguments[0], "keep")) {
        int fd = open(arguments[1], O_PATH | O_CLOEXEC), again = -1;
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        for (int i = 0; i < 400 && (again = open(path, O_WRONLY | O_CLOEXEC)) < 0 && errno == ETXTBSY; i++) usleep(10000);
        tell("overwrite", again < 0 ? -1 : write(again, "#!/bin/false\n", 13));
        return;
    }
    /* Each new process of the sandbox, from the moment it is cloned: is its program one that I may open? */
    long end = time(0) + atoi(arguments[1]), looks = 0, opened = 0, foreign = 0, kept[64], n = 0;
    tell("agent_exe", open("/proc/1/exe", O_PATH | O_CLOEXEC));
    while (time(0) < end) {
        DIR *proc = opendir("/proc");
        for (struct dirent *d; proc && (d = readdir(proc));) {
            if (atoi(d->d_name) <= 0) continue;
            char path[300], target[300];
            snprintf(path, sizeof path, "/proc/%s/exe", d->d_name);
            looks++;
            long length = readlink(path, target, sizeof target - 1);
            if (length < 0) continue;
            target[length] = 0;
            opened++;
            if (strstr(target, "memfd") || strstr(target, "workspace-")) foreign++;
            int fd = open(path, O_PATH | O_CLOEXEC);
            if (fd >= 0 && strncmp(target, "/workspace/", 11)) { if (n < 64) kept[n++] = fd; else { keep(kept[looks % 64]); close(kept[looks % 64]); kept[looks % 64] = fd; } }
            else if (fd >= 0) close(fd);
        }
        if (proc) closedir(proc);
    }
    for (long i = 0; i < n; i++) keep(kept[i]);
    text("watched", "%s", looks > 1000 && opened > 0 ? "ok" : "too little");
    text("foreign", "%ld", foreign);
    text("reopened", "%d", reopened);
    tell("self_exe", open("/proc/self/exe", O_WRONLY | O_CLOEXEC));
    tell("usr", open("/usr/bin/env", O_WRONLY | O_CLOEXEC));
    tell("usr_rename", rename("/usr/bin/env", "/usr/bin/env.old"));
    tell("usr_link", symlink("/bin/false", "/usr/bin/escape-link"));
}
