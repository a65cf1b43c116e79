/* A library for LD_PRELOAD that moves the clocks of a process while it runs. It adds seconds to the system's clocks. The
   file CLOCK_FILE holds these seconds as two 64-bit numbers: one for the wall clock, one for the monotonic clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t none[2];
static volatile const int64_t *moved = none;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) moved = memory;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += moved[0];
    if (result == 0 && clock == CLOCK_MONOTONIC) now->tv_sec += moved[1];
    return result;
}
