/* Lets a User Mode Linux kernel that knows registers of 2.7 KB run on a processor that has more (AMX: 10.7 KB).
 *
 * It reads a task's registers into its own, smaller buffer, which Linux cuts to size, and writes them back from there, which
 * Linux refuses with EFAULT: it wants all of them. The rest is registers that nothing in the guest has touched: AMX must be
 * asked for by arch_prctl(2), which the guest's kernel does not know. So they are written back as zeros, marked unused.
 * Loaded by LD_PRELOAD before the guest's kernel; x86_64, cc -shared -fPIC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { BYTES_MAX = 64 << 10, HEAD_AT = 512, HEAD_BYTES = 64 };
static const uint64_t TILES = 3ull << 17; /* Intel SDM 1, 13.1: XTILECFG and XTILEDATA */

typedef long ptrace_fn(enum __ptrace_request, ...);

long ptrace(enum __ptrace_request request, ...) {
  static ptrace_fn *real;
  /* One thread of the guest's kernel runs at a time, and none is interrupted by another that writes registers. */
  static char all[BYTES_MAX];
  static size_t all_bytes;
  va_list list;
  va_start(list, request);
  pid_t pid = va_arg(list, pid_t);
  void *address = va_arg(list, void *);
  struct iovec *registers = va_arg(list, struct iovec *);
  va_end(list);
  if (!real) real = (ptrace_fn *)dlsym(RTLD_NEXT, "ptrace");
  if (request != PTRACE_SETREGSET || (uintptr_t)address != NT_X86_XSTATE) return real(request, pid, address, registers);
  if (!all_bytes) {
    struct iovec whole = {all, sizeof all};
    if (real(PTRACE_GETREGSET, pid, address, &whole) < 0) return -1;
    all_bytes = whole.iov_len;
    memset(all, 0, sizeof all);
  }
  if (registers->iov_len >= all_bytes || registers->iov_len < HEAD_AT + HEAD_BYTES)
    return real(request, pid, address, registers);
  memcpy(all, registers->iov_base, registers->iov_len);
  uint64_t used;
  memcpy(&used, all + HEAD_AT, sizeof used);
  used &= ~TILES;
  memcpy(all + HEAD_AT, &used, sizeof used);
  struct iovec whole = {all, all_bytes};
  return real(request, pid, address, &whole);
}
