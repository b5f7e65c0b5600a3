/* What a hostile process does to a tree while the server works on it from the host side. */

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* On a busy machine the two seldom run at the same time. */
#define NAIVE_MS_MAX 60000

/* swap MS A B: exchanges two names until the time is over. */
static long swap(long ms, const char *a, const char *b) {
    long swaps = 0;
    for (long long end = now_ms() + ms; now_ms() < end;)
        for (int i = 0; i < 64; i++) swaps += renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
    return swaps;
}

/* A server that checks a path and then opens it by name, until it was led out: what beneath-only opens are held against. */
static void naive(const char *base, const char *outside) {
    char a[512], b[512], file[512], real[PATH_MAX], byte;
    snprintf(a, sizeof a, "%s/d", base);
    snprintf(b, sizeof b, "%s/l", base);
    snprintf(file, sizeof file, "%s/d/f", base);
    mkdir(a, 0755);
    int fd = open(file, O_CREAT | O_WRONLY, 0644);
    tell("naive_made", write(fd, "i", 1));
    close(fd);
    tell("naive_link", symlink(outside, b));
    pid_t swapper = fork();
    if (swapper == 0) {
        pin(1);
        swap(NAIVE_MS_MAX, a, b);
        _exit(0);
    }
    pin(0);
    long tries = 0, escapes = 0;
    for (long long end = now_ms() + NAIVE_MS_MAX; !escapes && now_ms() < end; tries++) {
        if (!realpath(file, real) || strncmp(real, base, strlen(base))) continue;
        fd = open(file, O_RDONLY);
        if (fd >= 0 && read(fd, &byte, 1) == 1 && byte == 'c') escapes++;
        close(fd);
    }
    kill(swapper, SIGKILL);
    waitpid(swapper, 0, 0);
    text("naive_tries", "%ld", tries);
    text("naive_escapes", "%s", escapes ? "ok" : "none");
}

/* deep N NAME: a chain of directories that no path can name. */
static void deep(long depth, const char *name) {
    int at = open(".", O_PATH | O_DIRECTORY);
    mkdirat(at, name, 0755);
    at = openat(at, name, O_RDONLY | O_DIRECTORY);
    long made = 0;
    for (; made < depth; made++) {
        if (mkdirat(at, "a", 0755)) break;
        int next = openat(at, "a", O_RDONLY | O_DIRECTORY);
        close(openat(next, "file", O_CREAT | O_WRONLY, 0));
        if (made % 100 == 7) fchmod(at, 0);
        close(at);
        at = next;
    }
    text("deep", "%ld", made);
}

/* fill MS DIR: makes entries in a directory that is being removed, from a descriptor that outlives its name. */
static void fill(long ms, const char *dir) {
    int at = open(dir, O_PATH | O_DIRECTORY);
    long made = 0;
    char name[64];
    for (long long end = now_ms() + ms; now_ms() < end && made < 200000; made++) {
        snprintf(name, sizeof name, "fill-%ld", made);
        int fd = openat(at, name, O_CREAT | O_WRONLY, 0644);
        if (fd < 0) break;
        close(fd);
    }
    text("fill", "%s", made ? "ok" : "none");
}

static void attack(int count, char **arguments) {
    const char *what = arguments[0];
    long number = count > 1 ? atol(arguments[1]) : 0;
    if (!strcmp(what, "swap")) text("swap", "%s", swap(number, arguments[2], arguments[3]) > 100 ? "ok" : "slow");
    if (!strcmp(what, "naive")) naive(arguments[1], arguments[2]);
    if (!strcmp(what, "deep")) deep(number, arguments[2]);
    if (!strcmp(what, "fill")) fill(number, arguments[2]);
}
