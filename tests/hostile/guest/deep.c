/* Makes COUNT directories below DIR, each in the one before:   deep DIR COUNT */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    mkdir(argv[1], 0755);
    int dir = open(argv[1], O_PATH | O_DIRECTORY);
    for (long left = atol(argv[2]); left > 0; left--) {
        if (mkdirat(dir, "d", 0755)) return perror("mkdirat"), 1;
        int below = openat(dir, "d", O_PATH | O_DIRECTORY);
        close(dir);
        if ((dir = below) < 0) return perror("openat"), 1;
    }
}
