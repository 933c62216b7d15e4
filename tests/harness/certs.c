#include "tests/harness/certs.h"

#include <arpa/inet.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/harness.h"

enum { DAY_S = 86400, PATHS = 64 };

struct identity {
    const char *name;
    gnutls_pk_algorithm_t algorithm;
    unsigned bits;
    const char *dns; /* NULL: a client's */
    bool is_local;   /* also for 127.0.0.1 and ::1 */
    bool by_other;
    int from_day, to_day;
};

static const struct identity identities[] = {
    { "server", GNUTLS_PK_RSA, 2048, "localhost", true, false, -1, 30 },
    { "ecdsa", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), "localhost", true,
      false, -1, 30 },
    { "ed25519", GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519),
      "localhost", true, false, -1, 30 },
    { "expired", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), "localhost",
      true, false, -30, -1 },
    { "not_yet", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), "localhost",
      true, false, 10, 30 },
    { "wrong_host", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
      "elsewhere.example", false, false, -1, 30 },
    { "client", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), NULL, false,
      false, -1, 30 },
    { "intruder", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), NULL, false,
      true, -1, 30 },
};

struct authority {
    gnutls_x509_crt_t certificate;
    gnutls_x509_privkey_t key;
};

static char *folder;
static pid_t maker;

/* A test that cannot have its certificates has nothing to say. */
static void
must(int status, const char *what)
{
    if (status >= 0)
        return;
    fprintf(stderr, "certificates: %s: %s\n", what, gnutls_strerror(status));
    exit(EXIT_FAILURE);
}

static void
write_file(const char *name, const void *bytes, size_t size, bool append)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, append ? "ae" : "we");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0 ||
        chmod(path, 0644) != 0)
        must(GNUTLS_E_FILE_ERROR, path);
}

static void
write_datum(const char *name, gnutls_datum_t *datum, bool append)
{
    write_file(name, datum->data, datum->size, append);
    gnutls_free(datum->data);
}

static gnutls_x509_privkey_t
make_key(gnutls_pk_algorithm_t algorithm, unsigned bits)
{
    gnutls_x509_privkey_t key;

    must(gnutls_x509_privkey_init(&key), "a key");
    must(gnutls_x509_privkey_generate(key, algorithm, bits, 0), "a key");
    return key;
}

static gnutls_x509_crt_t
make_certificate(gnutls_x509_privkey_t key, const char *common_name, int from_day, int to_day)
{
    static uint8_t serial[4] = { 0x40, 0, 0, 0 };
    time_t now = time(NULL);
    gnutls_x509_crt_t c;

    serial[3]++;
    must(gnutls_x509_crt_init(&c), "a certificate");
    must(gnutls_x509_crt_set_version(c, 3), "version");
    must(gnutls_x509_crt_set_serial(c, serial, sizeof(serial)), "serial");
    must(gnutls_x509_crt_set_activation_time(c, now + from_day * (time_t)DAY_S), "activation");
    must(gnutls_x509_crt_set_expiration_time(c, now + to_day * (time_t)DAY_S), "expiration");
    must(gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, common_name,
                                       (unsigned)strlen(common_name)),
         "name");
    must(gnutls_x509_crt_set_key(c, key), "key");
    return c;
}

static struct authority
make_authority(const char *common_name, const char *file)
{
    struct authority a;
    gnutls_datum_t pem;

    a.key = make_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
    a.certificate = make_certificate(a.key, common_name, -60, 60);
    must(gnutls_x509_crt_set_ca_status(a.certificate, 1), "CA");
    must(gnutls_x509_crt_set_key_usage(a.certificate, GNUTLS_KEY_KEY_CERT_SIGN), "usage");
    must(gnutls_x509_crt_sign2(a.certificate, a.certificate, a.key, GNUTLS_DIG_SHA256, 0), "sign");
    must(gnutls_x509_crt_export2(a.certificate, GNUTLS_X509_FMT_PEM, &pem), "PEM");
    write_datum(file, &pem, false);
    return a;
}

static void
set_names(gnutls_x509_crt_t c, const struct identity *i)
{
    uint8_t four[4] = { 127, 0, 0, 1 }, six[16] = { [15] = 1 };

    if (i->dns != NULL)
        must(gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_DNSNAME, i->dns,
                                                  (unsigned)strlen(i->dns), GNUTLS_FSAN_APPEND),
             "DNS name");
    if (i->is_local) {
        must(gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_IPADDRESS, four, 4,
                                                  GNUTLS_FSAN_APPEND),
             "address");
        must(gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_IPADDRESS, six, 16,
                                                  GNUTLS_FSAN_APPEND),
             "address");
    }
    must(gnutls_x509_crt_set_key_purpose_oid(
             c, i->dns != NULL ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0),
         "purpose");
    must(gnutls_x509_crt_set_key_usage(c, GNUTLS_KEY_DIGITAL_SIGNATURE), "usage");
}

static void
write_identity(const struct identity *i, const struct authority *by, gnutls_x509_privkey_t key)
{
    gnutls_x509_crt_t c =
        make_certificate(key, i->dns != NULL ? i->dns : i->name, i->from_day, i->to_day);
    gnutls_datum_t pem, key_pem;
    char name[64];

    set_names(c, i);
    must(gnutls_x509_crt_sign2(c, by->certificate, by->key, GNUTLS_DIG_SHA256, 0), "sign");
    must(gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_PEM, &pem), "PEM");
    must(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                           &key_pem),
         "PKCS#8");
    snprintf(name, sizeof(name), "%s.pem", i->name);
    write_file(name, pem.data, pem.size, false);
    snprintf(name, sizeof(name), "%s.key", i->name);
    write_file(name, key_pem.data, key_pem.size, false);
    snprintf(name, sizeof(name), "%s.both.pem", i->name);
    write_datum(name, &pem, false);
    write_datum(name, &key_pem, true);
    gnutls_x509_crt_deinit(c);
}

static void
copy_file(const char *from, const char *to, bool append)
{
    char path[PATH_MAX];
    size_t size;
    char *text;

    snprintf(path, sizeof(path), "%s/%s", folder, from);
    text = harness_read_file(path, &size);
    must(text != NULL ? 0 : GNUTLS_E_FILE_ERROR, from);
    write_file(to, text, size, append);
    free(text);
}

/* Other forms of the RSA key. */
static void
write_forms(gnutls_x509_privkey_t key)
{
    static const char broken[] = "-----BEGIN CERTIFICATE-----\nno base64 here!\n"
                                 "-----END CERTIFICATE-----\n";
    gnutls_datum_t pem;

    must(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), "PKCS#1");
    write_datum("server.pkcs1.key", &pem, false);
    must(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, HARNESS_PASSWORD,
                                           GNUTLS_PKCS_PBES2_AES_256, &pem),
         "encrypted PKCS#8");
    write_datum("server.encrypted.key", &pem, false);
    copy_file("server.pem", "server.encrypted.both.pem", false);
    copy_file("server.encrypted.key", "server.encrypted.both.pem", true);
    write_file("broken.pem", broken, sizeof(broken) - 1, false);
}

static void
remove_all(void)
{
    /* Not in a forked child that ends by exit(). */
    if (getpid() == maker)
        harness_remove_folder(folder);
}

static void
make_all(void)
{
    struct authority ca, other;
    gnutls_datum_t key_pem;

    folder = harness_make_folder();
    maker = getpid();
    atexit(remove_all);
    ca = make_authority("Cordon test authority", "ca.pem");
    must(gnutls_x509_privkey_export2_pkcs8(ca.key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                           &key_pem),
         "PKCS#8");
    write_datum("ca.key", &key_pem, false);
    other = make_authority("Another authority", "other_ca.pem");
    for (size_t i = 0; i < sizeof(identities) / sizeof(*identities); i++) {
        gnutls_x509_privkey_t key = make_key(identities[i].algorithm, identities[i].bits);

        write_identity(&identities[i], identities[i].by_other ? &other : &ca, key);
        if (strcmp(identities[i].name, "server") == 0)
            write_forms(key);
        gnutls_x509_privkey_deinit(key);
    }
    copy_file("server.pem", "mismatch.pem", false);
    copy_file("ecdsa.key", "mismatch.key", false);
    gnutls_x509_crt_deinit(ca.certificate);
    gnutls_x509_privkey_deinit(ca.key);
    gnutls_x509_crt_deinit(other.certificate);
    gnutls_x509_privkey_deinit(other.key);
}

const char *
harness_cert(const char *name)
{
    static char *paths[PATHS];
    char *path;

    if (folder == NULL)
        make_all();
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        abort();
    for (size_t i = 0; i < PATHS; i++) {
        if (paths[i] == NULL)
            return paths[i] = path;
        if (strcmp(paths[i], path) == 0) {
            free(path);
            return paths[i];
        }
    }
    abort();
}

/* --- Renewal -------------------------------------------------------------------------------- */

static gnutls_x509_privkey_t read_key(const char *name);

static bool
write_renewed(const char *path, gnutls_x509_crt_t c, gnutls_x509_privkey_t key)
{
    char fresh[PATH_MAX];
    gnutls_datum_t pem, key_pem;
    FILE *file;
    bool done;

    must(gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_PEM, &pem), "PEM");
    must(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                           &key_pem),
         "PKCS#8");
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    file = fopen(fresh, "we");
    done = file != NULL && fwrite(pem.data, 1, pem.size, file) == pem.size &&
           fwrite(key_pem.data, 1, key_pem.size, file) == key_pem.size;
    done = file != NULL && fclose(file) == 0 && done && chmod(fresh, 0644) == 0 &&
           rename(fresh, path) == 0;
    gnutls_free(pem.data);
    gnutls_free(key_pem.data);
    return done;
}

bool
harness_cert_renew(const char *path, uint32_t serial)
{
    static const struct identity local = { .name = "renewed",
                                           .dns = "localhost",
                                           .is_local = true };
    const uint8_t bytes[4] = { (uint8_t)(serial >> 24), (uint8_t)(serial >> 16),
                               (uint8_t)(serial >> 8), (uint8_t)serial };
    gnutls_x509_privkey_t key =
        make_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
    gnutls_x509_crt_t c = make_certificate(key, local.dns, -1, 30);
    struct authority ca = { .key = read_key("ca") };
    gnutls_datum_t pem;
    bool done;

    must(gnutls_load_file(harness_cert("ca.pem"), &pem), "ca.pem");
    must(gnutls_x509_crt_init(&ca.certificate), "ca.pem");
    must(gnutls_x509_crt_import(ca.certificate, &pem, GNUTLS_X509_FMT_PEM), "ca.pem");
    gnutls_free(pem.data);
    must(gnutls_x509_crt_set_serial(c, bytes, sizeof(bytes)), "serial");
    set_names(c, &local);
    must(gnutls_x509_crt_sign2(c, ca.certificate, ca.key, GNUTLS_DIG_SHA256, 0), "sign");
    done = write_renewed(path, c, key);
    gnutls_x509_crt_deinit(c);
    gnutls_x509_crt_deinit(ca.certificate);
    gnutls_x509_privkey_deinit(ca.key);
    gnutls_x509_privkey_deinit(key);
    return done;
}

/* --- Numbers -------------------------------------------------------------------------------- */

static gnutls_x509_privkey_t
read_key(const char *name)
{
    char file[64];
    gnutls_x509_privkey_t key;
    gnutls_datum_t pem;

    snprintf(file, sizeof(file), "%s.key", name);
    must(gnutls_load_file(harness_cert(file), &pem), file);
    must(gnutls_x509_privkey_init(&key), file);
    must(gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0), file);
    gnutls_free(pem.data);
    return key;
}

static size_t
copy_number(const gnutls_datum_t *datum, uint8_t *bytes, size_t room)
{
    const uint8_t *at = datum->data;
    size_t size = datum->size;

    while (size > 0 && *at == 0) {
        at++;
        size--;
    }
    if (size == 0 || size > room)
        return 0;
    memcpy(bytes, at, size);
    return size;
}

size_t
harness_key_number(const char *name, char number, uint8_t *bytes, size_t room)
{
    gnutls_x509_privkey_t key = read_key(name);
    gnutls_datum_t d[8] = { { 0 } };
    const gnutls_datum_t *wanted = NULL;
    gnutls_ecc_curve_t curve;
    size_t size = 0;

    if (gnutls_x509_privkey_get_pk_algorithm(key) == GNUTLS_PK_RSA) {
        must(gnutls_x509_privkey_export_rsa_raw2(key, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5],
                                                 &d[6], &d[7]),
             name);
        wanted = number == 'd' ? &d[2] : number == 'p' ? &d[3] : number == 'q' ? &d[4] : NULL;
    } else if (number == 'k') {
        must(gnutls_x509_privkey_export_ecc_raw(key, &curve, &d[0], &d[1], &d[2]), name);
        wanted = &d[2];
    }
    if (wanted != NULL)
        size = copy_number(wanted, bytes, room);
    for (size_t i = 0; i < 8; i++)
        gnutls_free(d[i].data);
    gnutls_x509_privkey_deinit(key);
    return size;
}

size_t
harness_key_der(const char *name, uint8_t *bytes, size_t room)
{
    gnutls_x509_privkey_t key = read_key(name);
    size_t size = room;

    must(gnutls_x509_privkey_export_pkcs8(key, GNUTLS_X509_FMT_DER, NULL, GNUTLS_PKCS_PLAIN, bytes,
                                          &size),
         name);
    gnutls_x509_privkey_deinit(key);
    return size;
}
