/* What the machine allows: servers that do what a broker must and nothing else.
 *
 *   limit append FILE     take frames (i32 length first), CRC-32C each, write it to FILE, answer ANSWER bytes
 *   limit commit FILE     the same, and fdatasync FILE once for all that has come before answering any of it
 *   limit sendfile FILE SIZE   answer every frame with SIZE bytes of FILE by sendfile, going round
 *   limit read FILE SIZE       read FILE from its beginning to its end, SIZE bytes at a time, once a line has come;
 *                              print what that took: bytes, seconds, CPU seconds
 *
 * The others listen on 127.0.0.1 and prints the port. One thread, epoll; ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nmmintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANSWER 60
#define ROOM (4 << 20)

enum mode { APPEND, COMMIT, SENDFILE };

struct connection {
    int fd;
    char *data;
    size_t size;
    long owed;        /* answers not yet sent */
    size_t at, left;  /* of the answer under way, by sendfile */
    int listed;
};

static int mode, epoll_fd, file_fd;
static off_t file_size;
static size_t answer_size;
static uint64_t sink;
static struct connection *touched[65536];
static int touched_count;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint32_t crc32c(const char *data, size_t size) {
    uint64_t crc = 0xffffffff;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = _mm_crc32_u64(crc, word);
        data += 8;
        size -= 8;
    }
    while (size--)
        crc = _mm_crc32_u8((uint32_t)crc, (uint8_t)*data++);
    return (uint32_t)crc ^ 0xffffffff;
}

static void all_of(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0)
            die("write");
        data += n;
        size -= (size_t)n;
    }
}

static void answer_small(struct connection *c) {
    static char answers[ANSWER * 1024];
    static int made;
    if (!made) {
        uint32_t length = htonl(ANSWER - 4);
        for (int i = 0; i < 1024; i++)
            memcpy(answers + i * ANSWER, &length, 4);
        made = 1;
    }
    while (c->owed) {
        long n = c->owed < 1024 ? c->owed : 1024;
        size_t size = (size_t)n * ANSWER;
        char *data = answers;
        while (size) {
            ssize_t done = send(c->fd, data, size, MSG_NOSIGNAL);
            if (done < 0)
                return;
            data += done;
            size -= (size_t)done;
        }
        c->owed -= n;
    }
}

static void answer_file(struct connection *c) {
    while (c->owed || c->left) {
        if (!c->left) {
            uint32_t length = htonl((uint32_t)answer_size);
            if (send(c->fd, &length, 4, MSG_NOSIGNAL | MSG_MORE) != 4)
                return;
            if (c->at + answer_size > (size_t)file_size)
                c->at = 0;
            c->left = answer_size;
            c->owed--;
        }
        off_t at = (off_t)c->at;
        ssize_t n = sendfile(c->fd, file_fd, &at, c->left);
        if (n <= 0)
            return;
        c->at += (size_t)n;
        c->left -= (size_t)n;
    }
}

static int take(struct connection *c) {
    ssize_t n = recv(c->fd, c->data + c->size, ROOM - c->size, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        return -1;
    if (n < 0)
        return 0;
    c->size += (size_t)n;
    size_t at = 0;
    while (c->size - at >= 4) {
        uint32_t length;
        memcpy(&length, c->data + at, 4);
        length = ntohl(length);
        if (c->size - at < 4 + (size_t)length)
            break;
        if (mode != SENDFILE)
            sink += crc32c(c->data + at + 4, length);
        at += 4 + length;
        c->owed++;
    }
    if (at && mode != SENDFILE)
        all_of(file_fd, c->data, at);
    memmove(c->data, c->data + at, c->size - at);
    c->size -= at;
    return 0;
}

static double clock_seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static int read_through(const char *path, size_t size) {
    char *data = malloc(size), line[8];
    int fd = open(path, O_RDONLY);
    if (fd < 0 || !data || !fgets(line, sizeof line, stdin))
        die(path);
    double began = clock_seconds(CLOCK_MONOTONIC), used = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    long long total = 0;
    for (ssize_t count; (count = read(fd, data, size)) != 0; total += count)
        if (count < 0)
            die(path);
    printf("%lld %.6f %.6f\n", total, clock_seconds(CLOCK_MONOTONIC) - began,
           clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - used);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    if (!strcmp(argv[1], "read"))
        return argc > 3 ? read_through(argv[2], (size_t)atol(argv[3])) : 2;
    mode = !strcmp(argv[1], "append") ? APPEND : !strcmp(argv[1], "commit") ? COMMIT : SENDFILE;
    file_fd = open(argv[2], mode == SENDFILE ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND, 0600);
    struct stat st;
    if (file_fd < 0 || fstat(file_fd, &st))
        die(argv[2]);
    file_size = st.st_size;
    answer_size = argc > 3 ? (size_t)atol(argv[3]) : 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener}, ready[512];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &file_fd; /* stands for standard input */
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, ready, 512, -1);
        touched_count = 0;
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if ((void *)c == (void *)&file_fd) {
                fprintf(stderr, "%llu\n", (unsigned long long)sink);
                return 0;
            }
            if ((void *)c == (void *)&listener) {
                c = calloc(1, sizeof *c);
                c->fd = accept(listener, NULL, NULL);
                c->data = malloc(ROOM);
                setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.events = EPOLLIN | (mode == SENDFILE ? EPOLLOUT | EPOLLET : 0);
                event.data.ptr = c;
                if (mode == SENDFILE)
                    fcntl(c->fd, F_SETFL, O_NONBLOCK);
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
                continue;
            }
            if (take(c) < 0) {
                close(c->fd);
                free(c->data);
                free(c);
                continue;
            }
            if (mode == SENDFILE)
                answer_file(c);
            else if (mode == APPEND)
                answer_small(c);
            else
                touched[touched_count++] = c;
        }
        if (mode == COMMIT && touched_count) {
            if (fdatasync(file_fd))
                die("fdatasync");
            for (int i = 0; i < touched_count; i++)
                answer_small(touched[i]);
        }
    }
}
