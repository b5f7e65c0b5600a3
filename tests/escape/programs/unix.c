/* N18: which Unix sockets can be reached? argv: abstract names as `@NAME` and paths. */
static long reach(const char *name, int type) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(name) < sizeof to.sun_path ? strlen(name) : sizeof to.sun_path - 1;
    memcpy(to.sun_path, name, length);
    if (name[0] == '@') to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    long result = connect(fd, (void *)&to, offsetof(struct sockaddr_un, sun_path) + length);
    int e = errno;
    close(fd);
    errno = e;
    return result;
}

static void attack(int count, char **arguments) {
    for (int i = 0; i < count; i++) tell(arguments[i], reach(arguments[i], SOCK_STREAM));
    FILE *table = fopen("/proc/net/unix", "re");
    char line[600], name[300];
    int named = 0, reached = 0;
    while (table && fgets(line, sizeof line, table)) {
        if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %299s", name) != 1) continue;
        named++;
        if (!reach(name, SOCK_STREAM) || !reach(name, SOCK_SEQPACKET) || !reach(name, SOCK_DGRAM)) reached++;
    }
    text("table", "%s named %d reached %d", table ? "read" : "none", named, reached);
}
