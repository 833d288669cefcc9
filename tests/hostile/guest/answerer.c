/* Answers `reached` to each connection and each datagram, on all addresses:   answerer PORT */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_on(int type, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || (type == SOCK_STREAM && listen(fd, 64))) {
        perror("bind");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int stream = listen_on(SOCK_STREAM, atoi(argv[1])), datagram = listen_on(SOCK_DGRAM, atoi(argv[1]));
    struct pollfd waiting[] = {{stream, POLLIN, 0}, {datagram, POLLIN, 0}};
    for (;;) {
        poll(waiting, 2, -1);
        if (waiting[0].revents) {
            int fd = accept4(stream, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0 && send(fd, "reached\n", 8, MSG_NOSIGNAL) < 0) perror("send");
            if (fd >= 0) close(fd);
        }
        if (waiting[1].revents) {
            char bytes[64];
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            if (recvfrom(datagram, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &size) >= 0)
                sendto(datagram, "reached\n", 8, 0, (struct sockaddr *)&from, size);
        }
    }
}
