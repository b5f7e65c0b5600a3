/* N04: the same kernel by its other doors: i386's `int 0x80`, x32's bit 30. argv: a directory. */
#include <elf.h>

static long int80(long n, long b, long c, long d) {
    long result;
    /* The old entry clears r8 to r11 on some kernels. */
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(n), "b"(b), "c"(c), "d"(d) : "memory", "r8", "r9", "r10", "r11");
    if (result < 0 && result > -4096) { errno = -result; return -1; }
    return result;
}

/* The kernel without i386 calls ends the caller by SIGSEGV; the filter must answer. */
static void in_child(const char *step, long n, long b, long c, long d) {
    pid_t child = fork();
    if (child == 0) { tell(step, int80(n, b, c, d)); _exit(0); }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) text(step, "SIG%d", WTERMSIG(status));
}

static void attack(int count, char **arguments) {
    if (count < 1) return;
    char *low = mmap((void *)0x10000000, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED) { tell("low_memory", -1); return; }
    snprintf(low, 4096, "%s/made-by-int80", arguments[0]);
    in_child("i386_mkdir", 39, (long)low, 0755, 0);
    in_child("i386_getpid", 20, 0, 0, 0);
    in_child("i386_mount", 21, 0, 0, 0);
    in_child("i386_ptrace", 26, 0, 0, 0);
    in_child("i386_keyctl", 288, 0, -3, 0);
    in_child("i386_socketcall", 102, 1, (long)low, 0);
    struct stat s;
    tell("i386_effect", stat(low, &s));
    rmdir(low);
    snprintf(low, 4096, "%s/made-by-x32", arguments[0]);
    tell("x32_mkdir", syscall(83 | 0x40000000, low, 0755));
    tell("x32_getpid", syscall(39 | 0x40000000));
    tell("x32_ioctl", syscall(514 | 0x40000000, 0, 0x5412, low));
    tell("x32_effect", stat(low, &s));
    rmdir(low);
    tell("no_number", syscall(-1));
}
