/*
 * One end of a transport.
 */
#ifndef CORDON_MANAGER_ADDRESS_H
#define CORDON_MANAGER_ADDRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct address {
    socklen_t size; /* 0: none */
    struct sockaddr_storage bytes;
};

void address_of_peer(int fd, struct address *a);
void address_of_socket(int fd, struct address *a);

bool address_is_ip(const struct address *a);
/* For an IP address: 4 or 16, the size of ip, in network order. */
size_t address_ip(const struct address *a, uint8_t ip[16], uint16_t *port);

json_t *address_json(const struct address *a); /* "socket_address" of the API; gives */
void address_text(const struct address *a, char *text, size_t size);

#endif
