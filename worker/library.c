#include "worker/library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/suites.h"

static const char priority_file[] = "GNUTLS_SYSTEM_PRIORITY_FILE";
static const char no_file[] = "/dev/null";

static bool
environment_is_clean(void)
{
    const char *file = getenv(priority_file);

    return file != NULL && strcmp(file, no_file) == 0 && getenv("SSLKEYLOGFILE") == NULL &&
           getenv("GNUTLS_DEBUG_LEVEL") == NULL && getenv("GNUTLS_CPUID_OVERRIDE") == NULL;
}

void
library_clean_environment(char **argv)
{
    if (environment_is_clean())
        return;
    unsetenv("SSLKEYLOGFILE");
    unsetenv("GNUTLS_DEBUG_LEVEL");
    unsetenv("GNUTLS_CPUID_OVERRIDE");
    if (setenv(priority_file, no_file, 1) == 0)
        (void)execv("/proc/self/exe", argv);
    fprintf(stderr, "cordon nursery: cannot start again with a clean environment: %s\n",
            strerror(errno));
    exit(1);
}

/* clang-format off */
static const struct {
    gnutls_protocol_t theirs;
    unsigned ours;
} versions[] = {
    { GNUTLS_TLS1_0, TLS_1_0 },
    { GNUTLS_TLS1_1, TLS_1_1 },
    { GNUTLS_TLS1_2, TLS_1_2 },
    { GNUTLS_TLS1_3, TLS_1_3 },
};

static const struct {
    gnutls_group_t theirs;
    unsigned ours;
} groups[] = {
    { GNUTLS_GROUP_SECP256R1, 23 },
    { GNUTLS_GROUP_SECP384R1, 24 },
    { GNUTLS_GROUP_SECP521R1, 25 },
    { GNUTLS_GROUP_X25519, 29 },
    { GNUTLS_GROUP_X448, 30 },
    { GNUTLS_GROUP_FFDHE2048, 256 },
    { GNUTLS_GROUP_FFDHE3072, 257 },
    { GNUTLS_GROUP_FFDHE4096, 258 },
    { GNUTLS_GROUP_FFDHE6144, 259 },
    { GNUTLS_GROUP_FFDHE8192, 260 },
};

static const struct {
    gnutls_sign_algorithm_t theirs;
    unsigned ours;
} schemes[] = {
    { GNUTLS_SIGN_RSA_SHA1, 0x0201 },
    { GNUTLS_SIGN_ECDSA_SHA1, 0x0203 },
    { GNUTLS_SIGN_RSA_SHA256, 0x0401 },
    { GNUTLS_SIGN_RSA_SHA384, 0x0501 },
    { GNUTLS_SIGN_RSA_SHA512, 0x0601 },
    { GNUTLS_SIGN_ECDSA_SHA256, 0x0403 },
    { GNUTLS_SIGN_ECDSA_SHA384, 0x0503 },
    { GNUTLS_SIGN_ECDSA_SHA512, 0x0603 },
    { GNUTLS_SIGN_ECDSA_SECP256R1_SHA256, 0x0403 },
    { GNUTLS_SIGN_ECDSA_SECP384R1_SHA384, 0x0503 },
    { GNUTLS_SIGN_ECDSA_SECP521R1_SHA512, 0x0603 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA256, 0x0804 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA384, 0x0805 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA512, 0x0806 },
    { GNUTLS_SIGN_EDDSA_ED25519, 0x0807 },
    { GNUTLS_SIGN_EDDSA_ED448, 0x0808 },
    { GNUTLS_SIGN_RSA_PSS_SHA256, 0x0809 },
    { GNUTLS_SIGN_RSA_PSS_SHA384, 0x080a },
    { GNUTLS_SIGN_RSA_PSS_SHA512, 0x080b },
};
/* clang-format on */

#define COUNT(table) (sizeof(table) / sizeof *(table))

unsigned
library_tls_version(gnutls_protocol_t version)
{
    for (size_t i = 0; i < COUNT(versions); i++) {
        if (versions[i].theirs == version)
            return versions[i].ours;
    }
    return 0;
}

unsigned
library_group(gnutls_group_t group)
{
    for (size_t i = 0; i < COUNT(groups); i++) {
        if (groups[i].theirs == group)
            return groups[i].ours;
    }
    return 0;
}

unsigned
library_scheme(gnutls_sign_algorithm_t algorithm)
{
    for (size_t i = 0; i < COUNT(schemes); i++) {
        if (schemes[i].theirs == algorithm)
            return schemes[i].ours;
    }
    return 0;
}

unsigned
library_versions(void)
{
    const gnutls_protocol_t *list = gnutls_protocol_list();
    unsigned mask = 0;

    for (; *list != 0; list++)
        mask |= library_tls_version(*list);
    return mask;
}

bool
library_find_suite(uint16_t code, struct library_suite *suite)
{
    unsigned char id[2];
    size_t i = 0;

    while (gnutls_cipher_suite_info(i++, id, &suite->kx, &suite->cipher, &suite->mac, NULL)) {
        if ((id[0] << 8 | id[1]) == code)
            return true;
    }
    return false;
}

void
library_suites(uint16_t *codes, size_t *count)
{
    struct library_suite unused;
    size_t room = *count;
    size_t found = 0;

    for (size_t i = 0; i < suite_count && found < room; i++) {
        if (library_find_suite(suites[i].code, &unused))
            codes[found++] = suites[i].code;
    }
    *count = found;
}

uint16_t
library_session_suite(gnutls_session_t tls)
{
    const char *name = gnutls_ciphersuite_get(tls); /* IANA's */
    const struct suite *suite = name != NULL ? suite_by_name(name) : NULL;

    return suite != NULL ? suite->code : 0;
}
