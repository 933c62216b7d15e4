#include "manager/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "ipc/log.h"

void
address_of_peer(int fd, struct address *a)
{
    a->size = sizeof(a->bytes);
    if (getpeername(fd, (struct sockaddr *)&a->bytes, &a->size) < 0)
        a->size = 0;
}

void
address_of_socket(int fd, struct address *a)
{
    a->size = sizeof(a->bytes);
    if (getsockname(fd, (struct sockaddr *)&a->bytes, &a->size) < 0)
        a->size = 0;
}

bool
address_is_ip(const struct address *a)
{
    return a->size > 0 && (a->bytes.ss_family == AF_INET || a->bytes.ss_family == AF_INET6);
}

/* An IPv4 peer of a dual-stack socket is an IPv4 peer. */
size_t
address_ip(const struct address *a, uint8_t ip[16], uint16_t *port)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&a->bytes;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->bytes;

    if (a->bytes.ss_family == AF_INET) {
        memcpy(ip, &in->sin_addr, 4);
        *port = ntohs(in->sin_port);
        return 4;
    }
    *port = ntohs(in6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        memcpy(ip, &in6->sin6_addr.s6_addr[12], 4);
        return 4;
    }
    memcpy(ip, &in6->sin6_addr, 16);
    return 16;
}

static uint16_t
ip_text(const struct address *a, char text[INET6_ADDRSTRLEN])
{
    uint8_t ip[16];
    uint16_t port;
    size_t size = address_ip(a, ip, &port);

    inet_ntop(size == 4 ? AF_INET : AF_INET6, ip, text, INET6_ADDRSTRLEN);
    return port;
}

static void
path_text(const struct address *a, char *text, size_t size)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&a->bytes;
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    size_t path_size = a->size > offset ? a->size - offset : 0;

    /* A name in the abstract namespace begins with NUL; a path ends with one. */
    if (path_size > 0 && un->sun_path[0] != '\0')
        path_size = strnlen(un->sun_path, path_size);
    log_escape(text, size, un->sun_path, path_size);
}

json_t *
address_json(const struct address *a)
{
    char text[512];

    if (a->size == 0)
        return json_null();
    if (address_is_ip(a)) {
        int port = ip_text(a, text);

        return json_pack("{s:s, s:i}", "address", text, "port", port);
    }
    path_text(a, text, sizeof(text));
    return json_pack("{s:s}", "path", text);
}

void
address_text(const struct address *a, char *text, size_t size)
{
    char ip[INET6_ADDRSTRLEN];

    if (address_is_ip(a)) {
        int port = ip_text(a, ip);

        snprintf(text, size, strchr(ip, ':') != NULL ? "[%s]:%d" : "%s:%d", ip, port);
    } else if (a->size > 0) {
        path_text(a, text, size);
    } else {
        snprintf(text, size, "none");
    }
}
