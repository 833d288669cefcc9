/* Tries to reach what a machine may not, all the time:   prober REPORT tcp|udp:ADDRESS:PORT…
 *
 * A target is reached when bytes come back that begin with `reached`, as answerer.c sends them. REPORT gets a line
 * `REACHED ROUND TARGET` for each time; REPORT.rounds is how often all of them were tried.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TARGETS 64
#define ROUND_MILLISECONDS 250

static struct target {
    const char *words;
    int type;
    struct sockaddr_in address;
} targets[TARGETS];
static int count;

static void parse(const char *words) {
    char text[128], *host = strchr(words, ':'), *port;
    struct target *target = &targets[count];
    if (!host || count == TARGETS) exit(2);
    snprintf(text, sizeof text, "%s", host + 1);
    port = strrchr(text, ':');
    if (!port) exit(2);
    *port++ = 0;
    target->words = words;
    target->type = !strncmp(words, "tcp", 3) ? SOCK_STREAM : SOCK_DGRAM;
    target->address.sin_family = AF_INET;
    target->address.sin_port = htons((unsigned short)atoi(port));
    if (inet_pton(AF_INET, text, &target->address.sin_addr) != 1) exit(2);
    count++;
}

static long milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000L + time.tv_nsec / 1000000;
}

static int begin(const struct target *target) {
    int fd = socket(AF_INET, target->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const struct sockaddr *address = (const struct sockaddr *)&target->address;
    if (fd < 0) return -1;
    if (target->type == SOCK_DGRAM) sendto(fd, "ask", 3, 0, address, sizeof target->address);
    else connect(fd, address, sizeof target->address);
    return fd;
}

/* Tries each target once, all at the same time. */
static void try_all(FILE *report, long round) {
    struct pollfd waiting[TARGETS];
    long end = milliseconds() + ROUND_MILLISECONDS;
    for (int i = 0; i < count; i++) waiting[i] = (struct pollfd){begin(&targets[i]), POLLIN, 0};
    for (long left; (left = end - milliseconds()) > 0;) {
        if (poll(waiting, (nfds_t)count, (int)left) <= 0) continue;
        for (int i = 0; i < count; i++) {
            char bytes[64];
            if (!waiting[i].revents) continue;
            ssize_t length = recv(waiting[i].fd, bytes, sizeof bytes, 0);
            if (length >= 7 && !memcmp(bytes, "reached", 7)) fprintf(report, "REACHED %ld %s\n", round, targets[i].words);
            if (length > 0 || errno != EAGAIN) {
                close(waiting[i].fd);
                waiting[i].fd = -1;
            }
        }
    }
    for (int i = 0; i < count; i++) if (waiting[i].fd >= 0) close(waiting[i].fd);
    fflush(report);
}

int main(int argc, char **argv) {
    char path[4096];
    if (argc < 3) return 2;
    for (int i = 2; i < argc; i++) parse(argv[i]);
    FILE *report = fopen(argv[1], "a");
    if (!report) return 1;
    snprintf(path, sizeof path, "%s.rounds", argv[1]);
    for (long round = 0;; round++) {
        try_all(report, round);
        FILE *rounds = fopen(path, "w");
        if (rounds) {
            fprintf(rounds, "%ld\n", round + 1);
            fclose(rounds);
        }
    }
}
