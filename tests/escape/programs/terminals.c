/* T17: what a program can do to terminals: to the one it stands on (stdin), and to those of others in its sandbox. */

static void requests(const char *whose, int terminal) {
    static const struct { const char *name; unsigned long request; } all[] = {{"TIOCSTI", 0x5412}, {"TIOCLINUX", 0x541c}, {"TIOCCONS", 0x541d}, {"TIOCSETD", 0x5423}};
    char data[16] = "\006", step[64];
    int discipline = 21; /* n_gsm: a module */
    for (int high = 0; high < 2; high++)
        for (unsigned i = 0; i < 4; i++) {
            snprintf(step, sizeof step, "%s_%s%s", whose, all[i].name, high ? "_high" : "");
            tell(step, syscall(SYS_ioctl, terminal, all[i].request | (high ? 1UL << 32 : 0), i == 3 ? (void *)&discipline : data));
        }
}

static void attack(int count, char **arguments) {
    text("leads_session", "%s", getsid(0) == getpid() || getsid(0) == getppid() ? "yes" : "no");
    tell("tty", open("/dev/tty", O_RDWR | O_CLOEXEC));
    if (isatty(0)) requests("own", 0);
    if (count > 0 && !strcmp(arguments[0], "own")) return; /* on a host the others are not ours to try */
    int seen = 0;
    char own[64] = "", path[64];
    if (isatty(0)) ttyname_r(0, own, sizeof own);
    DIR *pts = opendir("/dev/pts");
    for (struct dirent *d; pts && (d = readdir(pts));) {
        if (d->d_name[0] < '0' || d->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/dev/pts/%s", d->d_name);
        if (!strcmp(path, own)) continue;
        seen++;
        int other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        tell("other_open", other);
        if (other < 0) continue;
        requests("other", other);
        tell("other_steal", ioctl(other, TIOCSCTTY, 1));
        pid_t group = getpgrp();
        tell("other_foreground", ioctl(other, TIOCSPGRP, &group));
        tell("other_hangup", ioctl(other, 0x5437 /* TIOCVHANGUP */));
        if (fork() == 0) {
            setsid();
            tell("other_take", ioctl(other, TIOCSCTTY, 0));
            tell("other_take_by_force", ioctl(other, TIOCSCTTY, 1));
            _exit(0);
        }
        wait(NULL);
    }
    text("others", "%d", seen);
}
