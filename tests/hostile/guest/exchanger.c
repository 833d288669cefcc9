/* Exchanges two paths all the time, so that a directory is a link in every second moment:   exchanger A B */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    for (;;) {
        if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE)) perror("renameat2");
        usleep(150);
    }
}
