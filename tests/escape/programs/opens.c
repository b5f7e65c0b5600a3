/* Opens each argument, `r:PATH` for reading a byte, `w:PATH` for writing none, and tells. A `t:PATH` tells its file system. */
static void attack(int count, char **arguments) {
    for (int i = 0; i < count; i++) {
        const char *path = arguments[i] + 2;
        if (arguments[i][0] == 't') {
            struct statfs s;
            if (statfs(path, &s)) tell(arguments[i], -1); else text(arguments[i], "%lx", (unsigned long)s.f_type);
            continue;
        }
        int fd = open(path, (arguments[i][0] == 'w' ? O_WRONLY : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat s;
        char byte;
        if (fd < 0) tell(arguments[i], -1);
        else if (arguments[i][0] == 'w') text(arguments[i], "ok");
        else if (!fstat(fd, &s) && S_ISDIR(s.st_mode)) {
            DIR *d = fdopendir(fd);
            int entries = 0;
            for (struct dirent *e; d && (e = readdir(d));) if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) entries++;
            text(arguments[i], entries ? "ok" : "EMPTY");
        } else {
            long n = read(fd, &byte, 1);
            if (n == 0) text(arguments[i], "EMPTY"); else tell(arguments[i], n);
        }
    }
}
