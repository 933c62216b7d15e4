/* manager/contexts: which options are one context, and which are two. */
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string.h>
#include <string>

extern "C" {
#include "manager/contexts.h"
}

namespace {

const uint8_t kChain[32] = {1}, kOtherChain[32] = {2}, kTrust[32] = {3};
const uint8_t kKey[] = {4, 5, 6}, kOtherKey[] = {4, 5, 7};

struct Inputs {
    struct context_facts facts = {};
    const uint8_t *chain = kChain;
    struct bytes key = {kKey, sizeof(kKey)};
    const uint8_t *trust = nullptr;

    Inputs() {
        facts.role = ROLE_SERVER;
        facts.versions = TLS_1_2 | TLS_1_3;
        facts.depth = 10;
    }

    std::string Digest() const {
        uint8_t digest[32];

        context_digest(&facts, chain, key, trust, digest);
        return std::string(reinterpret_cast<char *>(digest), sizeof(digest));
    }
};

struct Change {
    const char *name;
    std::function<void(Inputs *)> make;
};

std::ostream &operator<<(std::ostream &out, const Change &change) {
    return out << change.name;
}

void SetAlpn(Inputs *inputs, const std::string &names) {
    memcpy(inputs->facts.alpn, names.data(), names.size());
    inputs->facts.alpn_size = names.size();
}

void SetSuites(Inputs *inputs, std::initializer_list<uint16_t> suites) {
    for (uint16_t suite : suites)
        inputs->facts.suites[inputs->facts.suite_count++] = suite;
}

const Change kChanges[] = {
    {"Role", [](Inputs *i) { i->facts.role = ROLE_CLIENT; }},
    {"Versions", [](Inputs *i) { i->facts.versions = TLS_1_3; }},
    {"OneSuite", [](Inputs *i) { SetSuites(i, {0x1301}); }},
    {"TwoSuites",
     [](Inputs *i) {
         SetSuites(i, {0x1301, 0x1302});
     }},
    {"OrderOfSuites",
     [](Inputs *i) {
         SetSuites(i, {0x1302, 0x1301});
     }},
    {"Verify", [](Inputs *i) { i->facts.verify = true; }},
    {"FailIfNoPeerCert", [](Inputs *i) { i->facts.fail_if_no_peer_cert = true; }},
    {"HonorCipherOrder", [](Inputs *i) { i->facts.honor_cipher_order = true; }},
    {"Depth", [](Inputs *i) { i->facts.depth = 9; }},
    {"DataLimit", [](Inputs *i) { i->facts.data_limit = 1; }},
    {"CpuLimit", [](Inputs *i) { i->facts.cpu_limit_s = 1; }},
    {"OneAlpn", [](Inputs *i) { SetAlpn(i, "\x02h2"); }},
    {"TwoAlpn",
     [](Inputs *i) {
         SetAlpn(i, "\x01h\x01"
                    "2");
     }},
    {"Chain", [](Inputs *i) { i->chain = kOtherChain; }},
    {"NoChain", [](Inputs *i) { i->chain = nullptr; }},
    {"Key",
     [](Inputs *i) {
         i->key = {kOtherKey, sizeof(kOtherKey)};
     }},
    {"ShorterKey", [](Inputs *i) { i->key.size--; }},
    {"NoKey",
     [](Inputs *i) {
         i->key = {nullptr, 0};
     }},
    {"Trust", [](Inputs *i) { i->trust = kTrust; }},
    {"ChainIsTrust",
     [](Inputs *i) {
         i->trust = kChain;
         i->chain = nullptr;
     }},
};

class ContextChangeTest : public ::testing::TestWithParam<Change> {};

TEST_P(ContextChangeTest, IsAnotherContext) {
    Inputs changed;

    GetParam().make(&changed);
    EXPECT_NE(Inputs().Digest(), changed.Digest());
}

INSTANTIATE_TEST_SUITE_P(All, ContextChangeTest, ::testing::ValuesIn(kChanges),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(ContextsTest, NoTwoChangesAreTheSame) {
    std::set<std::string> digests;

    for (const Change &change : kChanges) {
        Inputs changed;

        change.make(&changed);
        digests.insert(changed.Digest());
    }
    EXPECT_EQ(sizeof(kChanges) / sizeof(kChanges[0]), digests.size());
}

TEST(ContextsTest, EqualInputsAreOneContext) {
    Inputs one, other;

    /* Behind what counts there may be anything. */
    other.facts.suites[200] = 0x1301;
    other.facts.alpn[100] = 7;
    EXPECT_EQ(one.Digest(), other.Digest());
}

TEST(ContextsTest, WhatBelongsToTheConnectionIsNotInTheContext) {
    struct options one = {}, other = {};
    Inputs first, second;
    char host[] = "example.org";

    one.role = other.role = ROLE_CLIENT;
    one.versions = other.versions = TLS_1_3;
    other.active = true;
    other.delivery = DELIVERY_MESSAGES;
    other.lifetime_descriptor = other.mode_list = other.nodelay = other.log_alert = true;
    other.server_name = other.verify_hostname = host;
    context_facts_from(&first.facts, &one);
    context_facts_from(&second.facts, &other);
    EXPECT_EQ(first.Digest(), second.Digest());
    other.verify = true;
    context_facts_from(&second.facts, &other);
    EXPECT_NE(first.Digest(), second.Digest());
}

} // namespace
