/* N20: which families of sockets are there, by type and protocol? */
static void attack(int count, char **arguments) {
    (void)count, (void)arguments;
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, 6, 10};
    for (int family = 0; family <= 45; family++) {
        int allowed = 0, refused = 0, other = 0;
        char step[64], list[600] = "";
        for (unsigned t = 0; t < sizeof types / sizeof *types; t++)
            for (int protocol = 0; protocol <= 300; protocol++) {
                int fd = socket(family, types[t] | SOCK_CLOEXEC, protocol);
                if (fd >= 0) {
                    close(fd);
                    allowed++;
                    snprintf(list + strlen(list), sizeof list - strlen(list), " %d/%d", types[t], protocol);
                } else if (errno == EPERM) refused++;
                else other++;
            }
        snprintf(step, sizeof step, "family%d", family);
        text(step, "refused %d other %d allowed %d%s", refused, other, allowed, list);
        int pair[2];
        snprintf(step, sizeof step, "pair%d", family);
        tell(step, socketpair(family, SOCK_STREAM, 0, pair));
    }
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    tell("raw_icmp", raw);
    tell("packet", socket(AF_PACKET, SOCK_RAW, 0x0300));
    tell("ping", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0), one = 2;
    tell("udp_encap", setsockopt(udp, IPPROTO_UDP, 100, &one, sizeof one));
    tell("tcp_ulp", setsockopt(tcp, IPPROTO_TCP, 31, "tls", 4));
    tell("tcp_nodelay", setsockopt(tcp, IPPROTO_TCP, 1, &one, sizeof one));
}
