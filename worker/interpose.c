/*
 * GnuTLS' own calls of gnutls_privkey_sign_data2 come here, and go to the signer.
 *
 * Linked dynamically, the name is defined here and exported, so that the library finds it before
 * its own.  Linked statically, the linker's --wrap turns each call into one of __wrap_...; the
 * library's function is __real_....
 */
#include "worker/signer.h"

#ifdef CORDON_STATIC

signer_library_function __wrap_gnutls_privkey_sign_data2, __real_gnutls_privkey_sign_data2;

int
__wrap_gnutls_privkey_sign_data2(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm,
                                 unsigned flags, const gnutls_datum_t *data,
                                 gnutls_datum_t *signature)
{
    return signer_sign(__real_gnutls_privkey_sign_data2, key, algorithm, flags, data, signature);
}

#else

#include <dlfcn.h>

__attribute__((visibility("default"))) int
gnutls_privkey_sign_data2(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, unsigned flags,
                          const gnutls_datum_t *data, gnutls_datum_t *signature)
{
    static signer_library_function *library;

    if (library == NULL)
        *(void **)&library = dlsym(RTLD_NEXT, "gnutls_privkey_sign_data2");
    return signer_sign(library, key, algorithm, flags, data, signature);
}

#endif
