/* N19: is the host's network here? argv: ADDRESS PORT … pairs to connect to. */
#include <net/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

static long reach(const char *address, int port) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int is4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    if (!is4) inet_pton(AF_INET6, address, &v6.sin6_addr);
    int fd = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    long result = connect(fd, is4 ? (void *)&v4 : (void *)&v6, is4 ? sizeof v4 : sizeof v6);
    if (result && errno == EINPROGRESS) {
        struct pollfd p = {fd, POLLOUT, 0};
        int error = ETIMEDOUT;
        socklen_t size = sizeof error;
        if (poll(&p, 1, 700) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        errno = error;
        result = error ? -1 : 0;
    }
    int e = errno;
    close(fd);
    errno = e;
    return result;
}

static void attack(int count, char **arguments) {
    char step[200];
    for (int i = 0; i + 1 < count; i += 2) {
        snprintf(step, sizeof step, "connect_%s_%s", arguments[i], arguments[i + 1]);
        tell(step, reach(arguments[i], atoi(arguments[i + 1])));
    }
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    tell("bind_to_device", setsockopt(tcp, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
    struct if_nameindex *all = if_nameindex();
    char names[1000] = "";
    for (struct if_nameindex *i = all; i && i->if_index; i++) snprintf(names + strlen(names), sizeof names - strlen(names), " %s", i->if_name);
    text("interfaces", "=%s", names);
    int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), routes = 0;
    struct { struct nlmsghdr head; struct rtmsg body; } ask = {{sizeof ask, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.rtm_family = AF_INET}};
    send(netlink, &ask, sizeof ask, 0);
    char buffer[1 << 16];
    for (int done = 0; !done;) {
        struct pollfd p = {netlink, POLLIN, 0};
        if (poll(&p, 1, 500) != 1) break;
        int n = recv(netlink, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        for (struct nlmsghdr *h = (void *)buffer; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) { done = 1; break; }
            struct rtmsg *r = NLMSG_DATA(h);
            if (r->rtm_table == RT_TABLE_MAIN) routes++;
        }
    }
    text("routes", "%d", routes);
    /* A server of one's own on the own loopback must work. */
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&own, sizeof own) || listen(listener, 1) || getsockname(listener, (void *)&own, &size)) { tell("own_server", -1); return; }
    tell("own_server", reach("127.0.0.1", ntohs(own.sin_port)));
}
