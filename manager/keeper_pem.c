#include "manager/keeper_pem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <nettle/base64.h>

enum { LABEL_MAX = 64, BASE64_LINE = 64 };

static const char begin_mark[] = "-----BEGIN ";
static const char end_mark[] = "-----END ";
static const char dashes[] = "-----";
static const char certificate_begin[] = "-----BEGIN CERTIFICATE-----\n";
static const char certificate_end[] = "-----END CERTIFICATE-----\n";

enum block_kind { BLOCK_OTHER, BLOCK_KEY, BLOCK_FOREIGN_KEY, BLOCK_CERTIFICATE };

struct block {
    enum block_kind kind;
    struct bytes whole; /* from BEGIN to the end of END's line */
    struct bytes body;  /* between the two lines */
};

/* One line off the front, without its end of line. */
static struct bytes
take_line(struct bytes *rest)
{
    const uint8_t *newline = memchr(rest->data, '\n', rest->size);
    size_t taken = newline ? (size_t)(newline - rest->data) + 1 : rest->size;
    struct bytes line = { rest->data, newline ? taken - 1 : taken };

    rest->data += taken;
    rest->size -= taken;
    while (line.size > 0 && strchr("\r \t", line.data[line.size - 1]) &&
           line.data[line.size - 1] != '\0')
        line.size--;
    return line;
}

/* The label of a line that is mark, label, five dashes; false for any other line. */
static bool
read_label(struct bytes line, const char *mark, char label[LABEL_MAX])
{
    size_t mark_size = strlen(mark);
    size_t dash_size = strlen(dashes);
    size_t size;

    if (line.size < mark_size + dash_size || memcmp(line.data, mark, mark_size) != 0 ||
        memcmp(line.data + line.size - dash_size, dashes, dash_size) != 0)
        return false;
    size = line.size - mark_size - dash_size;
    if (size >= LABEL_MAX)
        return false;
    memcpy(label, line.data + mark_size, size);
    label[size] = '\0';
    return true;
}

static enum block_kind
kind_of_label(const char *label)
{
    static const struct {
        const char *label;
        enum block_kind kind;
    } kinds[] = {
        { "CERTIFICATE", BLOCK_CERTIFICATE }, { "X509 CERTIFICATE", BLOCK_CERTIFICATE },
        { "PRIVATE KEY", BLOCK_KEY },         { "ENCRYPTED PRIVATE KEY", BLOCK_KEY },
        { "RSA PRIVATE KEY", BLOCK_KEY },     { "EC PRIVATE KEY", BLOCK_KEY },
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].label, label) == 0)
            return kinds[i].kind;
    }
    return strstr(label, "PRIVATE KEY") ? BLOCK_FOREIGN_KEY : BLOCK_OTHER;
}

/* The block whose BEGIN line was just taken; rest moves behind its END line. */
static const char *
read_block(const uint8_t *start, const char *label, struct bytes *rest, struct block *block)
{
    const uint8_t *body = rest->data;
    char end_label[LABEL_MAX];

    while (rest->size > 0) {
        const uint8_t *line_start = rest->data;
        struct bytes line = take_line(rest);

        if (read_label(line, begin_mark, end_label))
            return "a PEM block begins inside another one";
        if (!read_label(line, end_mark, end_label))
            continue;
        if (strcmp(label, end_label) != 0)
            return "a PEM block ends with another name than it began with";
        block->kind = kind_of_label(label);
        block->whole = (struct bytes){ start, (size_t)(rest->data - start) };
        block->body = (struct bytes){ body, (size_t)(line_start - body) };
        return NULL;
    }
    return "a PEM block has no end";
}

/* The base64 characters of a block, without white space.  Gives *base64; MALFORMED if there are
 * other characters. */
static enum result
base64_only(struct bytes body, char **base64, size_t *size)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789+/=";
    char *kept = malloc(body.size + 1);
    size_t count = 0;

    if (!kept)
        return RESULT_NO_MEMORY;
    for (size_t i = 0; i < body.size; i++) {
        char c = (char)body.data[i];

        if (c == '\n' || c == '\r' || c == ' ' || c == '\t')
            continue;
        if (c == '\0' || !strchr(alphabet, c)) {
            free(kept);
            return RESULT_MALFORMED;
        }
        kept[count++] = c;
    }
    *base64 = kept;
    *size = count;
    return RESULT_OK;
}

/*
 * A certificate is a SEQUENCE that starts with a SEQUENCE whose first part is [0] (the version) or
 * an INTEGER (the serial number, X.509 v1).  A PKCS#8, PKCS#1 or SEC1 key is a SEQUENCE that starts
 * with an INTEGER, an encrypted one's inner SEQUENCE starts with an OBJECT IDENTIFIER.
 */
static bool
starts_as_certificate(const char *base64, size_t size)
{
    struct base64_decode_ctx ctx;
    uint8_t der[BASE64_DECODE_LENGTH(16)];
    size_t der_size = sizeof der;
    size_t at = 0;

    if (size < 16)
        return false;
    base64_decode_init(&ctx);
    if (!base64_decode_update(&ctx, &der_size, der, 16, base64))
        return false;
    for (int depth = 0; depth < 2; depth++) {
        if (at + 1 >= der_size || der[at] != 0x30)
            return false;
        at += der[at + 1] < 0x80 ? 2 : 2 + (size_t)(der[at + 1] & 0x7f);
    }
    return at < der_size && (der[at] == 0xa0 || der[at] == 0x02);
}

static void
append(struct keeper_pem *pem, const void *bytes, size_t size)
{
    memcpy(pem->certificates + pem->certificates_size, bytes, size);
    pem->certificates_size += size;
}

static enum result
add_certificate(struct keeper_pem *pem, struct bytes body, const char **why)
{
    char *base64 = NULL;
    char *grown;
    size_t size = 0;
    enum result result = base64_only(body, &base64, &size);

    if (result == RESULT_OK && !starts_as_certificate(base64, size))
        result = RESULT_MALFORMED;
    if (result != RESULT_OK) {
        free(base64);
        *why = "a block named CERTIFICATE holds something else";
        return result;
    }
    grown = realloc(pem->certificates, pem->certificates_size + size + size / BASE64_LINE + 1 +
                                           sizeof certificate_begin + sizeof certificate_end);
    if (!grown) {
        free(base64);
        return RESULT_NO_MEMORY;
    }
    pem->certificates = grown;
    append(pem, certificate_begin, strlen(certificate_begin));
    for (size_t at = 0; at < size; at += BASE64_LINE) {
        append(pem, base64 + at, size - at < BASE64_LINE ? size - at : BASE64_LINE);
        append(pem, "\n", 1);
    }
    append(pem, certificate_end, strlen(certificate_end));
    pem->certificate_count++;
    free(base64);
    return RESULT_OK;
}

static enum result
add_block(struct keeper_pem *pem, const struct block *block, const char **why)
{
    switch (block->kind) {
    case BLOCK_CERTIFICATE:
        return add_certificate(pem, block->body, why);
    case BLOCK_KEY:
        if (pem->key_count++ == 0)
            pem->key = block->whole;
        break;
    case BLOCK_FOREIGN_KEY:
        pem->foreign_key_count++;
        break;
    case BLOCK_OTHER:
        break;
    }
    return RESULT_OK;
}

enum result
keeper_pem_split(struct keeper_pem *pem, const void *bytes, size_t size, const char **why)
{
    struct bytes rest = { bytes, size };
    struct keeper_pem found = { 0 };
    enum result result = RESULT_OK;

    while (rest.size > 0 && result == RESULT_OK) {
        const uint8_t *start = rest.data;
        char label[LABEL_MAX];
        struct block block = { 0 };

        if (!read_label(take_line(&rest), begin_mark, label))
            continue;
        *why = read_block(start, label, &rest, &block);
        result = *why ? RESULT_MALFORMED : add_block(&found, &block, why);
    }
    if (result != RESULT_OK) {
        keeper_pem_fini(&found);
        return result;
    }
    *pem = found;
    return RESULT_OK;
}

void
keeper_pem_fini(struct keeper_pem *pem)
{
    free(pem->certificates);
    *pem = (struct keeper_pem){ 0 };
}
