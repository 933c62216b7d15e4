/*
 * Certificates and keys, made once for a test program, in a folder that our
 * users may read.  A name is a file: harness_cert("server.pem").
 *
 *   ca.pem other_ca.pem            authorities; everything is signed by the first but intruder
 *   server  ecdsa  ed25519         for localhost, 127.0.0.1 and ::1: RSA 2048, P-256, Ed25519
 *   expired  not_yet  wrong_host   as server, but
 *   client  intruder               client certificates: of the first and of the other authority
 *
 * Each of these has NAME.pem, NAME.key (PKCS#8) and NAME.both.pem.  And:
 *
 *   server.pkcs1.key               BEGIN RSA PRIVATE KEY
 *   server.encrypted.key           PKCS#8, AES-256, password HARNESS_PASSWORD
 *   server.encrypted.both.pem      the same with the certificate
 *   mismatch.pem mismatch.key      a certificate and a key that is another's
 *   broken.pem                     no PEM inside its lines
 */
#ifndef CORDON_TESTS_HARNESS_CERTS_H
#define CORDON_TESTS_HARNESS_CERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HARNESS_PASSWORD "Sesam, oeffne dich 4711"

/* The path of a file; makes them all at the first call. Belongs to the harness. */
const char *harness_cert(const char *name);

/*
 * Puts a fresh certificate for localhost and its P-256 key, in one file, in the place of path, as an
 * installer does it: never half a file.  serial is 1 to 0x3fffffff.
 */
bool harness_cert_renew(const char *path, uint32_t serial);

/* A number of a private key file's (NAME.key), big-endian without leading zeros: RSA d p q, EC k,
 * Ed25519 k.  Returns its size, 0 if the key has none of that name. */
size_t harness_key_number(const char *name, char number, uint8_t *bytes, size_t room);

/* The DER of NAME.key's only PEM block, as stored. Returns its size. */
size_t harness_key_der(const char *name, uint8_t *bytes, size_t room);

#ifdef __cplusplus
}
#endif

#endif
