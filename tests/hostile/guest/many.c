/* Makes COUNT names in DIR, links of as few files as the file system allows:   many DIR COUNT */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char name[32], first[32] = "";
    if (argc != 3) return 2;
    mkdir(argv[1], 0755);
    int dir = open(argv[1], O_PATH | O_DIRECTORY);
    long count = atol(argv[2]);
    for (long i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%08ld", i);
        if (first[0] && linkat(dir, first, dir, name, 0) == 0) continue;
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0) return perror(name), 1;
        close(fd);
        snprintf(first, sizeof first, "%s", name);
    }
}
