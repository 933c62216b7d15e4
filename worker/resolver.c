/*
 * The resolver: looks one host name up and ends.
 *
 * What a name server sends is parsed here, in a process that has nothing else.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/mailbox.h"
#include "ipc/process.h"
#include "ipc/sandbox.h"

enum {
    ADDRESS_SIZE = 17,
    ADDRESSES_MAX = 64,
    REQUEST_TIMEOUT_MS = 60000,
    ANSWER_TIMEOUT_MS = 5000
};

/* The address in the form `resolved` has; 0 if it is neither IPv4 nor IPv6. */
static size_t
write_address(uint8_t *out, const struct addrinfo *info)
{
    memset(out, 0, ADDRESS_SIZE);
    if (info->ai_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)info->ai_addr;

        out[0] = 4;
        memcpy(out + 1, &in->sin_addr, 4);
        return ADDRESS_SIZE;
    }
    if (info->ai_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)info->ai_addr;

        out[0] = 6;
        memcpy(out + 1, &in6->sin6_addr, 16);
        return ADDRESS_SIZE;
    }
    return 0;
}

static void
say_why(char *why, size_t size, int status, int error)
{
    switch (status) {
    case EAI_NONAME:
        snprintf(why, size, "there is no host of this name");
        break;
    case EAI_NODATA:
        snprintf(why, size, "the host of this name has no address");
        break;
    case EAI_AGAIN:
        snprintf(why, size, "no name server answers at the moment; try again later");
        break;
    case EAI_FAIL:
        snprintf(why, size, "the name servers cannot answer for this name");
        break;
    case EAI_SYSTEM:
        snprintf(why, size, "the name cannot be looked up: %s", strerror(error));
        break;
    default:
        snprintf(why, size, "the name cannot be looked up: %s", gai_strerror(status));
    }
}

/* The answer borrows from addresses (room for ADDRESSES_MAX) or why. */
static void
resolve(const char *host, struct message *answer, uint8_t *addresses, char *why, size_t why_size)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    size_t used = 0;
    int status = getaddrinfo(host, NULL, &hints, &list);
    int error = errno;

    for (const struct addrinfo *info = list;
         status == 0 && info && used < ADDRESSES_MAX * ADDRESS_SIZE; info = info->ai_next)
        used += write_address(addresses + used, info);
    if (list)
        freeaddrinfo(list);
    if (status == 0 && used > 0) {
        message_init(answer, MESSAGE_RESOLVED);
        answer->as.resolved.addresses = (struct bytes){ addresses, used };
        return;
    }
    say_why(why, why_size, status == 0 ? EAI_NODATA : status, error);
    message_init(answer, MESSAGE_RESOLVE_FAILED);
    answer->as.resolve_failed.why = why;
}

int
main(int argc, char **argv)
{
    static char buffer[MESSAGE_MAX + 1];
    static uint8_t addresses[ADDRESSES_MAX * ADDRESS_SIZE];
    static char why[300];
    struct message request, answer;

    process_begin("resolver", false, PROCESS_MAILBOX);
    process_title_init(argc, argv);
    process_limit_helper();
    sandbox_enter_or_end(SANDBOX_RESOLVER);
    if (mailbox_receive_wait(PROCESS_MAILBOX, MANAGER_TO_RESOLVER, buffer, MESSAGE_MAX, &request,
                             NULL, clock_now_ms() + REQUEST_TIMEOUT_MS) != RESULT_OK)
        return EXIT_FAILURE;
    resolve(request.as.resolve.host, &answer, addresses, why, sizeof why);
    message_fini(&request);
    return mailbox_send_wait(PROCESS_MAILBOX, &answer, clock_now_ms() + ANSWER_TIMEOUT_MS) ==
                   RESULT_OK
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}
