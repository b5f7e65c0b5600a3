/* N07: out of the root by `..`. argv: chroot DIR PATH_OF_CANARY | rename DIR CANARY | weak DIR CANARY */
static void climb(int fd, const char *prefix, const char *canary) {
    struct stat root, here, last = {0};
    if (stat("/", &root)) { tell("root", -1); return; }
    char step[64];
    const char *stopped = "depth";
    for (int i = 0; i < 64; i++) {
        int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (up < 0) { stopped = outcome(-1); break; }
        fd = up;
        if (fstat(fd, &here)) break;
        if (here.st_ino == last.st_ino && here.st_dev == last.st_dev) { stopped = "top"; break; }
        last = here;
    }
    snprintf(step, sizeof step, "%s_stopped", prefix);
    text(step, "%s", stopped);
    snprintf(step, sizeof step, "%s_at_root", prefix);
    text(step, "%s", last.st_ino == root.st_ino && last.st_dev == root.st_dev ? "same" : "other");
    snprintf(step, sizeof step, "%s_canary", prefix);
    int found = openat(fd, canary[0] == '/' ? canary + 1 : canary, O_RDONLY | O_CLOEXEC);
    tell(step, found);
}

static void attack(int count, char **arguments) {
    if (count < 3) return;
    const char *mode = arguments[0], *dir = arguments[1], *canary = arguments[2];
    char inner[600];
    snprintf(inner, sizeof inner, "%s/a/b/c", dir);
    if (!strcmp(mode, "weak")) { /* a root made by chroot alone, as root */
        if (chroot(dir) || chdir("/")) { tell("weak", -1); return; }
        mkdir("/again", 0755);
        int kept = open("/", O_PATH | O_DIRECTORY);
        tell("chroot", chroot("/again"));
        climb(kept, "chroot", canary);
        return;
    }
    char a[600];
    snprintf(a, sizeof a, "%s/a", dir);
    mkdir(a, 0777);
    snprintf(a, sizeof a, "%s/a/b", dir);
    mkdir(a, 0777);
    tell("deep", mkdir(inner, 0777));
    int deep = open(inner, O_PATH | O_DIRECTORY | O_CLOEXEC);
    tell("hold", deep);
    if (!strcmp(mode, "chroot")) {
        int kept = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        tell("chroot", chroot(inner));
        climb(kept, "chroot", canary);
        climb(deep, "plain", canary);
        return;
    }
    struct stat s;
    snprintf(a, sizeof a, "%s/a", dir);
    text("waiting", "ok");
    int waited = 0;
    while (stat(a, &s) == 0 && waited++ < 2000) usleep(5000); /* until the host has moved it away */
    text("moved", "%s", waited < 2000 ? "ok" : "never");
    climb(deep, "moved", canary);
}
