/* N25. argv: forks SECONDS | daemons SECONDS | memory | threads SECONDS | short COUNT */
static volatile int spin = 1;
static void *busy(void *unused) { while (spin) ; return unused; }

static void attack(int count, char **arguments) {
    if (count < 1) return;
    long amount = count > 1 ? atol(arguments[1]) : 0, end = time(0) + amount;
    if (!strcmp(arguments[0], "memory")) {
        text("began", "ok");
        for (long i = 0; i < 4096; i++) { char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) break; memset(p, 1, 1 << 20); }
        text("survived", "ok");
    } else if (!strcmp(arguments[0], "threads")) {
        pthread_t id;
        int made = 0;
        while (made < 64 && !pthread_create(&id, 0, busy, 0)) made++;
        text("threads", "%d", made);
        while (time(0) < end) sleep(1);
    } else if (!strcmp(arguments[0], "short")) {
        long born = 0, refused = 0;
        for (long i = 0; i < amount; i++) {
            pid_t child = vfork();
            if (child == 0) _exit(0);
            if (child < 0) refused++; else born++;
            if (child > 0) waitpid(child, 0, 0);
        }
        text("born", "%ld", born);
    } else {
        int daemons = !strcmp(arguments[0], "daemons"), told = 0;
        while (time(0) < end) {
            pid_t child = fork();
            if (child < 0) { if (!told++) tell("limit", -1); usleep(1000); continue; }
            if (child == 0) {
                nonce = "child"; /* only the first says what happened */
                if (daemons) { setsid(); if (fork() > 0) _exit(0); close(0); close(1); close(2); }
                told = 1;
            }
        }
        if (!strcmp(nonce, "child")) { if (daemons) for (;;) pause(); _exit(0); }
    }
}
