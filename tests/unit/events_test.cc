/* manager/events: who gets which event, and what becomes of those that nobody fetches. */
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/log.h"
#include "ipc/secret.h"
#include "manager/control.h"
#include "manager/events.h"
#include "manager/manager.h"
#include "manager/methods.h"
}

/* Everybody around it: clients, requests, the registry. */
struct client {
    uint64_t number;
    uid_t uid;
    bool is_administrator;
    size_t woken;
};

struct request {
    struct client *client;
    json_t *params;
    json_t *result;       /* owned */
    enum result reason;   /* OK: result */
};

extern "C" {

uint64_t client_number(const struct client *c) {
    return c->number;
}
uid_t client_uid(const struct client *c) {
    return c->uid;
}
bool client_is_administrator(const struct client *c) {
    return c->is_administrator;
}
void client_wake(struct client *c) {
    c->woken++;
}

enum result client_encode(const json_t *json, char **line, size_t *size) {
    *line = json_dumps(json, JSON_COMPACT);
    *size = strlen(*line);
    return RESULT_OK;
}

struct client *request_client(const struct request *r) {
    return r->client;
}
const json_t *request_params(const struct request *r) {
    return r->params;
}
void request_reply(struct request *r, json_t *result) {
    r->result = result;
}
void request_fail(struct request *r, struct failure *f) {
    r->reason = f->reason;
    failure_fini(f);
}

json_t *connections_snapshot(struct client *) {
    return json_pack("{s:[], s:n}", "connections", "next");
}
uint32_t manager_start_number(void) {
    return 3;
}
void ledger_subscription_open(uint64_t, uint64_t) {}
void ledger_subscription_close(uint64_t) {}
}

namespace {

const uid_t kUid = 1000, kOther = 2000;

struct Fetched {
    std::string method, type, conn, text;
    int64_t seq = -1, dropped = -1;
};

class EventsTest : public testing::Test {
protected:
    void TearDown() override {
        for (struct client *c : {&client_, &other_, &administrator_})
            events_client_gone(c);
        EXPECT_EQ(0U, events_subscription_count());
        EXPECT_FALSE(events_wanted("connection_opened"));
    }

    enum result Call(void (*method)(struct request *), struct client *c, const std::string &params,
                     std::string *subscription = nullptr) {
        struct request r = {c, json_loads(params.c_str(), 0, nullptr), nullptr, RESULT_OK};

        EXPECT_NE(nullptr, r.params) << params;
        method(&r);
        if (subscription != nullptr && r.result != nullptr)
            *subscription = json_string_value(json_object_get(r.result, "subscription"));
        json_decref(r.params);
        json_decref(r.result);
        return r.reason;
    }
    std::string Subscribe(struct client *c, const std::string &params = "{}") {
        std::string subscription;

        EXPECT_EQ(RESULT_OK, Call(method_subscribe, c, params, &subscription));
        return subscription;
    }

    /* One event of a connection; room more bytes in it. */
    void Publish(const char *type, const char *conn = "c3.1", uid_t uid = kUid, size_t room = 0) {
        events_publish(type, uid, conn, json_pack("{s:s}", "text", std::string(room, 'x').c_str()));
    }

    /* The client's next line; without a method: there is none. */
    Fetched Next(struct client *c) {
        Fetched fetched;
        char *line;
        size_t size;

        if (!events_next(c, &line, &size))
            return fetched;
        json_t *json = json_loadb(line, size, 0, nullptr);
        const json_t *params = json_object_get(json, "params");
        auto text = [&](const char *name) {
            const char *value = json_string_value(json_object_get(params, name));
            return std::string(value != nullptr ? value : "");
        };
        auto number = [&](const char *name) {
            const json_t *value = json_object_get(params, name);
            return value != nullptr ? json_integer_value(value) : -1;
        };
        fetched = {json_string_value(json_object_get(json, "method")),
                   text("type"),
                   text("conn"),
                   text("text"),
                   number("seq"),
                   number("dropped")};
        json_decref(json);
        secret_free(line);
        return fetched;
    }

    struct client client_ = {1, kUid, false, 0}, other_ = {2, kOther, false, 0},
                  administrator_ = {3, 0, true, 0};
};

TEST_F(EventsTest, NobodyWantsWhatNobodySubscribedTo) {
    EXPECT_FALSE(events_wanted("connection_opened"));
    Publish("connection_opened");
    EXPECT_EQ("", Next(&client_).method);
    Subscribe(&client_, R"({"types": ["listener_opened"]})");
    EXPECT_FALSE(events_wanted("connection_opened"));
    EXPECT_TRUE(events_wanted("listener_opened"));
}

TEST_F(EventsTest, TheyComeInOrderAndCounted) {
    Subscribe(&client_);
    Publish("connection_opened");
    Publish("connection_established");
    EXPECT_EQ(2U, client_.woken);
    Fetched first = Next(&client_), second = Next(&client_);
    EXPECT_EQ("cordon.event", first.method);
    EXPECT_EQ("connection_opened", first.type);
    EXPECT_EQ("c3.1", first.conn);
    EXPECT_EQ(1, first.seq);
    EXPECT_EQ("connection_established", second.type);
    EXPECT_EQ(2, second.seq);
    EXPECT_EQ("", Next(&client_).method);
}

TEST_F(EventsTest, OnlyTheTypesThatWereAskedFor) {
    Subscribe(&client_, R"({"types": ["connection_closed", "listener_opened"]})");
    Publish("connection_opened");
    Publish("connection_closed");
    EXPECT_EQ("connection_closed", Next(&client_).type);
    EXPECT_EQ("", Next(&client_).method);
}

TEST_F(EventsTest, OnlyTheConnectionsThatWereAskedFor) {
    Subscribe(&client_, R"({"conns": ["c3.7"]})");
    Publish("connection_opened", "c3.1");
    Publish("connection_opened", "c3.7");
    EXPECT_EQ("c3.7", Next(&client_).conn);
    EXPECT_EQ("", Next(&client_).method);
}

TEST_F(EventsTest, OthersObjectsAreForAdministratorsOnly) {
    for (struct client *c : {&client_, &other_, &administrator_})
        Subscribe(c);
    Publish("connection_opened", "c3.1", kUid);
    EXPECT_EQ("c3.1", Next(&client_).conn);
    EXPECT_EQ("", Next(&other_).method);
    EXPECT_EQ("c3.1", Next(&administrator_).conn);
}

TEST_F(EventsTest, EachSubscriptionOfAClientHasItsOwn) {
    Subscribe(&client_, R"({"types": ["connection_opened"]})");
    Subscribe(&client_, R"({"types": ["connection_closed"]})");
    Publish("connection_opened");
    Publish("connection_closed");
    EXPECT_EQ(1, Next(&client_).seq);
    EXPECT_EQ(1, Next(&client_).seq);
    EXPECT_EQ("", Next(&client_).method);
}

TEST_F(EventsTest, WhatDoesNotFitIsDroppedAndToldOnce) {
    const int room = 1024, more = 76;
    Fetched last;

    Subscribe(&client_);
    for (int i = 0; i < room + more; i++)
        Publish("connection_opened");
    for (int i = 1; i <= room; i++) {
        last = Next(&client_);
        ASSERT_EQ("cordon.event", last.method) << i;
        ASSERT_EQ(i, last.seq);
    }
    last = Next(&client_);
    EXPECT_EQ("overflow", last.method);
    EXPECT_EQ(more, last.dropped);
    EXPECT_EQ("", Next(&client_).method);
    Publish("connection_opened");
    EXPECT_EQ(room + more + 1, Next(&client_).seq) << "what was dropped is counted";
}

TEST_F(EventsTest, WhatWasDroppedIsToldBeforeWhatComesAfterIt) {
    const int room = 1024;

    Subscribe(&client_);
    for (int i = 0; i < room + 5; i++)
        Publish("connection_opened");
    for (int i = 0; i < 10; i++)
        Next(&client_);
    Publish("connection_closed");
    for (int i = 10; i < room; i++)
        ASSERT_EQ("connection_opened", Next(&client_).type);
    EXPECT_EQ(5, Next(&client_).dropped);
    EXPECT_EQ("connection_closed", Next(&client_).type);
}

TEST_F(EventsTest, LargeOnesAreBoundedByTheirBytes) {
    size_t fetched = 0, bytes = 16384;
    Fetched last;

    Subscribe(&client_);
    for (int i = 0; i < 100; i++)
        Publish("connection_failed", "c3.1", kUid, bytes);
    while ((last = Next(&client_)).method == "cordon.event")
        fetched++;
    EXPECT_EQ("overflow", last.method);
    EXPECT_EQ(100 - static_cast<int64_t>(fetched), last.dropped);
    EXPECT_LE(fetched * bytes, (256U << 10) + bytes);
    EXPECT_GE(fetched * bytes, 256U << 10 >> 1);
}

TEST_F(EventsTest, OneThatDoesNotFetchTakesNobodyElsesRoom) {
    struct client reader = client_;

    reader.number = 4;
    Subscribe(&client_);
    Subscribe(&reader);
    for (int i = 1; i <= 3000; i++) {
        Publish("connection_opened");
        ASSERT_EQ(i, Next(&reader).seq);
    }
    events_client_gone(&reader);
}

TEST_F(EventsTest, LogLinesAreForWhoAskedForThem) {
    Subscribe(&administrator_);
    log_warn("not asked for key=value");
    EXPECT_EQ("", Next(&administrator_).method) << "they are not among the default";
    Subscribe(&administrator_, R"({"types": ["log"]})");
    log_warn("asked for key=value");
    Fetched line = Next(&administrator_);
    EXPECT_EQ("log", line.type);
    EXPECT_NE(std::string::npos, line.text.find("asked for key=value")) << line.text;
}

TEST_F(EventsTest, NothingComesAfterUnsubscribing) {
    std::string subscription = Subscribe(&client_);
    std::string params = "{\"subscription\": \"" + subscription + "\"}";

    Publish("connection_opened");
    EXPECT_EQ(RESULT_NOT_OWNER, Call(method_unsubscribe, &other_, params));
    EXPECT_EQ(RESULT_OK, Call(method_unsubscribe, &client_, params));
    EXPECT_EQ("", Next(&client_).method);
    EXPECT_FALSE(events_wanted("connection_opened"));
    EXPECT_EQ(RESULT_NOT_FOUND, Call(method_unsubscribe, &client_, params));
}

TEST_F(EventsTest, AClientHasAtMost64Subscriptions) {
    for (int i = 0; i < 64; i++)
        Subscribe(&client_);
    EXPECT_EQ(RESULT_LIMIT, Call(method_subscribe, &client_, "{}"));
    Subscribe(&other_);
    events_client_gone(&client_);
    EXPECT_EQ(1U, events_subscription_count());
}

} /* namespace */
