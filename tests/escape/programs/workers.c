/* What a process of the same user does to those that work on files inside: hunts them, stops them, says what it likes in their
   place. argv: MS kill|stop|garble */

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int is_worker(int pid, const char *mark) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n <= 0) return 0;
    for (long i = 0; i < n - 1; i++) if (!line[i]) line[i] = ' ';
    line[n] = 0;
    return strstr(line, mark) != NULL;
}

/* Writes over what it is about to say, until it ends. */
static long garble(int pid) {
    long garbled = 0;
    int status;
    if (ptrace(PTRACE_INTERRUPT, pid, 0, 0)) return 0;
    while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
        struct { uint8_t op, pad[3]; uint32_t arch; uint64_t ip, sp, nr, args[6]; } info = {0};
        long told = ptrace(0x420e /* PTRACE_GET_SYSCALL_INFO */, pid, sizeof info, &info);
        if (told > 0 && info.op == 1 && info.nr == SYS_write && info.args[0] == 1) {
            unsigned long word = 0x4141414141414141UL + garbled;
            for (uint64_t at = 0; at + sizeof word <= info.args[2]; at += sizeof word)
                ptrace(PTRACE_POKEDATA, pid, info.args[1] + at, word);
            garbled++;
        }
        if (ptrace(PTRACE_SYSCALL, pid, 0, 0)) break;
    }
    return garbled;
}

/* Meets those that begin: a process is only open to others until it has said that it is not. */
static void hunt(long ms, const char *how, const char *mark) {
    long met = 0, seized = 0, garbled = 0;
    int last = getpid();
    for (long long end = now_ms() + ms; now_ms() < end;) {
        for (int next = 1; next <= 6; next++) {
            int pid = last + next;
            if (kill(pid, 0)) continue;
            if (!strcmp(how, "garble")) {
                if (ptrace(PTRACE_SEIZE, pid, 0, 1 /* PTRACE_O_TRACESYSGOOD */) == 0) {
                    seized++;
                    if (is_worker(pid, mark)) garbled += garble(pid);
                    ptrace(PTRACE_DETACH, pid, 0, 0);
                    kill(pid, SIGKILL);
                    last = pid;
                    met++;
                    break;
                }
                if (!is_worker(pid, mark)) continue;
            } else {
                if (!is_worker(pid, mark)) continue;
                kill(pid, !strcmp(how, "stop") ? SIGSTOP : SIGKILL);
                met++;
            }
            last = pid;
        }
        /* Whoever was born meanwhile: the last one that is there. */
        FILE *f = fopen("/proc/loadavg", "r");
        int newest = 0;
        if (f && fscanf(f, "%*s %*s %*s %*s %d", &newest) == 1 && newest > last + 6) last = newest - 3;
        if (f) fclose(f);
    }
    text("met", "%ld", met);
    text("seized", "%ld", seized);
    text("garbled", "%ld", garbled);
}

static void attack(int count, char **arguments) {
    if (count == 2) hunt(atol(arguments[0]), arguments[1], "/proc/self/exe files");
}
