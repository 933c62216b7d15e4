/*
 * The fixture of process tests: a tree per test, everything counted before and
 * after, and the log printed when a test fails.
 */
#ifndef CORDON_TESTS_HARNESS_FIXTURE_H
#define CORDON_TESTS_HARNESS_FIXTURE_H

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "tests/harness/certs.h"
#include "tests/harness/client.h"
#include "tests/harness/harness.h"
#include "tests/harness/peer.h"
#include "tests/harness/processes.h"
#include "tests/harness/tls.h"
#include "tests/harness/tree.h"

namespace harness
{

/* A descriptor that is closed with its scope. */
class Fd
{
  public:
    explicit Fd(int fd = -1) : fd_(fd)
    {
    }
    Fd(Fd &&other) noexcept : fd_(other.Take())
    {
    }
    Fd &
    operator=(Fd &&other) noexcept
    {
        Reset(other.Take());
        return *this;
    }
    ~Fd()
    {
        Reset();
    }

    int
    get() const
    {
        return fd_;
    }
    int
    Take()
    {
        int fd = fd_;

        fd_ = -1;
        return fd;
    }
    void
    Reset(int fd = -1)
    {
        if (fd_ >= 0)
            close(fd_);
        fd_ = fd;
    }

  private:
    int fd_;
};

struct JsonDeleter {
    void
    operator()(json_t *json) const
    {
        json_decref(json);
    }
};
using Json = std::unique_ptr<json_t, JsonDeleter>;

/* JSON from text, for parameters: Parse(R"({"port": 0})"). */
inline json_t *
Parse(const std::string &text)
{
    json_error_t error;
    json_t *json = json_loads(text.c_str(), JSON_DECODE_ANY, &error);

    if (json == nullptr)
        ADD_FAILURE() << error.text << " in " << text;
    return json;
}

inline std::string
Dump(const json_t *json)
{
    char *text = json != nullptr ? json_dumps(json, JSON_ENCODE_ANY | JSON_SORT_KEYS) : nullptr;
    std::string copy = text != nullptr ? text : "(nothing)";

    free(text);
    return copy;
}

/* One line from Cordon: a reply or an event. */
class Line
{
  public:
    Line() = default;
    Line(Line &&other) noexcept : line_(other.line_)
    {
        other.line_ = {};
    }
    Line &
    operator=(Line &&other) noexcept
    {
        harness_line_fini(&line_);
        line_ = other.line_;
        other.line_ = {};
        return *this;
    }
    ~Line()
    {
        harness_line_fini(&line_);
    }

    harness_line *
    raw()
    {
        return &line_;
    }
    explicit operator bool() const
    {
        return line_.json != nullptr;
    }
    size_t
    FdCount() const
    {
        return line_.fd_count;
    }
    Fd
    TakeFd(size_t index = 0)
    {
        return Fd(harness_line_take_fd(&line_, index));
    }
    std::string
    Text() const
    {
        return Dump(line_.json);
    }
    bool
    IsResult() const
    {
        return json_object_get(line_.json, "result") != nullptr;
    }

    /* A member by its dotted path: "result.info.protocol". */
    const json_t *
    At(const std::string &path) const
    {
        const json_t *at = line_.json;

        for (size_t from = 0; at != nullptr && from <= path.size();) {
            size_t dot = std::min(path.find('.', from), path.size());

            at = json_object_get(at, path.substr(from, dot - from).c_str());
            from = dot + 1;
        }
        return at;
    }
    std::string
    String(const std::string &path) const
    {
        const char *text = json_string_value(At(path));

        return text != nullptr ? text : "";
    }
    int64_t
    Integer(const std::string &path) const
    {
        return json_is_integer(At(path)) ? json_integer_value(At(path)) : -1;
    }
    std::string
    Reason() const
    {
        return String("error.data.reason");
    }

  private:
    harness_line line_ = {};
};

/* A control connection. */
class Client
{
  public:
    explicit Client(const harness_tree *tree)
        : client_(harness_client_open(harness_tree_socket(tree)))
    {
        if (client_ == nullptr)
            throw std::runtime_error("no control connection");
    }
    ~Client()
    {
        harness_client_close(client_);
    }
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    harness_client *
    raw()
    {
        return client_;
    }
    void
    Close()
    {
        harness_client_close(client_);
        client_ = nullptr;
    }

    int64_t
    Request(const std::string &method, const std::string &params = "{}",
            const std::vector<int> &fds = {})
    {
        return harness_client_request(client_, method.c_str(), Parse(params), fds.data(),
                                      fds.size());
    }
    Line
    Reply(int64_t id, int64_t wait_ms = HARNESS_WAIT_MS)
    {
        Line line;

        EXPECT_TRUE(harness_client_reply(client_, id, line.raw(), harness_deadline(wait_ms)))
            << "no reply to request " << id;
        return line;
    }
    /* Request and reply, whatever it says. */
    Line
    Call(const std::string &method, const std::string &params = "{}",
         const std::vector<int> &fds = {})
    {
        return Reply(Request(method, params, fds));
    }
    /* Request and result: anything else fails the test. */
    Line
    Must(const std::string &method, const std::string &params = "{}",
         const std::vector<int> &fds = {})
    {
        Line line = Call(method, params, fds);

        EXPECT_TRUE(line.IsResult()) << method << " " << params << ": " << line.Text();
        return line;
    }
    Line
    Event(const std::string &method, const std::string &conn = "",
          int64_t wait_ms = HARNESS_WAIT_MS)
    {
        Line line;

        EXPECT_TRUE(harness_client_event(client_, method.c_str(),
                                         conn.empty() ? nullptr : conn.c_str(), line.raw(),
                                         harness_deadline(wait_ms)))
            << "no event " << method << " " << conn;
        return line;
    }
    bool
    HasEvent(const std::string &method, const std::string &conn = "")
    {
        return harness_client_has_event(client_, method.c_str(),
                                        conn.empty() ? nullptr : conn.c_str());
    }

  private:
    harness_client *client_;
};

/* A TLS peer in this process. */
class Tls
{
  public:
    Tls(int fd, const harness_tls_options &options) : tls_(harness_tls_new(fd, &options))
    {
    }
    Tls(Tls &&other) noexcept : tls_(other.tls_)
    {
        other.tls_ = nullptr;
    }
    Tls &
    operator=(Tls &&other) noexcept
    {
        harness_tls_free(tls_);
        tls_ = other.tls_;
        other.tls_ = nullptr;
        return *this;
    }
    ~Tls()
    {
        harness_tls_free(tls_);
    }

    harness_tls *
    get()
    {
        return tls_;
    }
    void
    Close()
    {
        harness_tls_free(tls_);
        tls_ = nullptr;
    }
    bool
    Handshake()
    {
        return harness_tls_handshake(tls_, harness_deadline(HARNESS_WAIT_MS));
    }
    bool
    Write(const std::string &text)
    {
        return harness_tls_write(tls_, text.data(), text.size(), harness_deadline(HARNESS_WAIT_MS));
    }
    std::string
    Read(size_t size)
    {
        std::string text(size, '\0');

        if (!harness_tls_read(tls_, text.data(), size, harness_deadline(HARNESS_WAIT_MS)))
            return "(nothing)";
        return text;
    }
    bool
    Bye()
    {
        return harness_tls_bye(tls_, harness_deadline(HARNESS_WAIT_MS));
    }
    bool
    ReadEnd()
    {
        return harness_tls_read_end(tls_, harness_deadline(HARNESS_WAIT_MS));
    }

  private:
    harness_tls *tls_;
};

/* Plaintext on the owner's descriptor. */
inline bool
WritePlain(const Fd &fd, const std::string &text)
{
    return harness_write_all(fd.get(), text.data(), text.size(), harness_deadline(HARNESS_WAIT_MS));
}

inline std::string
ReadPlain(const Fd &fd, size_t size)
{
    std::string text(size, '\0');

    if (!harness_read_all(fd.get(), text.data(), size, harness_deadline(HARNESS_WAIT_MS)))
        return "(nothing)";
    return text;
}

/* What a tree holds when nothing happens: by kind of process, for comparison. */
struct Census {
    struct Kind {
        size_t processes = 0, others = 0, mailboxes = 0, memfds = 0;
    };
    std::map<std::string, Kind> of;
    size_t workers = 0; /* and zombies */

    /* "cordon keeper" of "cordon keeper --anything". */
    static std::string
    KindOf(const process &p, bool is_root)
    {
        std::string title = p.title;

        return is_root ? "cordond" : title.substr(0, title.find(' ', strlen("cordon ")));
    }

    static Census
    Take(const harness_tree *tree)
    {
        std::vector<process> found(4096);
        size_t count = processes_below(harness_tree_pid(tree), found.data(), found.size());
        Census census;

        for (size_t i = 0; i < count && i < found.size(); i++) {
            std::string kind = KindOf(found[i], i == 0);
            descriptors d = {};

            if (kind == "cordon worker" || found[i].state == 'Z') {
                census.workers++;
                continue;
            }
            process_descriptors(found[i].pid, &d);
            census.of[kind].processes++;
            census.of[kind].others += d.others;
            census.of[kind].mailboxes += d.mailboxes;
            census.of[kind].memfds += d.memfds;
        }
        return census;
    }
    std::string
    Text() const
    {
        std::string text;

        for (const auto &[title, d] : of)
            text += title + ": " + std::to_string(d.processes) + " with " +
                    std::to_string(d.others) + " descriptors and " + std::to_string(d.mailboxes) +
                    " mailboxes\n";
        return text + "workers and zombies: " + std::to_string(workers) + "\n";
    }
    /*
     * Mailbox pairs are made 64, keeper channels 32 at a time, and a context keeps its files for a
     * minute; everything else has to be the same.
     */
    bool
    IsLike(const Census &other, size_t contexts = 4) const
    {
        const size_t spare = 2 * 64 + 2 * 32;

        if (of.size() != other.of.size() || workers != other.workers)
            return false;
        for (const auto &[title, d] : of) {
            auto at = other.of.find(title);

            /* What cordond was told to drop before other was counted may have gone after it. */
            if (at == other.of.end() || at->second.processes != d.processes ||
                d.others > at->second.others ||
                (d.others < at->second.others && title != "cordond") ||
                d.memfds > at->second.memfds + 2 * contexts ||
                at->second.mailboxes > d.mailboxes + spare ||
                d.mailboxes > at->second.mailboxes + spare)
                return false;
        }
        return true;
    }
};

/*
 * A tree per test.  A test that ends the tree itself says so with tree_ends_itself_.
 */
class TreeTest : public testing::Test
{
  protected:
    void
    SetUp() override
    {
        signal(SIGPIPE, SIG_IGN);
        harness_cert("ca.pem"); /* made now, so that their making is not counted */
        own_descriptors_ = harness_own_descriptors();
        Start(nullptr);
    }

    void
    Start(const harness_tree_options *options)
    {
        harness_tree_free(tree_);
        tree_ = harness_tree_start(options);
        ASSERT_NE(nullptr, tree_);
        CountBefore();
    }

    /* What the tree holds from here on is what it has to hold at the end.  Where more is made first that
     * stays, that is counted instead. */
    virtual void
    CountBefore()
    {
        before_ = Settled();
    }

    /*
     * The counts once all helpers have ended and nothing has changed for longer than cordond's copies of
     * what is closed live on (the manager tells it so in batches, a partial one after 1 s).
     */
    Census
    Settled()
    {
        struct Context {
            harness_tree *tree;
            Census last;
            int64_t since_ms;
        } context = { tree_, Census::Take(tree_), harness_now_ms() };

        EXPECT_TRUE(harness_wait_until(
            [](void *c) {
                auto *at = static_cast<Context *>(c);
                Census now = Census::Take(at->tree);

                if (!now.IsLike(at->last) || !at->last.IsLike(now) || now.workers != 0 ||
                    now.of.count("cordon keeper") != 1 || now.of.size() < 4)
                    at->since_ms = harness_now_ms();
                at->last = now;
                return harness_now_ms() - at->since_ms > 1200;
            },
            &context, harness_deadline(HARNESS_WAIT_MS)))
            << context.last.Text();
        return context.last;
    }

    /* Everything that the test made is closed: the tree holds what it held before. */
    void
    ExpectAsBefore()
    {
        struct Context {
            harness_tree *tree;
            const Census *before;
            size_t contexts;
            Census now;
        } context = { tree_, &before_, contexts_left_, {} };

        EXPECT_TRUE(harness_wait_until(
            [](void *c) {
                auto *at = static_cast<Context *>(c);

                at->now = Census::Take(at->tree);
                return at->now.IsLike(*at->before, at->contexts);
            },
            &context, harness_deadline(wait_for_end_ms_)))
            << "before:\n"
            << before_.Text() << "now:\n"
            << context.now.Text() << DescribeManager();
    }

    void
    TearDown() override
    {
        if (tree_ != nullptr && !tree_ends_itself_) {
            if (!HasFatalFailure())
                ExpectAsBefore();
            int status = harness_tree_stop(tree_);
            EXPECT_TRUE(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
                << "cordond ended with wait status " << status;
        }
        if (tree_ != nullptr) {
            EXPECT_TRUE(harness_tree_nothing_left(tree_, harness_deadline(HARNESS_WAIT_MS)));
        }
        if (HasFailure())
            PrintLog();
        harness_tree_free(tree_);
        tree_ = nullptr;
        EXPECT_EQ(own_descriptors_, harness_own_descriptors());
    }

    std::string
    DescribeManager()
    {
        char *text = process_describe_descriptors(Pid("cordon manager"));
        std::string copy = "the manager's:\n" + std::string(text);

        free(text);
        return copy;
    }

    void
    PrintLog()
    {
        char *log = tree_ != nullptr ? harness_tree_log(tree_) : nullptr;

        if (log != nullptr)
            std::cerr << "--- the log\n" << log << "---\n";
        free(log);
    }

    bool
    WaitLog(const std::string &pattern, size_t from = 0, int64_t wait_ms = HARNESS_WAIT_MS)
    {
        return harness_tree_wait_log(tree_, pattern.c_str(), from, harness_deadline(wait_ms));
    }
    pid_t
    Pid(const std::string &title)
    {
        return harness_tree_process(tree_, title.c_str());
    }

    harness_tree *tree_ = nullptr;
    bool tree_ends_itself_ = false;
    size_t contexts_left_ = 4; /* so many may still keep their files at the end */
    int64_t wait_for_end_ms_ = HARNESS_WAIT_MS;
    Census before_;
    size_t own_descriptors_ = 0;
};

} /* namespace harness */

#endif
