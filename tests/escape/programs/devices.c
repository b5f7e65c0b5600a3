/* N21: what devices are there, and can more be made? argv: a directory to make them in. */
/* Opens, tells, closes; gives what was told. */
static int try_open(const char *step, const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    tell(step, fd);
    if (fd >= 0) close(fd);
    return fd;
}

static void attack(int count, char **arguments) {
    if (count < 1) return;
    char path[600], step[80], list[2000] = "";
    DIR *dev = opendir("/dev");
    for (struct dirent *d; dev && (d = readdir(dev));) if (d->d_name[0] != '.') snprintf(list + strlen(list), sizeof list - strlen(list), " %s", d->d_name);
    text("dev", "=%s", list);
    static const struct { const char *name; int mode, major, minor; } nodes[] = {
        {"mem", S_IFCHR, 1, 1}, {"kmsg", S_IFCHR, 1, 11}, {"null", S_IFCHR, 1, 3}, {"disk", S_IFBLK, 254, 0}, {"sda", S_IFBLK, 8, 0}, {"loop", S_IFBLK, 7, 0}, {"fuse", S_IFCHR, 10, 229},
    };
    for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        snprintf(path, sizeof path, "%s/node-%s", arguments[0], nodes[i].name);
        snprintf(step, sizeof step, "mknod_%s", nodes[i].name);
        tell(step, mknod(path, nodes[i].mode | 0666, makedev(nodes[i].major, nodes[i].minor)));
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/whiteout", arguments[0]);
    tell("mknod_whiteout", mknod(path, S_IFCHR | 0666, 0));
    tell("open_whiteout", open(path, O_RDWR | O_CLOEXEC));
    unlink(path);
    static const char *files[] = {"kmsg", "mem", "port", "vsock", "kvm", "fuse", "net/tun", "loop-control", "userfaultfd", "console", "tty0", "tty1", "ttyS0", "vda", "sda", "mapper/control", "snd", "dri/card0", "hwrng", "rtc0", "cpu_dma_latency", "vhost-net", "uinput", "autofs", "btrfs-control"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "/dev/%s", files[i]);
        snprintf(step, sizeof step, "open_%s", files[i]);
        for (char *c = step; *c; c++) if (*c == '/') *c = '_';
        try_open(step, path, O_RDWR);
    }
    int terminals = 0;
    DIR *pts = opendir("/dev/pts");
    for (struct dirent *d; pts && (d = readdir(pts));) if (d->d_name[0] >= '0' && d->d_name[0] <= '9') terminals++;
    text("terminals", "%d", terminals);
    int master = open("/dev/ptmx", O_RDWR | O_CLOEXEC | O_NOCTTY), number = -1, zero = 0;
    tell("own_terminal", master);
    if (master >= 0 && !ioctl(master, TIOCGPTN, &number) && !ioctl(master, TIOCSPTLCK, &zero)) {
        text("own_number", "%d", number);
        int slave = ioctl(master, 0x5441 /* TIOCGPTPEER */, O_RDWR | O_NOCTTY | O_CLOEXEC), discipline = 21;
        tell("own_peer", slave);
        setsid();
        ioctl(slave, TIOCSCTTY, 0);
        static const struct { const char *name; unsigned long request; } requests[] = {{"TIOCSTI", 0x5412}, {"TIOCLINUX", 0x541c}, {"TIOCCONS", 0x541d}, {"TIOCSETD", 0x5423}};
        char data[16] = "x";
        for (int high = 0; high < 2; high++)
            for (unsigned i = 0; i < 4; i++) {
                snprintf(step, sizeof step, "%s%s", requests[i].name, high ? "_high" : "");
                tell(step, syscall(SYS_ioctl, slave, requests[i].request | (high ? 1UL << 32 : 0), i == 3 ? (void *)&discipline : data));
            }
    }
}
