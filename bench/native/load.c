/* Sends prepared requests over many connections and counts the answers.
 *
 *   load HOST PORT CONNECTIONS DEPTH COUNT KIND RATE REQUESTS [GREETING]
 *
 * REQUESTS is a file of requests, each behind its length as a big-endian i32; connection c begins with request
 * c and goes round. Every connection keeps at most DEPTH requests unanswered, until COUNT in all are answered.
 * With a RATE above 0 (requests a second, all connections together) requests fall due at even intervals, whether
 * or not the answers keep up, and a latency counts from when its request was due: a server that stalls is
 * charged for all that should have been sent meanwhile (coordinated omission). KIND says how answers are told
 * apart: "length32" (i32 length, then that many bytes), "cursus" (the same, and the text of an error ends the
 * run), "mega-produce" and "mega-consume" (MEGA's heads, and an error ends the run), "redis" (one RESP reply a
 * request) or "nats" (one MSG a request). GREETING is a file sent first on every connection and not answered for.
 * Eight "@" in a row, in the greeting or a request, stand for the number of the connection in eight digits, eight
 * "#" in a request for the number of the request among all.
 *
 * Prints one JSON object. Ends with 1 and a sentence on anything unexpected.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_WAIT_NS 20000000000LL

enum kind { LENGTH32, CURSUS, MEGA_PRODUCE, MEGA_CONSUME, REDIS, NATS, KINDS };

static const char *kind_names[KINDS] = {"length32", "cursus", "mega-produce", "mega-consume", "redis", "nats"};

struct request {
    const char *data;
    size_t size;
    char *number; /* where its number goes, if anywhere */
};

struct connection {
    int fd;
    struct request *requests;
    int next;              /* request to be sent next */
    long sent, answered;   /* requests */
    size_t written;        /* bytes sent of the request under way */
    int writing;           /* whether EPOLLOUT is asked for */
    int64_t *due;          /* ring of DEPTH times, ns */
    char line[512];        /* a head that has come in part */
    size_t line_size;
    size_t skip;           /* bytes of a body still to come */
    int counts;            /* whether that body ends an answer */
    int begins;            /* whether none of that body has come */
};

static struct request *requests;
static int request_count, depth, kind, epoll_fd, pongs;
static long total, sent, answered;
static double interval_ns;
static int64_t began_ns;
static uint32_t *latencies_us;
static long latency_count;
static size_t bytes_in, bytes_out;

static void fail(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static char *whole_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    if (fread(data, 1, *size, file) != *size)
        fail("%s: cannot be read", path);
    fclose(file);
    return data;
}

static void load_requests(const char *path) {
    size_t size, at = 0;
    char *data = whole_file(path, &size);
    while (at + 4 <= size) {
        uint32_t length;
        memcpy(&length, data + at, 4);
        length = ntohl(length);
        requests = realloc(requests, (size_t)(request_count + 1) * sizeof *requests);
        requests[request_count].data = data + at + 4;
        requests[request_count++].size = length;
        at += 4 + length;
    }
    if (!request_count || at != size)
        fail("%s: not a file of requests", path);
}

/* Put a connection's number into a text; the text is copied if it has a place for it. */
static const char *numbered(const char *data, size_t size, int number) {
    const char *place = memmem(data, size, "@@@@@@@@", 8);
    if (!place)
        return data;
    char *copy = malloc(size), digits[16];
    memcpy(copy, data, size);
    snprintf(digits, sizeof digits, "%08d", number);
    memcpy(copy + (place - data), digits, 8);
    return copy;
}

/* Find the place of a request's own number; give each connection a request of its own then. */
static void place_number(struct request *r) {
    char *place = memmem(r->data, r->size, "########", 8);
    if (!place)
        return;
    char *copy = malloc(r->size);
    memcpy(copy, r->data, r->size);
    r->number = copy + (place - r->data);
    r->data = copy;
}

static void write_number(char *place, long number) {
    for (int i = 7; i >= 0; i--, number /= 10)
        place[i] = (char)('0' + number % 10);
}

static void watch(struct connection *c, int writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    c->writing = writing;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event))
        fail("epoll: %s", strerror(errno));
}

/* Send what is due on one connection; stop when the socket is full. */
static void pump(struct connection *c) {
    for (;;) {
        if (!c->written) {
            if (c->sent - c->answered >= depth || sent >= total)
                break;
            int64_t due = now_ns();
            if (interval_ns > 0) {
                int64_t planned = began_ns + (int64_t)((double)sent * interval_ns);
                if (planned > due)
                    break;
                due = planned;
            }
            c->due[c->sent % depth] = due;
            if (c->requests[c->next].number)
                write_number(c->requests[c->next].number, sent);
            c->sent++;
            sent++;
        }
        struct request *r = &c->requests[c->next];
        ssize_t n = send(c->fd, r->data + c->written, r->size - c->written, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN)
                fail("send: %s after %ld answers", strerror(errno), answered);
            if (!c->writing)
                watch(c, 1);
            return;
        }
        bytes_out += (size_t)n;
        c->written += (size_t)n;
        if (c->written == r->size) {
            c->written = 0;
            c->next = (c->next + 1) % request_count;
        }
    }
    if (c->writing)
        watch(c, 0);
}

static void one_answer(struct connection *c) {
    if (c->answered >= c->sent)
        fail("an answer to nothing");
    if (latencies_us) {
        int64_t took = (now_ns() - c->due[c->answered % depth]) / 1000;
        latencies_us[latency_count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    }
    c->answered++;
    answered++;
}

/* Take a line of a text protocol; set what follows it. */
static void take_line(struct connection *c) {
    char *line = c->line;
    line[c->line_size] = 0;
    if (kind == REDIS) {
        if (line[0] == '-')
            fail("redis says %s", line);
        if (line[0] == '$') {
            c->skip = (size_t)atol(line + 1) + 2;
            c->counts = 1;
        } else
            one_answer(c);
        return;
    }
    if (!strncmp(line, "MSG ", 4)) {
        char *last = strrchr(line, ' ');
        c->skip = (size_t)atol(last + 1) + 2;
        c->counts = 1;
    } else if (!strncmp(line, "PING", 4)) {
        if (send(c->fd, "PONG\r\n", 6, MSG_NOSIGNAL) != 6)
            fail("cannot answer PING");
        pongs++;
    } else if (!strncmp(line, "-ERR", 4))
        fail("nats says %s", line);
}

/* One more byte of the head of an answer over MEGA: i32 correlation id, u8 success, then error code, or i64
 * time and i32 offset, and for a consume i32 length. */
static void take_mega(struct connection *c) {
    size_t whole = kind == MEGA_PRODUCE ? 17 : 21;
    if (c->line_size == 6 && !c->line[4])
        fail("MEGA error %d", c->line[5]);
    if (c->line_size < whole)
        return;
    c->line_size = 0;
    if (kind == MEGA_CONSUME) {
        uint32_t length;
        memcpy(&length, c->line + 17, 4);
        c->skip = ntohl(length);
        c->counts = c->skip > 0;
    }
    if (!c->counts)
        one_answer(c);
}

static void take(struct connection *c, const char *data, size_t size) {
    bytes_in += size;
    while (size) {
        if (c->skip) {
            size_t n = c->skip < size ? c->skip : size;
            if (kind == NATS && n > 9 && memmem(data, n, "\"error\"", 7))
                fail("nats refuses: %.*s", (int)(n > 200 ? 200 : n), data);
            if (kind == CURSUS && c->begins && *data == 'E')
                fail("cursus says %.*s", (int)(n > 200 ? 200 : n), data);
            c->begins = 0;
            data += n;
            size -= n;
            c->skip -= n;
            if (!c->skip && c->counts) {
                c->counts = 0;
                one_answer(c);
            }
        } else if (kind == MEGA_PRODUCE || kind == MEGA_CONSUME) {
            c->line[c->line_size++] = *data++;
            size--;
            take_mega(c);
        } else if (kind == LENGTH32 || kind == CURSUS) {
            c->line[c->line_size++] = *data++;
            size--;
            if (c->line_size == 4) {
                uint32_t length;
                memcpy(&length, c->line, 4);
                c->skip = ntohl(length);
                c->counts = c->begins = 1;
                c->line_size = 0;
            }
        } else {
            if (*data == '\n') {
                take_line(c);
                c->line_size = 0;
            } else if (*data != '\r' && c->line_size < sizeof c->line - 1)
                c->line[c->line_size++] = *data;
            data++;
            size--;
        }
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile(double share) {
    if (!latency_count)
        return 0;
    long at = (long)(share * (double)latency_count);
    return latencies_us[at < latency_count ? at : latency_count - 1] / 1000.0;
}

int main(int argc, char **argv) {
    if (argc < 9)
        fail("load HOST PORT CONNECTIONS DEPTH COUNT KIND RATE REQUESTS [GREETING]");
    int connections = atoi(argv[3]);
    depth = atoi(argv[4]);
    total = atol(argv[5]);
    while (kind < KINDS && strcmp(argv[6], kind_names[kind]))
        kind++;
    if (kind == KINDS)
        fail("%s: not a kind of answers", argv[6]);
    double rate = atof(argv[7]);
    load_requests(argv[8]);
    size_t greeting_size = 0;
    char *greeting = argc > 9 ? whole_file(argv[9], &greeting_size) : NULL;
    latencies_us = malloc((size_t)(total + connections) * sizeof *latencies_us);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    epoll_fd = epoll_create1(0);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        struct connection *c = &all[i];
        int one = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        c->next = i % request_count;
        c->requests = malloc((size_t)request_count * sizeof *c->requests);
        for (int n = 0; n < request_count; n++) {
            c->requests[n].size = requests[n].size;
            c->requests[n].data = numbered(requests[n].data, requests[n].size, i);
            c->requests[n].number = NULL;
            place_number(&c->requests[n]);
        }
        c->due = calloc((size_t)depth, sizeof *c->due);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address))
            fail("connect: %s", strerror(errno));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (greeting && send(c->fd, numbered(greeting, greeting_size, i), greeting_size, MSG_NOSIGNAL) != (ssize_t)greeting_size)
            fail("greeting: %s", strerror(errno));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    }
    size_t room = 1 << 20;
    char *buffer = malloc(room);
    struct epoll_event ready[256];
    interval_ns = rate > 0 ? 1e9 / rate : 0;
    began_ns = now_ns();
    int turn = 0;
    for (int i = 0; i < connections; i++)
        pump(&all[i]);
    while (answered < total) {
        int64_t wait_ns = LONGEST_WAIT_NS;
        if (interval_ns > 0 && sent < total) {
            int64_t planned = began_ns + (int64_t)((double)sent * interval_ns), now = now_ns();
            wait_ns = planned > now ? planned - now : 0;
        }
        struct timespec wait = {.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
        int count = epoll_pwait2(epoll_fd, ready, 256, &wait, NULL);
        if (!count && wait_ns == LONGEST_WAIT_NS)
            fail("no answer for 20 s: %ld of %ld", answered, total);
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t n = recv(c->fd, buffer, room, MSG_DONTWAIT);
                if (n == 0)
                    fail("closed after %ld answers", answered);
                if (n < 0 && errno != EAGAIN)
                    fail("recv: %s after %ld answers", strerror(errno), answered);
                if (n > 0)
                    take(c, buffer, (size_t)n);
            }
            pump(c);
        }
        if (interval_ns > 0) /* what fell due meanwhile goes to whoever has room, in turn */
            for (int tried = 0; tried < connections && sent < total; tried++) {
                if (began_ns + (int64_t)((double)sent * interval_ns) > now_ns())
                    break;
                pump(&all[turn]);
                turn = (turn + 1) % connections;
            }
    }
    double seconds = (double)(now_ns() - began_ns) / 1e9;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    qsort(latencies_us, (size_t)latency_count, sizeof *latencies_us, by_value);
    printf("{\"answered\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"bytes_in\": %zu, \"bytes_out\": %zu, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f}\n",
           answered, seconds, cpu, bytes_in, bytes_out, percentile(0.5), percentile(0.99), percentile(0.999),
           percentile(1.0));
    return 0;
}
