/*
 * The methods of the control API: name and function, one list.  What each takes, gives and may
 * fail with is api/cordon.api.json; a test holds the two together.
 */
#ifndef CORDON_MANAGER_METHODS_H
#define CORDON_MANAGER_METHODS_H

#include "manager/request.h"

#define METHOD_LIST(METHOD)                                             \
    METHOD("cordon.hello", method_hello)                                \
    METHOD("cordon.describe", method_describe)                          \
    METHOD("cordon.status", method_status)                              \
    METHOD("cordon.connections", method_connections)                    \
    METHOD("cordon.listeners", method_listeners)                        \
    METHOD("cordon.clients", method_clients)                            \
    METHOD("cordon.subscribe", method_subscribe)                        \
    METHOD("cordon.unsubscribe", method_unsubscribe)                    \
    METHOD("cordon.cancel", method_cancel)                              \
    METHOD("cordon.kill", method_kill)                                  \
    METHOD("cordon.stop", method_stop)                                  \
    METHOD("cordon.log_level", method_log_level)                        \
    METHOD("cordon.reload", method_reload)                              \
    METHOD("cordon.services", method_services)                          \
    METHOD("cordon.service_add", method_service_add)                    \
    METHOD("cordon.service_remove", method_service_remove)              \
    METHOD("ssl.versions", method_versions)                             \
    METHOD("ssl.cipher_suites", method_cipher_suites)                   \
    METHOD("ssl.format_error", method_format_error)                     \
    METHOD("ssl.clear_pem_cache", method_clear_pem_cache)               \
    METHOD("ssl.listen", method_listen)                                 \
    METHOD("ssl.transport_accept", method_transport_accept)             \
    METHOD("ssl.handshake", method_handshake)                           \
    METHOD("ssl.accept", method_accept)                                 \
    METHOD("ssl.connect", method_connect)                               \
    METHOD("ssl.upgrade", method_upgrade)                               \
    METHOD("ssl.close", method_close)                                   \
    METHOD("ssl.shutdown", method_shutdown)                             \
    METHOD("ssl.send", method_send)                                     \
    METHOD("ssl.recv", method_recv)                                     \
    METHOD("ssl.setopts", method_setopts)                               \
    METHOD("ssl.getopts", method_getopts)                               \
    METHOD("ssl.connection_information", method_connection_information) \
    METHOD("ssl.connection_info", method_connection_info)               \
    METHOD("ssl.negotiated_protocol", method_negotiated_protocol)       \
    METHOD("ssl.peercert", method_peercert)                             \
    METHOD("ssl.peername", method_peername)                             \
    METHOD("ssl.sockname", method_sockname)

#define METHOD(name, function) void function(struct request *r);
METHOD_LIST(METHOD)
#undef METHOD

#endif
