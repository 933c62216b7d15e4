/* manager/dial: several addresses of a name, of which some refuse and some say nothing (RFC 8305). */
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/fd.h"
#include "manager/dial.h"
#include "manager/helpers.h"
#include "manager/manager.h"
}

#include "tests/harness/harness.h"

namespace {

/* Whom dial has asked for the name, and whom it has called, in order. */
const struct helper_events *g_asked;
void *g_asking;
bool g_is_cancelled;
std::vector<std::string> g_called;

std::string Text(const struct sockaddr *address) {
    char text[INET6_ADDRSTRLEN] = "";

    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in *>(address)->sin_addr, text,
                  sizeof(text));
    else
        inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6 *>(address)->sin6_addr, text,
                  sizeof(text));
    return text;
}

} /* namespace */

extern "C" {

uv_loop_t *manager_loop;

struct helper *helper_ask(enum process_kind kind, const struct message *question, int64_t,
                          const struct helper_events *events, void *owner) {
    EXPECT_EQ(PROCESS_RESOLVER, kind);
    EXPECT_STREQ("many.test", question->as.resolve.host);
    g_asked = events;
    g_asking = owner;
    return reinterpret_cast<struct helper *>(&g_asked);
}

void helper_cancel(struct helper *helper) {
    g_is_cancelled = helper != nullptr;
}

/* The kernel's, but seen. */
int connect(int fd, const struct sockaddr *address, socklen_t size) {
    g_called.push_back(Text(address));
    return static_cast<int>(syscall(SYS_connect, fd, address, size));
}
}

namespace {

const std::string kRefuses = "127.0.0.2", kSilent = "127.0.0.3", kGood = "127.0.0.4",
                  kGoodToo = "127.0.0.5";

/* The same IPv4 address, in the other family. */
std::string Mapped(const std::string &address) {
    return "::ffff:" + address;
}

bool HasIpv6() {
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0;

    fd_close(&fd);
    return has;
}

class DialTest : public testing::Test {
protected:
    /* libuv's first loop opens two descriptors that stay. */
    static void SetUpTestSuite() {
        uv_loop_t first;

        ASSERT_EQ(0, uv_loop_init(&first));
        ASSERT_EQ(0, uv_loop_close(&first));
    }
    void SetUp() override {
        descriptors_ = harness_own_descriptors();
        ASSERT_EQ(0, uv_loop_init(&loop_));
        manager_loop = &loop_;
        g_called.clear();
        g_asked = nullptr;
        g_is_cancelled = false;
        ASSERT_TRUE(Listen());
    }
    void TearDown() override {
        failure_fini(&failure_);
        fd_close(&connected_);
        uv_run(&loop_, UV_RUN_DEFAULT);
        EXPECT_EQ(0, uv_loop_close(&loop_)) << "a handle is left";
        for (int &fd : fds_)
            fd_close(&fd);
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    int Bind(const std::string &host, uint16_t port, int backlog) {
        struct sockaddr_in address = {};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        inet_pton(AF_INET, host.c_str(), &address.sin_addr);
        fds_.push_back(fd);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0 ||
            listen(fd, backlog) != 0)
            return -1;
        return fd;
    }

    /* One port on all the addresses: some listen, one has its queue full and takes no more. */
    bool Listen() {
        struct sockaddr_in address = {};
        socklen_t size = sizeof(address);
        int first = Bind(kGood, 0, 16);

        if (first < 0 || getsockname(first, reinterpret_cast<sockaddr *>(&address), &size) != 0)
            return false;
        port_ = ntohs(address.sin_port);
        silent_ = Bind(kSilent, port_, 0);
        if (silent_ < 0 || Bind(kGoodToo, port_, 16) < 0)
            return false;
        inet_pton(AF_INET, kSilent.c_str(), &address.sin_addr);
        fds_.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        return syscall(SYS_connect, fds_.back(), &address, size) == 0;
    }

    void Open() {
        static const struct dial_events events = {nullptr,
                                                  [](void *owner, int fd) {
                                                      auto *test = static_cast<DialTest *>(owner);

                                                      test->connected_ = fd;
                                                      test->outcomes_++;
                                                  },
                                                  [](void *owner, struct failure *f) {
                                                      auto *test = static_cast<DialTest *>(owner);

                                                      test->failure_ = *f;
                                                      test->outcomes_++;
                                                  }};

        dial_ = dial_open("many.test", port_, -1, &events, this);
        ASSERT_NE(nullptr, g_asked);
    }
    /* The resolver's answer. */
    void Answer(const std::vector<std::string> &addresses) {
        std::string list;
        struct message m;

        for (const std::string &address : addresses) {
            uint8_t bytes[17] = {};

            bytes[0] = address.find(':') == std::string::npos ? 4 : 6;
            ASSERT_EQ(1, inet_pton(bytes[0] == 4 ? AF_INET : AF_INET6, address.c_str(), bytes + 1));
            list.append(reinterpret_cast<char *>(bytes), sizeof(bytes));
        }
        message_init(&m, MESSAGE_RESOLVED);
        m.as.resolved.addresses.data = reinterpret_cast<const uint8_t *>(list.data());
        m.as.resolved.addresses.size = list.size();
        g_asked->on_answer(g_asking, &m);
    }
    void Run() {
        while (outcomes_ == 0 && uv_run(&loop_, UV_RUN_ONCE) != 0) {}
        EXPECT_EQ(1, outcomes_);
    }
    /* Whom the connection is with; empty: there is none. */
    std::string Dial(const std::vector<std::string> &addresses) {
        struct sockaddr_storage peer = {};
        socklen_t size = sizeof(peer);

        Open();
        Answer(addresses);
        Run();
        if (connected_ < 0 ||
            getpeername(connected_, reinterpret_cast<sockaddr *>(&peer), &size) != 0)
            return "";
        return Text(reinterpret_cast<sockaddr *>(&peer));
    }

    uv_loop_t loop_;
    std::vector<int> fds_;
    uint16_t port_ = 0;
    int silent_ = -1;
    struct dial *dial_ = nullptr;
    int connected_ = -1, outcomes_ = 0;
    struct failure failure_ = {};
    size_t descriptors_ = 0;
};

using Names = std::vector<std::string>;

TEST_F(DialTest, TheFirstThatAnswersIsTaken) {
    EXPECT_EQ(kGood, Dial({kGood, kGoodToo}));
    EXPECT_EQ(Names({kGood}), g_called);
}

TEST_F(DialTest, AfterOneThatRefusesTheNextIsCalled) {
    EXPECT_EQ(kGood, Dial({kRefuses, kGood}));
    EXPECT_EQ(Names({kRefuses, kGood}), g_called);
}

TEST_F(DialTest, OneThatSaysNothingHoldsNobodyUp) {
    EXPECT_EQ(kGood, Dial({kSilent, kGood, kGoodToo}));
    EXPECT_EQ(Names({kSilent, kGood}), g_called);
}

TEST_F(DialTest, OneThatAnswersLateWinsWhileTheOthersSayNothing) {
    if (!HasIpv6())
        GTEST_SKIP() << "no IPv6 here";
    Open();
    Answer({kSilent, Mapped(kSilent), kRefuses});
    while (g_called.size() < 3 && uv_run(&loop_, UV_RUN_ONCE) != 0) {}
    EXPECT_EQ(0, outcomes_) << "two are still being called";
    /* Room in its queue: the kernel says so to whichever of them it hears again first. */
    for (int i = 0; i < 2; i++)
        fds_.push_back(accept4(silent_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    Run();
    EXPECT_GE(connected_, 0);
}

TEST_F(DialTest, WhenAllRefuseTheLastErrorIsTold) {
    if (!HasIpv6())
        GTEST_SKIP() << "no IPv6 here";
    EXPECT_EQ("", Dial({kRefuses, Mapped(kRefuses), kRefuses}));
    EXPECT_EQ(RESULT_POSIX, failure_.reason);
    EXPECT_STREQ("econnrefused", json_string_value(json_object_get(failure_.fields, "posix")));
    EXPECT_EQ(3U, g_called.size());
}

TEST_F(DialTest, FamiliesAreCalledInTurnBeginningWithTheFirsts) {
    if (!HasIpv6())
        GTEST_SKIP() << "no IPv6 here";
    EXPECT_EQ("", Dial({Mapped(kRefuses), Mapped("127.0.0.6"), Mapped("127.0.0.7"), kRefuses,
                        "127.0.0.6"}));
    EXPECT_EQ(
        Names({Mapped(kRefuses), kRefuses, Mapped("127.0.0.6"), "127.0.0.6", Mapped("127.0.0.7")}),
        g_called);
}

TEST_F(DialTest, TheOtherFamilyComesBeforeTheSecondOfTheFirst) {
    if (!HasIpv6())
        GTEST_SKIP() << "no IPv6 here";
    EXPECT_EQ(kGoodToo, Dial({Mapped(kRefuses), Mapped(kGood), kGoodToo}));
    EXPECT_EQ(Names({Mapped(kRefuses), kGoodToo}), g_called);
}

TEST_F(DialTest, ACancelledOneCallsNobodyBack) {
    Open();
    Answer({kSilent, kGood});
    dial_cancel(dial_);
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(0, outcomes_);
    EXPECT_EQ(Names({kSilent}), g_called);
}

TEST_F(DialTest, TheResolverIsCancelledToo) {
    Open();
    dial_cancel(dial_);
    EXPECT_TRUE(g_is_cancelled);
}

TEST_F(DialTest, ANameWithoutAnAddressIsAFailureToResolve) {
    EXPECT_EQ("", Dial({}));
    EXPECT_EQ(RESULT_RESOLVE, failure_.reason);
    EXPECT_TRUE(g_called.empty());
}

TEST_F(DialTest, AResolverThatDiesIsAFailureToResolve) {
    Open();
    g_asked->on_failed(g_asking, RESULT_CHANNEL_CLOSED, "the resolver has died");
    EXPECT_EQ(1, outcomes_);
    EXPECT_EQ(RESULT_RESOLVE, failure_.reason);
}

TEST_F(DialTest, AnAnswerOfAnOddSizeIsRefused) {
    struct message m;
    const uint8_t bytes[18] = {4};

    Open();
    message_init(&m, MESSAGE_RESOLVED);
    m.as.resolved.addresses.data = bytes;
    m.as.resolved.addresses.size = sizeof(bytes);
    g_asked->on_answer(g_asking, &m);
    EXPECT_EQ(RESULT_RESOLVE, failure_.reason);
}

} /* namespace */
