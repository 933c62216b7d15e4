extern "C" {
#include "ipc/message.h"
#include "worker/hello.h"
}

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace {

std::string Sized(size_t size_bytes, const std::string &bytes) {
    std::string size;

    for (size_t i = size_bytes; i-- > 0;)
        size += static_cast<char>(bytes.size() >> (8 * i));
    return size + bytes;
}

std::string Extension(uint16_t number, const std::string &bytes) {
    return std::string({static_cast<char>(number >> 8), static_cast<char>(number)}) +
           Sized(2, bytes);
}

/* RFC 8446 4.1.2. */
std::string ClientHello(const std::string &extensions) {
    return "\x03\x03" + std::string(32, 'r') + Sized(1, "") + Sized(2, "\x13\x01") +
           Sized(1, std::string(1, '\0')) + Sized(2, extensions);
}

std::string ServerName(const std::string &name) {
    return Extension(0, Sized(2, std::string(1, '\0') + Sized(2, name)));
}

class HelloTest : public testing::Test {
protected:
    void Read(std::string message) {
        gnutls_datum_t datum = {reinterpret_cast<unsigned char *>(&message[0]),
                                static_cast<unsigned>(message.size())};

        hello_read(&hello_, &datum);
    }
    const char *Choose(std::initializer_list<const char *> names) {
        gnutls_datum_t data[8];
        size_t count = 0;

        for (const char *name : names)
            data[count++] = {reinterpret_cast<unsigned char *>(const_cast<char *>(name)),
                             static_cast<unsigned>(strlen(name))};
        const gnutls_datum_t *chosen = hello_choose(&hello_, data, count);
        return chosen != nullptr ? reinterpret_cast<const char *>(chosen->data) : nullptr;
    }

    struct hello hello_;
};

TEST_F(HelloTest, NamesAndProtocolsAreEscaped) {
    Read(ClientHello(ServerName("a\n.example") +
                     Extension(16, Sized(2, Sized(1, "h2") + Sized(1, "x\"y")))));
    EXPECT_STREQ("a\\x0a.example", hello_.server_name);
    EXPECT_STREQ("h2,x\\x22y", hello_.alpn_offered);
}

TEST_F(HelloTest, FirstOfOursThatIsOfferedIsChosen) {
    Read(ClientHello(Extension(16, Sized(2, Sized(1, "http/1.1") + Sized(1, "h2")))));
    EXPECT_STREQ("h2", Choose({"h3", "h2", "http/1.1"}));
    EXPECT_EQ(nullptr, Choose({"ftp", "h"}));
}

TEST_F(HelloTest, VersionsComeFromTheExtensionOrElseTheField) {
    Read(ClientHello(""));
    EXPECT_EQ(unsigned{TLS_1_0 | TLS_1_1 | TLS_1_2}, hello_.versions);
    Read(ClientHello(Extension(43, Sized(1, std::string("\x03\x04\x03\x03", 4)))));
    EXPECT_EQ(unsigned{TLS_1_2 | TLS_1_3}, hello_.versions);
}

TEST_F(HelloTest, CutAnywhereItReadsNothingBeyond) {
    std::string whole = ClientHello(ServerName("www.example.org") +
                                    Extension(16, Sized(2, Sized(1, "h2") + Sized(1, "ftp"))) +
                                    Extension(43, Sized(1, std::string("\x03\x04", 2))));

    for (size_t size = 0; size <= whole.size(); size++) {
        std::string cut = whole.substr(0, size);

        cut.shrink_to_fit();
        Read(cut);
        EXPECT_GE(sizeof hello_.alpn, hello_.alpn_size);
    }
    EXPECT_STREQ("www.example.org", hello_.server_name);
}

TEST_F(HelloTest, LengthsThatLieReadNothingBeyond) {
    std::string name = Sized(2, std::string(1, '\0') + "\xff\xff" + "short");

    Read(ClientHello(Extension(0, name) +
                     Extension(16, std::string("\x00\x05\xff"
                                               "ab",
                                               5)) +
                     Extension(43, std::string("\xff\x03", 2))));
    EXPECT_STREQ("", hello_.server_name);
    EXPECT_EQ(0u, hello_.alpn_size);
    EXPECT_EQ(0u, hello_.versions);
}

TEST_F(HelloTest, ServersSuite) {
    std::string message = "\x03\x03" + std::string(32, 'r') + Sized(1, "id") + "\x13\x02";
    gnutls_datum_t datum = {reinterpret_cast<unsigned char *>(&message[0]),
                            static_cast<unsigned>(message.size())};

    EXPECT_EQ(0x1302, hello_chosen_suite(&datum));
    for (datum.size = 0; datum.size < message.size(); datum.size++)
        EXPECT_EQ(0, hello_chosen_suite(&datum));
}

} // namespace
