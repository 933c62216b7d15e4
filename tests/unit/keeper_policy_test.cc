extern "C" {
#include "manager/keeper_policy.h"
}

#include <gnutls/gnutls.h>
#include <gtest/gtest.h>

#include <cstring>
#include <ostream>
#include <string>
#include <vector>

namespace {

using Bytes = std::string;

enum { P256 = 23, P384 = 24, P521 = 25, X25519 = 29, X448 = 30 };

Bytes Number(size_t value, int width) {
    Bytes out;

    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8)
        out += static_cast<char>(value >> shift & 0xff);
    return out;
}

Bytes Vector(const Bytes &content, int width) {
    return Number(content.size(), width) + content;
}

Bytes Datum(const gnutls_datum_t &datum) {
    return Bytes(reinterpret_cast<const char *>(datum.data), datum.size);
}

/* --- TLS 1.2, server ------------------------------------------------------------------ */

const Bytes kClientRandom(32, 'c');
const Bytes kServerRandom(32, 's');
const Bytes kSentinel("DOWNGRD\x01");
const Bytes kMarkedRandom = Bytes(24, 's') + kSentinel;

Bytes Ecdh(int group, size_t size, char form = 0x04) {
    return Number(3, 1) + Number(static_cast<size_t>(group), 2) +
           Vector(form + Bytes(size - 1, 'p'), 1);
}

Bytes Dh(const Bytes &p, const Bytes &g, const Bytes &y) {
    return Vector(p, 2) + Vector(g, 2) + Vector(y, 2);
}

Bytes Prime2048() {
    return Datum(gnutls_ffdhe_2048_group_prime);
}

Bytes Content(const Bytes &params) {
    return kClientRandom + kMarkedRandom + params;
}

/* --- TLS 1.2, client ------------------------------------------------------------------ */

Bytes Handshake(int type, const Bytes &body) {
    return Number(static_cast<size_t>(type), 1) + Vector(body, 3);
}

Bytes Hello(int type, int version = 0x0303) {
    return Handshake(type, Number(static_cast<size_t>(version), 2) + Bytes(32, 'r') +
                               Vector("session", 1) + "what follows");
}

/* Messages of an honest client, by their types; 0x0303 hellos. */
Bytes Messages(const std::vector<int> &types) {
    Bytes out;

    for (int type : types)
        out += type <= 2 ? Hello(type) : Handshake(type, type == 14 ? "" : "body");
    return out;
}

Bytes HonestClient() {
    return Messages({1, 2, 11, 12, 13, 14, 11, 16});
}

/* --- the table ------------------------------------------------------------------------ */

struct Attempt {
    const char *name;
    bool is_allowed;
    keeper_grant grant;
    uint32_t scheme;
    uint32_t version;
    Bytes content;
};

void PrintTo(const Attempt &attempt, std::ostream *os) {
    *os << attempt.name;
}

keeper_grant Grant(tls_role role, key_algorithm algorithm, uint32_t curve = 0,
                   uint32_t versions = TLS_1_2 | TLS_1_3, uint32_t budget = 1) {
    keeper_grant grant = {};

    grant.role = role;
    grant.versions = versions;
    grant.budget = budget;
    grant.algorithm = algorithm;
    grant.curve = curve;
    return grant;
}

const keeper_grant kRsa = Grant(ROLE_SERVER, KEY_RSA);
const keeper_grant kRsaClient = Grant(ROLE_CLIENT, KEY_RSA);
const keeper_grant kP256 = Grant(ROLE_SERVER, KEY_ECDSA, P256);
const keeper_grant kP384 = Grant(ROLE_SERVER, KEY_ECDSA, P384);
const keeper_grant kP521 = Grant(ROLE_SERVER, KEY_ECDSA, P521);
const keeper_grant kEd = Grant(ROLE_SERVER, KEY_ED25519);
const Bytes kHash32(32, 'h');
const Bytes kHash48(48, 'h');

std::vector<Attempt> Attempts13() {
    return {
        {"RsaPss256", true, kRsa, 0x0804, TLS_1_3, kHash32},
        {"RsaPss384", true, kRsa, 0x0805, TLS_1_3, kHash48},
        {"RsaPss512", true, kRsa, 0x0806, TLS_1_3, kHash32},
        {"P256", true, kP256, 0x0403, TLS_1_3, kHash32},
        {"P256WithTheHashOfASha384Suite", true, kP256, 0x0403, TLS_1_3, kHash48},
        {"P384", true, kP384, 0x0503, TLS_1_3, kHash48},
        {"P521", true, kP521, 0x0603, TLS_1_3, kHash48},
        {"Ed25519", true, kEd, 0x0807, TLS_1_3, kHash32},
        {"Client", true, kRsaClient, 0x0804, TLS_1_3, kHash32},
        {"SecondOfTwo", true, Grant(ROLE_SERVER, KEY_RSA, 0, TLS_1_3, 2), 0x0804, TLS_1_3, kHash32},

        {"NoBudgetLeft", false, Grant(ROLE_SERVER, KEY_RSA, 0, TLS_1_3, 0), 0x0804, TLS_1_3,
         kHash32},
        {"NoHash", false, kRsa, 0x0804, TLS_1_3, ""},
        {"HashTooShort", false, kRsa, 0x0804, TLS_1_3, Bytes(31, 'h')},
        {"HashOfNoSuite", false, kRsa, 0x0804, TLS_1_3, Bytes(33, 'h')},
        {"Sha1Hash", false, kRsa, 0x0804, TLS_1_3, Bytes(20, 'h')},
        {"Sha512Hash", false, kRsa, 0x0804, TLS_1_3, Bytes(64, 'h')},
        {"WholeContentInsteadOfHash", false, kRsa, 0x0804, TLS_1_3,
         Bytes(64, ' ') + "TLS 1.3, server CertificateVerify" + Bytes(1, '\0') + kHash32},
        {"PkcsPadding", false, kRsa, 0x0401, TLS_1_3, kHash32},
        {"Sha1", false, kRsa, 0x0201, TLS_1_3, kHash32},
        {"PssKeyScheme", false, kRsa, 0x0809, TLS_1_3, kHash32},
        {"EcdsaWithRsaKey", false, kRsa, 0x0403, TLS_1_3, kHash32},
        {"RsaWithEcdsaKey", false, kP256, 0x0804, TLS_1_3, kHash32},
        {"EdWithEcdsaKey", false, kP256, 0x0807, TLS_1_3, kHash32},
        {"EcdsaWithEdKey", false, kEd, 0x0403, TLS_1_3, kHash32},
        {"P384SchemeWithP256Key", false, kP256, 0x0503, TLS_1_3, kHash48},
        {"P256SchemeWithP384Key", false, kP384, 0x0403, TLS_1_3, kHash32},
        {"P521SchemeWithP384Key", false, kP384, 0x0603, TLS_1_3, kHash48},
        {"Ed448", false, kEd, 0x0808, TLS_1_3, kHash32},
        {"SchemeZero", false, kRsa, 0, TLS_1_3, kHash32},
        {"ContextWithout13", false, Grant(ROLE_SERVER, KEY_RSA, 0, TLS_1_2), 0x0804, TLS_1_3,
         kHash32},
        {"Tls10", false, Grant(ROLE_SERVER, KEY_RSA, 0, 15), 0x0401, TLS_1_0, kHash32},
        {"Tls11", false, Grant(ROLE_SERVER, KEY_RSA, 0, 15), 0x0401, TLS_1_1, kHash32},
        {"VersionZero", false, Grant(ROLE_SERVER, KEY_RSA, 0, 15), 0x0804, 0, kHash32},
        {"TwoVersions", false, kRsa, 0x0804, TLS_1_2 | TLS_1_3, kHash32},
    };
}

std::vector<Attempt> AttemptsServer12() {
    const Bytes ecdh = Content(Ecdh(P256, 65));
    const keeper_grant only12 = Grant(ROLE_SERVER, KEY_RSA, 0, TLS_1_2);
    const Bytes two = "\x02";

    return {
        {"Pkcs256", true, kRsa, 0x0401, TLS_1_2, ecdh},
        {"Pkcs384", true, kRsa, 0x0501, TLS_1_2, ecdh},
        {"Pkcs512", true, kRsa, 0x0601, TLS_1_2, ecdh},
        {"Pss256", true, kRsa, 0x0804, TLS_1_2, ecdh},
        {"Pss384", true, kRsa, 0x0805, TLS_1_2, ecdh},
        {"Pss512", true, kRsa, 0x0806, TLS_1_2, ecdh},
        {"EcdsaOwnHash", true, kP256, 0x0403, TLS_1_2, ecdh},
        {"EcdsaOtherHash", true, kP256, 0x0603, TLS_1_2, ecdh},
        {"EcdsaP384WithSha256", true, kP384, 0x0403, TLS_1_2, ecdh},
        {"Ed", true, kEd, 0x0807, TLS_1_2, ecdh},
        {"GroupP384", true, kRsa, 0x0401, TLS_1_2, Content(Ecdh(P384, 97))},
        {"GroupP521", true, kRsa, 0x0401, TLS_1_2, Content(Ecdh(P521, 133))},
        {"GroupX25519", true, kRsa, 0x0401, TLS_1_2, Content(Ecdh(X25519, 32, 'x'))},
        {"GroupX448", true, kRsa, 0x0401, TLS_1_2, Content(Ecdh(X448, 56, 'x'))},
        {"Ffdhe2048", true, kRsa, 0x0401, TLS_1_2, Content(Dh(Prime2048(), two, Bytes(256, 'y')))},
        {"Ffdhe2048ShortPublic", true, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Prime2048(), two, Bytes(255, 'y')))},
        {"Ffdhe3072", true, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Datum(gnutls_ffdhe_3072_group_prime), two, Bytes(384, 'y')))},
        {"Ffdhe4096", true, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Datum(gnutls_ffdhe_4096_group_prime), two, Bytes(512, 'y')))},
        {"Ffdhe6144", true, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Datum(gnutls_ffdhe_6144_group_prime), two, Bytes(768, 'y')))},
        {"Ffdhe8192", true, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Datum(gnutls_ffdhe_8192_group_prime), two, Bytes(1024, 'y')))},
        {"NoSentinelNeededWithout13", true, only12, 0x0401, TLS_1_2,
         kClientRandom + kServerRandom + Ecdh(P256, 65)},

        {"NoBudgetLeft", false, Grant(ROLE_SERVER, KEY_RSA, 0, TLS_1_2, 0), 0x0401, TLS_1_2, ecdh},
        {"Sha1", false, kRsa, 0x0201, TLS_1_2, ecdh},
        {"Md5", false, kRsa, 0x0101, TLS_1_2, ecdh},
        {"Sha224", false, kRsa, 0x0301, TLS_1_2, ecdh},
        {"EcdsaSha1", false, kP256, 0x0203, TLS_1_2, ecdh},
        {"Md5Sha1", false, kRsa, 0xff01, TLS_1_2, ecdh},
        {"WrongKind", false, kEd, 0x0401, TLS_1_2, ecdh},
        {"ContextWithout12", false, Grant(ROLE_SERVER, KEY_RSA, 0, TLS_1_3), 0x0401, TLS_1_2, ecdh},
        {"NoSentinel", false, kRsa, 0x0401, TLS_1_2,
         kClientRandom + kServerRandom + Ecdh(P256, 65)},
        {"SentinelOf11", false, kRsa, 0x0401, TLS_1_2,
         kClientRandom + Bytes(24, 's') + "DOWNGRD" + Bytes(1, '\0') + Ecdh(P256, 65)},
        {"SentinelInTheClientRandom", false, kRsa, 0x0401, TLS_1_2,
         kMarkedRandom + kServerRandom + Ecdh(P256, 65)},
        {"SpacesAsClientRandom", false, kRsa, 0x0401, TLS_1_2,
         Bytes(32, ' ') + kMarkedRandom + Ecdh(P256, 65)},
        {"SpacesAsServerRandom", false, only12, 0x0401, TLS_1_2,
         kClientRandom + Bytes(32, ' ') + Ecdh(P256, 65)},
        {"A13ContentAs12", false, only12, 0x0401, TLS_1_2,
         Bytes(64, ' ') + "TLS 1.3, server CertificateVerify" + Bytes(1, '\0') + kHash32},
        {"Empty", false, kRsa, 0x0401, TLS_1_2, ""},
        {"RandomsOnly", false, kRsa, 0x0401, TLS_1_2, kClientRandom + kMarkedRandom},
        {"ADigest", false, kRsa, 0x0401, TLS_1_2, kHash32},
        {"BytesAfterTheParameters", false, kRsa, 0x0401, TLS_1_2, ecdh + "x"},
        {"TwoParameters", false, kRsa, 0x0401, TLS_1_2, ecdh + Ecdh(P256, 65)},
        {"ParametersCut", false, kRsa, 0x0401, TLS_1_2, ecdh.substr(0, ecdh.size() - 1)},
        {"PointTooShort", false, kRsa, 0x0401, TLS_1_2, Content(Ecdh(P256, 64))},
        {"PointOfAnotherGroup", false, kRsa, 0x0401, TLS_1_2, Content(Ecdh(P256, 97))},
        {"PointCompressed", false, kRsa, 0x0401, TLS_1_2, Content(Ecdh(P256, 65, 0x02))},
        {"ShortX25519", false, kRsa, 0x0401, TLS_1_2, Content(Ecdh(X25519, 31, 'x'))},
        {"UnknownGroup", false, kRsa, 0x0401, TLS_1_2, Content(Ecdh(22, 65))},
        {"GroupZeroWithEmptyPoint", false, kRsa, 0x0401, TLS_1_2,
         Content(Number(3, 1) + Number(0, 2) + Number(0, 1))},
        {"FfdheAsNamedCurve", false, kRsa, 0x0401, TLS_1_2, Content(Ecdh(256, 32))},
        {"ExplicitPrimeCurve", false, kRsa, 0x0401, TLS_1_2,
         Content(Number(1, 1) + Number(P256, 2) + Vector(Bytes(65, 4), 1))},
        {"DhOwnPrime", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Bytes(256, '\xff'), two, Bytes(256, 'y')))},
        {"DhPrimeOfOneBitMore", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Bytes(1, '\0') + Prime2048(), two, Bytes(256, 'y')))},
        {"DhOtherGenerator", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Prime2048(), "\x05", Bytes(256, 'y')))},
        {"DhPublicOne", false, kRsa, 0x0401, TLS_1_2, Content(Dh(Prime2048(), two, "\x01"))},
        {"DhPublicZero", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Prime2048(), two, Bytes(256, '\0')))},
        {"DhPublicEmpty", false, kRsa, 0x0401, TLS_1_2, Content(Dh(Prime2048(), two, ""))},
        {"DhPublicIsThePrime", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Prime2048(), two, Prime2048()))},
        {"DhPublicTooLong", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Prime2048(), two, Bytes(1, '\0') + Bytes(256, 'y')))},
        {"DhBytesAfter", false, kRsa, 0x0401, TLS_1_2,
         Content(Dh(Prime2048(), two, Bytes(256, 'y')) + "x")},
        {"AClientsListOverAServersChannel", false, kRsa, 0x0401, TLS_1_2, HonestClient()},
    };
}

std::vector<Attempt> AttemptsClient12() {
    const keeper_grant c = kRsaClient;

    return {
        {"Honest", true, c, 0x0401, TLS_1_2, HonestClient()},
        {"WithStatus", true, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 22, 12, 13, 14, 11, 16})},
        {"RsaKeyExchange", true, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 13, 14, 11, 16})},
        {"OldRecordVersionInClientHello", true, c, 0x0401, TLS_1_2,
         Hello(1, 0x0301) + Messages({2, 11, 12, 13, 14, 11, 16})},

        {"Empty", false, c, 0x0401, TLS_1_2, ""},
        {"ADigest", false, c, 0x0401, TLS_1_2, kHash32},
        {"NoClientHello", false, c, 0x0401, TLS_1_2, Messages({2, 11, 12, 13, 14, 11, 16})},
        {"NoServerHello", false, c, 0x0401, TLS_1_2, Messages({1, 11, 12, 13, 14, 11, 16})},
        {"NoServerCertificate", false, c, 0x0401, TLS_1_2, Messages({1, 2, 12, 13, 14, 11, 16})},
        {"NoCertificateRequest", false, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 12, 14, 11, 16})},
        {"NoServerHelloDone", false, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 12, 13, 11, 16})},
        {"NoOwnCertificate", false, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 12, 13, 14, 16})},
        {"NoClientKeyExchange", false, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 12, 13, 14, 11})},
        {"SomethingAfterIt", false, c, 0x0401, TLS_1_2, HonestClient() + Handshake(15, "x")},
        {"SecondClientKeyExchange", false, c, 0x0401, TLS_1_2, HonestClient() + Messages({16})},
        {"Twice", false, c, 0x0401, TLS_1_2, HonestClient() + HonestClient()},
        {"OutOfOrder", false, c, 0x0401, TLS_1_2, Messages({1, 2, 12, 11, 13, 14, 11, 16})},
        {"HelloRequestFirst", false, c, 0x0401, TLS_1_2, Handshake(0, "") + HonestClient()},
        {"UnknownMessage", false, c, 0x0401, TLS_1_2, Messages({1, 2, 11, 12, 13, 14, 99, 11, 16})},
        {"CutInAHeader", false, c, 0x0401, TLS_1_2, HonestClient() + "\x10"},
        {"CutInABody", false, c, 0x0401, TLS_1_2,
         HonestClient().substr(0, HonestClient().size() - 1)},
        {"LengthBeyondTheEnd", false, c, 0x0401, TLS_1_2,
         HonestClient() + Number(16, 1) + Number(0xffffff, 3)},
        {"HelloTooShort", false, c, 0x0401, TLS_1_2,
         Handshake(1, "\x03\x03 short") + Messages({2, 11, 12, 13, 14, 11, 16})},
        {"ServerHelloOf11", false, c, 0x0401, TLS_1_2,
         Hello(1) + Hello(2, 0x0302) + Messages({11, 12, 13, 14, 11, 16})},
        {"ServerHelloOf10", false, c, 0x0401, TLS_1_2,
         Hello(1) + Hello(2, 0x0301) + Messages({11, 12, 13, 14, 11, 16})},
        {"Sha1", false, c, 0x0201, TLS_1_2, HonestClient()},
        {"Tls11", false, Grant(ROLE_CLIENT, KEY_RSA, 0, 15), 0x0401, TLS_1_1, HonestClient()},
        {"Tls10", false, Grant(ROLE_CLIENT, KEY_RSA, 0, 15), 0x0401, TLS_1_0, HonestClient()},
        {"AServersParametersOverAClientsChannel", false, c, 0x0401, TLS_1_2,
         Content(Ecdh(P256, 65))},
        {"SpacesInFront", false, c, 0x0401, TLS_1_2, Bytes(64, ' ') + HonestClient()},
        {"A13Content", false, c, 0x0804, TLS_1_2,
         Bytes(64, ' ') + "TLS 1.3, client CertificateVerify" + Bytes(1, '\0') + kHash32},
    };
}

struct bytes Borrow(const Bytes &content) {
    struct bytes borrowed = {reinterpret_cast<const uint8_t *>(content.data()), content.size()};

    return borrowed;
}

class KeeperPolicy : public testing::TestWithParam<Attempt> {};

TEST_P(KeeperPolicy, Judges) {
    const Attempt &a = GetParam();
    keeper_order order;
    const char *why = nullptr;
    enum result result =
        keeper_policy_judge(&a.grant, a.scheme, a.version, Borrow(a.content), &order, &why);

    EXPECT_EQ(a.is_allowed ? RESULT_OK : RESULT_REFUSED, result) << (why ? why : "");
    EXPECT_EQ(a.is_allowed, why == nullptr);
    if (why) {
        EXPECT_LE(strlen(why), 200u);
    }
    if (result == RESULT_OK) {
        EXPECT_EQ(a.scheme, order.scheme);
        EXPECT_EQ(a.version, order.version);
    }
    if (result == RESULT_OK && a.version == TLS_1_2) {
        EXPECT_EQ(a.content,
                  Bytes(reinterpret_cast<const char *>(order.content.data), order.content.size));
    }
}

std::string NameOf(const testing::TestParamInfo<Attempt> &info) {
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Tls13, KeeperPolicy, testing::ValuesIn(Attempts13()), NameOf);
INSTANTIATE_TEST_SUITE_P(Server12, KeeperPolicy, testing::ValuesIn(AttemptsServer12()), NameOf);
INSTANTIATE_TEST_SUITE_P(Client12, KeeperPolicy, testing::ValuesIn(AttemptsClient12()), NameOf);

Bytes Written(tls_role role, const Bytes &hash) {
    keeper_grant grant = Grant(role, KEY_RSA);
    keeper_order order;
    const char *why = nullptr;

    EXPECT_EQ(RESULT_OK, keeper_policy_judge(&grant, 0x0804, TLS_1_3, Borrow(hash), &order, &why));
    return Bytes(reinterpret_cast<const char *>(order.content.data), order.content.size);
}

TEST(KeeperPolicyContent, TheKeeperWritesTheServersContent) {
    EXPECT_EQ(Bytes(64, ' ') + "TLS 1.3, server CertificateVerify" + Bytes(1, '\0') + kHash48,
              Written(ROLE_SERVER, kHash48));
}

TEST(KeeperPolicyContent, TheKeeperWritesTheClientsContent) {
    EXPECT_EQ(Bytes(64, ' ') + "TLS 1.3, client CertificateVerify" + Bytes(1, '\0') + kHash32,
              Written(ROLE_CLIENT, kHash32));
}

/* Every byte of an honest content that is cut off the end makes it another content. */
TEST(KeeperPolicyContent, NoPrefixOfAContentIsSigned) {
    for (const Bytes &content : {Content(Ecdh(P256, 65)), HonestClient(),
                                 Content(Dh(Prime2048(), "\x02", Bytes(256, 'y')))}) {
        keeper_grant grant = Grant(content[0] == 1 ? ROLE_CLIENT : ROLE_SERVER, KEY_RSA);
        keeper_order order;
        const char *why = nullptr;

        for (size_t size = 0; size < content.size(); size++) {
            EXPECT_EQ(RESULT_REFUSED,
                      keeper_policy_judge(&grant, 0x0401, TLS_1_2, Borrow(Bytes(content, 0, size)),
                                          &order, &why))
                << size;
        }
    }
}

} // namespace
