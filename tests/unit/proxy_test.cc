/* The PROXY header, byte for byte, and what is made of one that others wrote. */
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern "C" {
#include "manager/proxy.h"
}

namespace {

using namespace std::string_literals;

const std::string SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"s;

address Ip(const char *text, uint16_t port) {
    address a = {};
    auto *in = reinterpret_cast<sockaddr_in *>(&a.bytes);
    auto *in6 = reinterpret_cast<sockaddr_in6 *>(&a.bytes);

    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        a.size = sizeof *in;
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        a.size = sizeof *in6;
    }
    return a;
}

std::string Written(const proxy_facts &facts) {
    uint8_t bytes[PROXY_WRITTEN_MAX];
    size_t size = proxy_write(bytes, &facts);

    return {reinterpret_cast<char *>(bytes), size};
}

TEST(ProxyTest, WritesWhatHaproxysReceiversRead) {
    address from = Ip("192.0.2.7", 51022), to = Ip("198.51.100.1", 443);
    proxy_facts facts = {};
    facts.source = &from;
    facts.destination = &to;
    facts.alpn = "h2";
    facts.authority = "a.example";
    facts.unique_id = "c1.2";
    facts.version = "TLSv1.3";
    facts.cipher = "TLS_AES_256_GCM_SHA384";
    facts.common_name = "me";
    facts.has_certificate = facts.is_verified = true;

    EXPECT_EQ(SIGNATURE + "\x21\x11\x00\x54"s                     /* PROXY, TCP4, 84 bytes */
                          "\xc0\x00\x02\x07\xc6\x33\x64\x01"      /* addresses */
                          "\xc7\x4e\x01\xbb"                      /* ports */
                          "\x01\x00\x02h2"s                       /* ALPN */
                          "\x02\x00\x09"s
                          "a.example" /* AUTHORITY */
                          "\x05\x00\x04"s
                          "c1.2"                                 /* UNIQUE_ID */
                          "\x20\x00\x2d\x07\x00\x00\x00\x00"s     /* SSL: all three, verified */
                          "\x21\x00\x07TLSv1.3"s                  /* VERSION */
                          "\x22\x00\x02me"s                       /* CN */
                          "\x23\x00\x16TLS_AES_256_GCM_SHA384"s,  /* CIPHER */
              Written(facts));
}

TEST(ProxyTest, NoCertificateIsNotVerified) {
    address from = Ip("::1", 1), to = Ip("::1", 2);
    proxy_facts facts = {};
    facts.source = &from;
    facts.destination = &to;
    std::string header = Written(facts);

    EXPECT_EQ("\x21\x21\x00\x2c"s, header.substr(12, 4)); /* TCP6 */
    EXPECT_EQ("\x20\x00\x05\x01\x00\x00\x00\x01"s, header.substr(16 + 36));
}

TEST(ProxyTest, AnIpv4PeerOfADualStackListenerIsAnIpv4Peer) {
    address from = Ip("::ffff:192.0.2.7", 1), to = Ip("::ffff:192.0.2.8", 2);
    proxy_facts facts = {};
    facts.source = &from;
    facts.destination = &to;

    EXPECT_EQ("\x11"s, Written(facts).substr(13, 1));
    EXPECT_EQ("\xc0\x00\x02\x07\xc0\x00\x02\x08"s, Written(facts).substr(16, 8));
}

TEST(ProxyTest, AddressesOfTwoKindsAreNone) {
    address from = Ip("192.0.2.7", 1), to = Ip("::1", 2), none = {};
    proxy_facts facts = {};
    facts.source = &from;
    facts.destination = &to;
    EXPECT_EQ("\x00\x00\x08"s, Written(facts).substr(13, 3));
    facts.destination = &none;
    EXPECT_EQ("\x00\x00\x08"s, Written(facts).substr(13, 3));
}

TEST(ProxyTest, TheLongestTextsFit) {
    std::string text(1000, 'x');
    address from = {};
    auto *un = reinterpret_cast<sockaddr_un *>(&from.bytes);
    un->sun_family = AF_UNIX;
    memset(un->sun_path, 'p', sizeof un->sun_path);
    from.size = sizeof *un;
    proxy_facts facts = {&from,        &from,        text.c_str(), text.c_str(), text.c_str(),
                         text.c_str(), text.c_str(), text.c_str(), true,         true};

    EXPECT_EQ("\x31"s, Written(facts).substr(13, 1));
    EXPECT_LE(Written(facts).size(), size_t{PROXY_WRITTEN_MAX});
}

/* --- trust ---------------------------------------------------------------------------------- */

struct Trust {
    const char *name, *network, *address;
    bool is_trusted;
};

class ProxyTrustTest : public testing::TestWithParam<Trust> {};

TEST_P(ProxyTrustTest, IsForTheNetworkAlone) {
    proxy_trust trust = {};
    address a = Ip(GetParam().address, 1);

    ASSERT_TRUE(proxy_trust_add(&trust, GetParam().network));
    EXPECT_EQ(GetParam().is_trusted, proxy_trusts(&trust, &a));
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, ProxyTrustTest, testing::Values(
    Trust{"Itself", "192.0.2.7", "192.0.2.7", true},
    Trust{"ItsNeighbour", "192.0.2.7", "192.0.2.6", false},
    Trust{"Inside", "192.0.2.0/25", "192.0.2.127", true},
    Trust{"JustOutside", "192.0.2.0/25", "192.0.2.128", false},
    Trust{"Everybody", "0.0.0.0/0", "203.0.113.1", true},
    Trust{"EverybodyIsNotIpv6", "0.0.0.0/0", "::1", false},
    Trust{"Mapped", "192.0.2.0/24", "::ffff:192.0.2.9", true},
    Trust{"Ipv6", "2001:db8::/33", "2001:db8:7fff::1", true},
    Trust{"Ipv6Outside", "2001:db8::/33", "2001:db8:8000::1", false},
    Trust{"UnixIsNoAddress", "unix", "127.0.0.1", false}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

TEST(ProxyTest, TrustIsSpelledOut) {
    proxy_trust trust = {};

    for (const char *text : {"", "/", "/8", "localhost", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                             "10.0.0.0/8x", "10.0.0", "::1/129", "10.0.0.0/+8"})
        EXPECT_FALSE(proxy_trust_add(&trust, text)) << text;
    for (size_t i = 0; i < PROXY_NETWORKS_MAX; i++)
        EXPECT_TRUE(proxy_trust_add(&trust, "10.0.0.1"));
    EXPECT_FALSE(proxy_trust_add(&trust, "10.0.0.1"));
}

/* --- reading -------------------------------------------------------------------------------- */

class ProxyReadTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair_)); }
    void TearDown() override {
        close(pair_[0]);
        close(pair_[1]);
    }
    void Send(const std::string &bytes) {
        ASSERT_EQ(static_cast<ssize_t>(bytes.size()), write(pair_[1], bytes.data(), bytes.size()));
    }
    result Read() { return proxy_read(&in_, pair_[0], &why_); }
    std::string Rest() {
        char bytes[100];
        ssize_t got = recv(pair_[0], bytes, sizeof bytes, MSG_DONTWAIT);

        return got > 0 ? std::string(bytes, static_cast<size_t>(got)) : "";
    }

    int pair_[2] = {-1, -1};
    proxy_input in_ = {};
    const char *why_ = nullptr;
};

const std::string TCP4 = SIGNATURE +
                         "\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xc7\x4e\x01\xbb"s;

TEST_F(ProxyReadTest, TakesTheHeaderAndNotAByteMore) {
    char text[100];

    Send(TCP4 + "hello");
    ASSERT_EQ(RESULT_OK, Read());
    ASSERT_TRUE(in_.has_addresses);
    address_text(&in_.source, text, sizeof text);
    EXPECT_STREQ("192.0.2.7:51022", text);
    address_text(&in_.destination, text, sizeof text);
    EXPECT_STREQ("198.51.100.1:443", text);
    EXPECT_EQ("hello", Rest());
}

TEST_F(ProxyReadTest, TakesItByteByByte) {
    for (size_t i = 0; i < TCP4.size(); i++) {
        ASSERT_EQ(RESULT_WOULD_BLOCK, Read()) << i;
        Send(TCP4.substr(i, 1));
    }
    EXPECT_EQ(RESULT_OK, Read());
    EXPECT_TRUE(in_.has_addresses);
}

TEST_F(ProxyReadTest, EndsEarlyAtEveryByte) {
    for (size_t i = 0; i < TCP4.size(); i++) {
        TearDown();
        SetUp();
        in_ = {};
        Send(TCP4.substr(0, i));
        shutdown(pair_[1], SHUT_WR);
        EXPECT_EQ(RESULT_CLOSED, Read()) << i;
    }
}

TEST_F(ProxyReadTest, SkipsWhatElseIsSaid) {
    std::string header = TCP4 + std::string(1000, 'x');
    header[14] = '\x03';
    header[15] = '\xf4';
    Send(header + "hello");
    ASSERT_EQ(RESULT_OK, Read());
    EXPECT_TRUE(in_.has_addresses);
    EXPECT_EQ("hello", Rest());
}

TEST_F(ProxyReadTest, TheProxysOwnConnectionHasNoAddresses) {
    std::string header = TCP4;
    header[12] = '\x20';
    Send(header + "hello");
    ASSERT_EQ(RESULT_OK, Read());
    EXPECT_FALSE(in_.has_addresses);
    EXPECT_EQ("hello", Rest());
}

TEST_F(ProxyReadTest, AnUnspecifiedFamilyHasNoAddresses) {
    Send(SIGNATURE + "\x21\x00\x00\x03"s + "abc" + "hello");
    ASSERT_EQ(RESULT_OK, Read());
    EXPECT_FALSE(in_.has_addresses);
    EXPECT_EQ("hello", Rest());
}

TEST_F(ProxyReadTest, Ipv6AndUnixAddresses) {
    char text[300];

    Send(SIGNATURE + "\x21\x21\x00\x24"s + std::string(15, '\0') + "\x01" + std::string(15, '\0') +
         "\x02" + "\x00\x50\x01\xbb"s);
    ASSERT_EQ(RESULT_OK, Read());
    address_text(&in_.source, text, sizeof text);
    EXPECT_STREQ("[::1]:80", text);

    in_ = {};
    Send(SIGNATURE + "\x21\x31\x00\xd8"s + "/run/a" + std::string(102, '\0') +
         std::string(108, 'b'));
    ASSERT_EQ(RESULT_OK, Read());
    address_text(&in_.source, text, sizeof text);
    EXPECT_STREQ("/run/a", text);
    address_text(&in_.destination, text, sizeof text);
    EXPECT_EQ(std::string(108, 'b'), text);
}

struct Hostile {
    const char *name;
    size_t at;
    char byte;
    const char *why;
};

class HostileProxyTest : public ProxyReadTest, public testing::WithParamInterface<Hostile> {};

/* Whatever else has come by then, and however little of it. */
TEST_P(HostileProxyTest, IsRefusedAsSoonAsItIsSeen) {
    std::string header = TCP4;
    header[GetParam().at] = GetParam().byte;
    for (size_t i = 0; i < header.size(); i++) {
        Send(header.substr(i, 1));
        result result = Read();
        if (result == RESULT_WOULD_BLOCK && i < 15)
            continue;
        ASSERT_EQ(RESULT_MALFORMED, result) << i;
        EXPECT_STREQ(GetParam().why, why_);
        EXPECT_GE(i, GetParam().at);
        return;
    }
    FAIL() << "it was taken";
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, HostileProxyTest, testing::Values(
    Hostile{"ATlsHello", 0, '\x16', "it does not begin with the signature of version 2"},
    Hostile{"Version1", 0, 'P', "it does not begin with the signature of version 2"},
    Hostile{"LastByteOfSignature", 11, '\r', "it does not begin with the signature of version 2"},
    Hostile{"Version3", 12, '\x31', "it is of another version than 2"},
    Hostile{"Command2", 12, '\x22', "its command is neither LOCAL nor PROXY"},
    Hostile{"Datagram", 13, '\x12', "its address family is none of those of a stream"},
    Hostile{"NoSuchFamily", 13, '\x41', "its address family is none of those of a stream"},
    Hostile{"Ipv6InTheRoomOfIpv4", 13, '\x21', "it is shorter than its addresses"},
    Hostile{"TooShort", 15, '\x0b', "it is shorter than its addresses"},
    Hostile{"TooLong", 14, '\x41', "it is longer than 16 KiB"}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

} // namespace
