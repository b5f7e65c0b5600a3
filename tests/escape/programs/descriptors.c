/* N09: which descriptors did I get? Look before anything is opened. */
static void attack(int count, char **arguments) {
    (void)count, (void)arguments;
    int found[1024], n = 0;
    for (int fd = 0; fd < 1024; fd++) if (fcntl(fd, F_GETFD) >= 0) found[n++] = fd;
    for (int i = 0; i < n; i++) {
        char path[64], target[300] = "?", step[32];
        struct stat s;
        snprintf(path, sizeof path, "/proc/self/fd/%d", found[i]);
        long length = readlink(path, target, sizeof target - 1);
        if (length >= 0) target[length] = 0;
        snprintf(step, sizeof step, "fd%d", found[i]);
        const char *kind = fstat(found[i], &s) ? "?" : S_ISFIFO(s.st_mode) ? "pipe" : S_ISCHR(s.st_mode) ? "character" : S_ISDIR(s.st_mode) ? "DIRECTORY" : S_ISSOCK(s.st_mode) ? "socket" : "file";
        text(step, "%s %s", kind, target);
    }
    text("count", "%d", n);
}
