/* Lies in wait, as root inside a machine, for processes that the host puts into it.
 *
 *   catcher REPORT [hold]
 *
 * It owns a cgroup of each name that sandbox might join, in every cgroup that it may write, and freezes and thaws them, so
 * that a process that arrives is stopped within its first instructions. It looks at each process that has no parent in
 * this process namespace, and at the descendants of these, by all that /proc shows to a process that may trace it.
 *
 * REPORT gets a line `CAUGHT …` for each that still has something of the host: an identity outside of the machine's, an
 * environment with the marker, a program, a mapping or a descriptor that is no file of the machine, or one that can be
 * attached to while it has any of these. REPORT.seen is the number of processes that arrived, so that a test can tell a
 * catcher that saw nothing wrong from one that slept.
 *
 * With `hold` the cgroups stay frozen, for verbs that must not wait for a machine.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARKER "HOSTMARK-"
#define TOP "/sys/fs/cgroup"
#define TRAPS 40
#define DESCRIPTORS 64
#define STEP_MICROSECONDS 60

static const char *const names[] = {".sandbox", "sandbox", "session", "sessions", "exec"};

static struct { int freezer, members; } traps[TRAPS];
static int trap_count;
static FILE *report;
static char seen_path[4096];
static long seen;

/* What is wrong with the process under inspection, as words. */
static char faults[1024];

static void fault(const char *format, ...) {
    size_t length = strlen(faults);
    va_list values;
    va_start(values, format);
    vsnprintf(faults + length, sizeof faults - length, format, values);
    va_end(values);
}

static void save_seen(void) {
    FILE *file = fopen(seen_path, "w");
    if (!file) return;
    fprintf(file, "%ld\n", seen);
    fclose(file);
}

static void set_trap(const char *above, const char *name) {
    char path[512];
    if (trap_count == TRAPS) return;
    snprintf(path, sizeof path, "%s/%s", above, name);
    /* an empty one that root of the host made is replaced by one of this machine's root */
    rmdir(path);
    mkdir(path, 0755);
    strcat(path, "/cgroup.freeze");
    int freezer = open(path, O_RDWR | O_CLOEXEC);
    strcpy(strrchr(path, '/'), "/cgroup.procs");
    int members = open(path, O_RDONLY | O_CLOEXEC);
    if (freezer < 0 || members < 0) return;
    traps[trap_count].freezer = freezer;
    traps[trap_count++].members = members;
}

static void set_traps_in(const char *above) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) set_trap(above, names[i]);
}

static void set_traps(void) {
    set_traps_in(TOP);
    DIR *top = opendir(TOP);
    for (struct dirent *entry; top && (entry = readdir(top));) {
        char path[512];
        int is_own = 0;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) is_own |= !strcmp(entry->d_name, names[i]);
        if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || is_own) continue;
        snprintf(path, sizeof path, TOP "/%s", entry->d_name);
        set_traps_in(path);
    }
    if (top) closedir(top);
}

static void freeze(int trap, int on) {
    if (pwrite(traps[trap].freezer, on ? "1" : "0", 1, 0) < 0 && errno == ENODEV) set_traps();
}

/* Returns a member of a trap that has a number here; *foreign is set where one has none, as it is still outside. */
static pid_t member(int trap, int *foreign) {
    char text[4096];
    ssize_t length = pread(traps[trap].members, text, sizeof text - 1, 0);
    pid_t found = 0;
    *foreign = 0;
    if (length <= 0) return 0;
    text[length] = 0;
    for (char *word = strtok(text, "\n"); word; word = strtok(NULL, "\n")) {
        if (atoi(word)) found = atoi(word);
        else *foreign = 1;
    }
    return found;
}

static void pause_for(long microseconds) {
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000L + (now.tv_nsec - begun.tv_nsec) / 1000 < microseconds);
}

static ssize_t read_of(pid_t pid, const char *name, char *into, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t length = read(fd, into, size - 1);
    close(fd);
    if (length >= 0) into[length] = 0;
    return length;
}

/* Returns the parent of a process; -1 where it is gone. */
static pid_t parent_of(pid_t pid) {
    char text[512], state;
    int parent;
    if (read_of(pid, "stat", text, sizeof text) <= 0) return -1;
    char *after = strrchr(text, ')');
    return after && sscanf(after + 1, " %c %d", &state, &parent) == 2 ? parent : -1;
}

/* Returns whether a process came from outside, or descends from one that did. */
static int has_arrived(pid_t pid) {
    if (pid <= 1) return 0;
    for (int i = 0; i < 64 && pid > 1; i++) {
        pid = parent_of(pid);
        if (pid == 0) return 1;
    }
    return 0;
}

/* Returns whether an open file is what its text in /proc names in this machine; the text goes into `target`. */
static int is_of_machine(int file, char *target, size_t size) {
    char path[64];
    struct stat there, here;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    ssize_t length = readlink(path, target, size - 1);
    if (length <= 0) return 1;
    target[length] = 0;
    /* pipes, sockets and anonymous inodes have no path to compare */
    if (target[0] != '/' && !strstr(target, "memfd:")) return 1;
    if (fstat(file, &there) < 0) return 1;
    /* one that is removed has no name left: the host's and the machine's cannot be told from each other */
    if (strstr(target, " (deleted)") && !strstr(target, "memfd:")) return 1;
    if (stat(target, &here) == 0) {
        if (here.st_dev == there.st_dev && here.st_ino == there.st_ino) return 1;
        if (S_ISCHR(here.st_mode) && S_ISCHR(there.st_mode) && here.st_rdev == there.st_rdev) return 1;
    }
    /* a null device is a null device, whatever tmpfs its node is in */
    return S_ISCHR(there.st_mode) && major(there.st_rdev) == 1;
}

/* Each file is opened once and compared by that handle: the process may execute another program between two looks at its link.
 *
 * Its directory of descriptors belongs to the identity that it has, and may be closed to this machine's root; the system call
 * asks for the right to trace alone. */
static void inspect_files(pid_t pid) {
    char path[64], target[4096];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    int program = open(path, O_PATH | O_CLOEXEC);
    if (program >= 0) {
        if (!is_of_machine(program, target, sizeof target)) fault(" exe %s;", target);
        close(program);
    }
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process < 0) return;
    for (int number = 0; number < DESCRIPTORS; number++) {
        int copy = (int)syscall(SYS_pidfd_getfd, process, number, 0);
        if (copy < 0) continue;
        if (!is_of_machine(copy, target, sizeof target)) fault(" descriptor %d of %s;", number, target);
        close(copy);
    }
    close(process);
}

/* Reads its environment from its memory, whose place /proc/PID/stat shows to a process that may trace it. */
static void inspect_environment(pid_t pid) {
    static char text[1 << 16];
    char fields[1024];
    unsigned long from = 0, to = 0;
    if (read_of(pid, "stat", fields, sizeof fields) <= 0) return;
    char *at = strrchr(fields, ')');
    /* what follows the name begins with the third field */
    for (int field = 3; at && field < 52; field++) {
        at = strchr(at + 1, ' ');
        if (at && field == 50) from = strtoul(at, NULL, 10);
        if (at && field == 51) to = strtoul(at, NULL, 10);
    }
    if (from >= to) return;
    size_t size = to - from < sizeof text ? to - from : sizeof text;
    struct iovec here = {text, size}, there = {(void *)from, size};
    ssize_t length = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (length > 0 && memmem(text, (size_t)length, MARKER, strlen(MARKER))) fault(" the host's environment;");
}

static void inspect_identity(pid_t pid) {
    char text[4096];
    unsigned uid, effective;
    if (read_of(pid, "status", text, sizeof text) <= 0) return;
    char *line = strstr(text, "\nUid:"), *capabilities = strstr(text, "\nCapEff:");
    /* what has no number in this user namespace is shown as the overflow id */
    if (line && sscanf(line, "\nUid: %u %u", &uid, &effective) == 2 && (uid == 65534 || effective == 65534))
        fault(" uid outside of the machine, %.24s;", capabilities ? capabilities + 1 : "?");
}

/* Returns whether a process can be attached to; a child tries it, whose end lets go. */
static int is_attachable(pid_t pid) {
    pid_t child = fork();
    if (child == 0) _exit(ptrace(PTRACE_SEIZE, pid, 0, 0) ? 1 : 0);
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static void inspect(pid_t pid) {
    static pid_t last;
    char name[64] = "";
    if (!has_arrived(pid)) return;
    if (pid != last) {
        seen++;
        last = pid;
    }
    faults[0] = 0;
    inspect_identity(pid);
    inspect_environment(pid);
    inspect_files(pid);
    if (!faults[0]) return;
    read_of(pid, "comm", name, sizeof name);
    name[strcspn(name, "\n")] = 0;
    for (char *at = faults; *at; at++) if ((unsigned char)*at < ' ') *at = ' ';
    fprintf(report, "CAUGHT %d %s:%s%s\n", pid, name, faults, is_attachable(pid) ? " it can be attached to" : "");
    fflush(report);
}

/* Looks at the processes that came since the last call; the kernel's word for the newest is in /proc/loadavg. */
static void scan(int loadavg) {
    static pid_t newest;
    char text[128];
    ssize_t length = pread(loadavg, text, sizeof text - 1, 0);
    if (length <= 0) return;
    text[length] = 0;
    char *word = strrchr(text, ' ');
    pid_t last = word ? atoi(word) : 0;
    if (newest < last - 200) newest = last - 200;
    while (newest < last) inspect(++newest);
}

static void watch_trap(int trap, int hold) {
    int foreign;
    pid_t pid = member(trap, &foreign);
    if (!pid && !foreign) return;
    if (pid) inspect(pid);
    if (hold) return;
    /* a step on, and stopped again */
    freeze(trap, 0);
    pause_for(STEP_MICROSECONDS);
    freeze(trap, 1);
}

/* Whatever is in a trap goes on when the catcher ends. */
static void thaw(int signal) {
    for (int trap = 0; trap < trap_count; trap++) freeze(trap, 0);
    _exit(signal == SIGTERM ? 0 : 1);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    signal(SIGTERM, thaw);
    signal(SIGINT, thaw);
    int hold = argc > 2 && !strcmp(argv[2], "hold");
    report = fopen(argv[1], "a");
    if (!report) return 1;
    snprintf(seen_path, sizeof seen_path, "%s.seen", argv[1]);
    FILE *before = fopen(seen_path, "r");
    if (before) {
        if (fscanf(before, "%ld", &seen) != 1) seen = 0;
        fclose(before);
    }
    set_traps();
    for (int trap = 0; trap < trap_count; trap++) freeze(trap, 1);
    fprintf(report, "waiting, %d traps\n", trap_count);
    fflush(report);
    int loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    long saved = -1;
    for (unsigned round = 0;; round++) {
        for (int trap = 0; trap < trap_count; trap++) watch_trap(trap, hold);
        scan(loadavg);
        if (round % 64 == 0 && seen != saved) {
            save_seen();
            saved = seen;
        }
        usleep(100);
    }
}
