/* N16: which processes are there beyond my own? argv: a pid of the host, and of the neighbour on the host. */
static void attack(int count, char **arguments) {
    char step[64], path[64];
    for (int i = 0; i < count; i++) {
        int pid = atoi(arguments[i]);
        snprintf(step, sizeof step, "kill_%s", arguments[i]);
        tell(step, kill(pid, 0));
        snprintf(step, sizeof step, "pidfd_%s", arguments[i]);
        tell(step, syscall(SYS_pidfd_open, pid, 0));
        snprintf(step, sizeof step, "ptrace_%s", arguments[i]);
        tell(step, ptrace(PTRACE_SEIZE, pid, 0, 0));
        snprintf(step, sizeof step, "proc_%s", arguments[i]);
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        tell(step, access(path, F_OK));
    }
    int listed = 0, hidden = 0;
    for (int pid = 1; pid <= 65536; pid++) {
        int alive = !(kill(pid, 0) && errno == ESRCH);
        if (!alive) continue;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        if (access(path, F_OK) == 0) listed++; else hidden++;
    }
    text("alive", "%s hidden %d many %d", listed ? "some" : "none", hidden, listed > 32);
    char load[100] = "";
    int fd = open("/proc/loadavg", O_RDONLY);
    if (read(fd, load, sizeof load - 1) > 0) text("last_pid", "%d", atoi(strrchr(load, ' ') + 1));
}
