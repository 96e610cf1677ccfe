/* The programs of the shim's tests: each scenario prints what a program can see of its sockets, and nothing that may differ between two runs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in server;
static volatile sig_atomic_t children, pipes;

static void count(int signal) {
    if (signal == SIGCHLD) children++;
    if (signal == SIGPIPE) pipes++;
}

static void say(const char *what, long result) {
    int error = errno;
    printf("%s: %ld %s\n", what, result, result < 0 ? strerror(error) : "");
}

static int connected(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    return s;
}

static void peer(int s) {
    struct sockaddr_in a = {0};
    socklen_t n = sizeof a;
    long r = getpeername(s, (struct sockaddr *)&a, &n);
    say("getpeername", r);
    if (r == 0) printf("%s port %d length %u\n", inet_ntoa(a.sin_addr), a.sin_port == server.sin_port, n);
}

static int descriptors(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void talk(int s, const char *line) {
    char buf[64] = {0};
    say("send", send(s, line, strlen(line), 0));
    long n = recv(s, buf, sizeof buf - 1, MSG_WAITALL);
    say("recv", n);
    if (n > 0) printf("%s", buf);
}

static void interface_address(int s) {
    struct ifreq request = {0};
    strcpy(request.ifr_name, "eth0");
    say("SIOCGIFADDR", ioctl(s, SIOCGIFADDR, &request));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    say("SIOCGIFMTU", ioctl(s, SIOCGIFMTU, &request));
    printf("%d\n", request.ifr_mtu);
}

static void start(void) {
    signal(SIGCHLD, count);
    int before = descriptors();
    int s = connected();
    printf("descriptors: %d\n", descriptors() - before);
    printf("children: %d\n", (int)children);
    say("waitpid", waitpid(-1, NULL, WNOHANG));
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    printf("blocked: %d %d\n", sigismember(&mask, SIGCHLD), sigismember(&mask, SIGTERM));
    peer(s);
    interface_address(s);
    talk(s, "hello\n");
}

static void closed(void) {
    syscall(SYS_close_range, 3, ~0U, 0);
    int s = connected();
    printf("number: %d\n", s);
    peer(s);
    talk(s, "hello\n");
}

static void fork_exec(const char *self) {
    int s = connected();
    pid_t child = fork();
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", s);
        peer(s);
        fflush(stdout);
        execl(self, self, "inherited", number, NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    peer(s);
    talk(s, "hello\n");
    /* A socket made before a fork may be the other's too: it works all the same. */
    int early = socket(AF_INET, SOCK_STREAM, 0);
    child = fork();
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
    say("connect", connect(early, (struct sockaddr *)&server, sizeof server));
    peer(early);
    int copy = dup(early);
    close(early);
    talk(copy, "hello\n");
}

static void inherited(int s) {
    int domain = 0, protocol = 0;
    socklen_t n = sizeof domain;
    getsockopt(s, SOL_SOCKET, SO_DOMAIN, &domain, &n);
    getsockopt(s, SOL_SOCKET, SO_PROTOCOL, &protocol, &n);
    printf("inherited: %d %d\n", domain == AF_INET, protocol == IPPROTO_TCP);
    peer(s);
    fflush(stdout);
}

static int blocked_on;
static void *in_recv(void *unused) { char b; recv(blocked_on, &b, 1, 0); return unused; }
static void *in_read(void *unused) { char b; (void)!read(blocked_on, &b, 1); return unused; }

static void cancel(void) {
    void *(*bodies[])(void *) = {in_recv, in_read};
    blocked_on = connected();
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, bodies[i], NULL);
        usleep(50000);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        printf("cancelled: %d\n", result == PTHREAD_CANCELED);
    }
    talk(blocked_on, "hello\n");
}

static void stdio(void) {
    FILE *f = fdopen(connected(), "r+");
    char line[64] = "";
    fprintf(f, "hello\n");
    fflush(f);
    say("fgets", fgets(line, sizeof line, f) != NULL);
    printf("%s", line);
    say("fclose", fclose(f));
}

static void again(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in refused = server;
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    refused.sin_port = htons(9);
    say("refused", connect(s, (struct sockaddr *)&refused, sizeof refused));
    peer(s);
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    peer(s);
    say("disconnect", connect(s, &nowhere, sizeof nowhere));
    peer(s);
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    talk(s, "hello\n");
}

static void by_number(void) {
    int s = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    say("connect", syscall(SYS_connect, s, &server, sizeof server));
    peer(s);
    talk(s, "hello\n");
}

static void reset(void) {
    signal(SIGPIPE, count);
    int s = connected();
    say("send", send(s, "reset\n", 6, 0));
    struct pollfd p = {.fd = s, .events = POLLIN};
    say("poll", poll(&p, 1, 5000));
    say("write", write(s, "x", 1));
    printf("SIGPIPE: %d\n", (int)pipes);
    say("write", write(s, "x", 1));
    printf("SIGPIPE: %d\n", (int)pipes);
}

static void watched(void) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), e = epoll_create1(0), error = -1;
    socklen_t n = sizeof error;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = 0x1122334455667788};
    say("add", epoll_ctl(e, EPOLL_CTL_ADD, s, &event));
    say("wait", epoll_wait(e, &event, 1, 0));
    printf("events: %x\n", event.events);
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    say("wait", epoll_wait(e, &event, 1, 5000));
    printf("events: %x data: %d\n", event.events, event.data.u64 == 0x1122334455667788);
    say("SO_ERROR", getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &n));
    printf("error: %d\n", error);
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    say("connect", connect(s, (struct sockaddr *)&server, sizeof server));
    say("send", send(s, "hello\n", 6, 0));
    /* An edge of writability may come before: legal at any time, and AF_UNIX has more of them. */
    int tries = 0;
    do epoll_wait(e, &event, 1, 5000);
    while (!(event.events & EPOLLIN) && ++tries < 10);
    printf("readable: %d data: %d\n", (event.events & EPOLLIN) != 0, event.data.u64 == 0x1122334455667788);
    say("delete", epoll_ctl(e, EPOLL_CTL_DEL, s, NULL));
}

static void rooted(const char *directory) {
    say("chroot", chroot(directory));
    say("chdir", chdir("/"));
    int s = connected();
    peer(s);
    talk(s, "hello\n");
}

static void confined(void) {
    int s = connected();
    peer(s);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvfrom, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpeername, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    printf("filtered\n");
    fflush(stdout);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) _exit(3);
    char buf[16] = {0};
    if (write(s, "hel", 3) != 3 || send(s, "lo\n", 3, 0) != 3 || recv(s, buf, 3, MSG_WAITALL) != 3 || read(s, buf + 3, 3) < 1) _exit(4);
    peer(s);
    printf("%s", buf);
    fflush(stdout);
    _exit(0);
}

static void orphaned(void) {
    int s = connected();
    char b;
    printf("ready\n");
    fflush(stdout);
    /* By instruction, past every hook: the kernel itself must know that the engine is gone. */
    register long nr __asm__("rax") = SYS_read;
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "0"(nr), "D"((long)s), "S"(&b), "d"(1L) : "rcx", "r11", "memory");
    printf("read: %s\n", r < 0 ? strerror((int)-r) : "data");
}

int main(int argc, char **argv) {
    const char *scenario = argc > 1 ? argv[1] : "";
    if (argc > 2 && !strcmp(scenario, "inherited")) { inherited(atoi(argv[2])); return 0; }
    if (argc < 4) return 2;
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[3]));
    inet_pton(AF_INET, argv[2], &server.sin_addr);
    if (!strcmp(scenario, "start")) start();
    else if (!strcmp(scenario, "closed")) closed();
    else if (!strcmp(scenario, "fork_exec")) fork_exec(argv[0]);
    else if (!strcmp(scenario, "cancel")) cancel();
    else if (!strcmp(scenario, "stdio")) stdio();
    else if (!strcmp(scenario, "again")) again();
    else if (!strcmp(scenario, "by_number")) by_number();
    else if (!strcmp(scenario, "reset")) reset();
    else if (!strcmp(scenario, "watched")) watched();
    else if (!strcmp(scenario, "rooted") && argc > 4) rooted(argv[4]);
    else if (!strcmp(scenario, "confined")) confined();
    else if (!strcmp(scenario, "orphaned")) orphaned();
    else return 2;
    return 0;
}
