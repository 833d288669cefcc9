/* What a machine registers for programs (binfmt_misc), or has loaded into each of them: it writes down what it is given.
 *
 *   interpreter            writes to /var/lib/given
 *
 * Built as a program and, with -DPRELOADED, as a library that runs before `main`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT "/var/lib/given"

static void copy(int from, int to, off_t at) {
    char bytes[4096];
    ssize_t length = pread(from, bytes, sizeof bytes, at);
    if (length > 0 && write(to, bytes, (size_t)length) < 0) return;
}

static void write_down(void) {
    int report = open(REPORT, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (report < 0) return;
    const char *files[] = {"/proc/self/cmdline", "/proc/self/environ", "/proc/self/status"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int file = open(files[i], O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        copy(file, report, 0);
        close(file);
    }
    for (int fd = 0; fd < 64; fd++) {
        struct stat found;
        char path[64], target[256];
        if (fd == report || fstat(fd, &found)) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = 0;
        dprintf(report, "\nfd %d %s\n", fd, target);
        if (S_ISREG(found.st_mode)) copy(fd, report, 0);
    }
    close(report);
}

#ifdef PRELOADED
__attribute__((constructor)) static void loaded(void) { write_down(); }
#else
int main(void) {
    write_down();
    return 0;
}
#endif
