/* What every attack program begins with: one line a step, `NONCE step result`, result `ok`, an errno's name or text. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *nonce;

__attribute__((unused)) static const char *outcome(long result) { return result >= 0 ? "ok" : strerrorname_np(errno) ? strerrorname_np(errno) : "E?"; }

__attribute__((unused)) static void text(const char *step, const char *format, ...) {
    char line[4096];
    int n = snprintf(line, sizeof line, "%s %s ", nonce, step);
    va_list args;
    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof line - 2) n = sizeof line - 2;
    for (int i = 0; i < n; i++) if (line[i] == '\n') line[i] = '|';
    line[n++] = '\n';
    if (write(1, line, n) != n) _exit(99); /* one write a line: children print too */
}

__attribute__((unused)) static void tell(const char *step, long result) { text(step, "%s", outcome(result)); }

static void attack(int count, char **arguments);

int main(int count, char **arguments) {
    if (count < 2) return 2;
    nonce = arguments[1];
    attack(count - 2, arguments + 2);
    text("end", "ok");
    return 0;
}
