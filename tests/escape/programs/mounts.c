/* N06: every way to change what is mounted. argv: a directory that may be mounted on. */
static void attack(int count, char **arguments) {
    if (count < 1) return;
    const char *at = arguments[0];
    static const char *types[] = {"tmpfs", "proc", "sysfs", "overlay", "fuse", "binfmt_misc", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "bpf"};
    char step[64], options[600];
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        snprintf(step, sizeof step, "mount_%s", types[i]);
        snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", at, at, at);
        long result = mount("none", at, types[i], 0, strcmp(types[i], "overlay") ? 0 : options);
        tell(step, result);
        if (result == 0) umount2(at, MNT_DETACH);
    }
    long bound = mount(at, at, 0, MS_BIND, 0);
    tell("bind", bound);
    if (bound == 0) umount2(at, MNT_DETACH);
    tell("bind_root", mount("/", at, 0, MS_BIND | MS_REC, 0));
    umount2(at, MNT_DETACH);
    tell("remount_usr", mount(0, "/usr", 0, MS_REMOUNT | MS_BIND, 0));
    tell("remount_proc", mount(0, "/proc", 0, MS_REMOUNT, 0));
    tell("private", mount(0, at, 0, MS_PRIVATE, 0));
    tell("umount_proc_sys", umount2("/proc/sys", MNT_DETACH));
    tell("umount_workspace", umount2("/workspace", MNT_DETACH));
    tell("umount_tmp", umount2("/tmp", 0));
    int fs = syscall(SYS_fsopen, "tmpfs", 0);
    tell("fsopen", fs);
    tell("fsconfig", syscall(SYS_fsconfig, fs, 6, 0, 0, 0));
    tell("fsmount", syscall(SYS_fsmount, fs, 0, 0));
    tell("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
    tell("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    tell("open_tree_plain", syscall(SYS_open_tree, AT_FDCWD, "/", 0));
    tell("open_tree_attr", syscall(467, AT_FDCWD, "/", 1, 0, 0));
    tell("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, at, 0));
    char attributes[32] = {0};
    tell("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/usr", 0, attributes, 32));
    tell("pivot_root", syscall(SYS_pivot_root, at, at));
    tell("statmount", syscall(457, attributes, options, sizeof options, 0));
}
