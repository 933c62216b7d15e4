/*
 * Where private keys and passwords are not: in the memory of every process but
 * the keeper, read through /proc while connections are made and data flows, in
 * what these processes hold open, and in the log.
 *
 * The same search finds the numbers of the keys in the keeper, and the title of
 * every other process in its own memory: so it is known to look where it should.
 */
#include "tests/harness/connection.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

namespace {

using namespace harness;

constexpr const char *TLS13 = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
constexpr const char *TLS12 = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
constexpr int64_t CONTEXT_UNUSED_MS = 60000;

/* --- What is looked for --------------------------------------------------------------------- */

/* Some bytes that give a secret away.  Short: what was freed has lost its first 16 bytes. */
struct Needle {
    std::string name, bytes;
};
using Needles = std::vector<Needle>;

constexpr size_t PIECE = 16;

void Add(Needles *needles, const Needles &more) {
    needles->insert(needles->end(), more.begin(), more.end());
}

/* Pieces of a number, from all its parts.  Limbs of GMP are little-endian words, the lowest first:
 * on our machines the same as the bytes backwards. */
Needles PiecesOf(const std::string &name, std::string bytes, const std::string &order) {
    Needles needles;

    for (size_t at = 0; at + PIECE <= bytes.size(); at += PIECE)
        needles.push_back(
            {name + " " + order + " at " + std::to_string(at), bytes.substr(at, PIECE)});
    return needles;
}

std::string Backwards(std::string bytes) {
    std::reverse(bytes.begin(), bytes.end());
    return bytes;
}

struct Number {
    std::string name, bytes;
};

std::vector<Number> NumbersOf(const std::string &identity) {
    std::vector<Number> numbers;
    uint8_t bytes[1024];

    for (char name : std::string("dpqk")) {
        size_t size = harness_key_number(identity.c_str(), name, bytes, sizeof(bytes));

        if (size > 0)
            numbers.push_back({identity + "'s " + name, {bytes, bytes + size}});
    }
    return numbers;
}

std::string FileText(const std::string &name) {
    std::ifstream file(harness_cert(name.c_str()));
    std::stringstream text;

    text << file.rdbuf();
    return text.str();
}

/* The lines between BEGIN and END of the private key. */
std::vector<std::string> KeyLines(const std::string &file) {
    std::istringstream text(FileText(file));
    std::vector<std::string> lines;
    bool is_inside = false;

    for (std::string line; std::getline(text, line);) {
        if (line.find("PRIVATE KEY-----") != std::string::npos)
            is_inside = line.find("BEGIN") != std::string::npos;
        else if (is_inside && line.find(':') == std::string::npos)
            lines.push_back(line);
    }
    return lines;
}

/* Which of the base64 characters are made of nothing but this number: the rest of a key file is as
 * public as the certificate. */
std::pair<size_t, size_t> Base64Of(const std::string &der, const std::string &number) {
    size_t at = der.find(number);

    if (at == std::string::npos)
        return {0, 0};
    return {(at + 2) / 3 * 4, (at + number.size()) / 3 * 4};
}

/* The file as it is stored: stretches of its base64 that stand on one line. */
Needles StoredPieces(const std::string &file, const std::vector<Number> &numbers) {
    std::vector<std::string> lines = KeyLines(file);
    std::string text, der;
    Needles needles;

    for (const std::string &line : lines)
        text += line;
    der = Unbase64(text);
    for (const Number &number : numbers) {
        auto [from, to] = Base64Of(der, number.bytes);

        for (size_t i = 0, start = 0; i < lines.size(); start += lines[i++].size()) {
            size_t first = std::max(from, start), last = std::min(to, start + lines[i].size());

            for (size_t at = first; at + PIECE <= last; at += PIECE)
                needles.push_back({number.name + " as stored in " + file, text.substr(at, PIECE)});
        }
    }
    return needles;
}

/* An encrypted key is looked for as it is: base64 and what that stands for. */
Needles EncryptedPieces(const std::string &file) {
    std::vector<std::string> lines = KeyLines(file);
    std::string text;
    Needles needles;

    for (size_t i = 0; i < lines.size(); i++) {
        text += lines[i];
        if (i >= 4 && lines[i].size() >= PIECE)
            needles.push_back({"a line of " + file, lines[i].substr(lines[i].size() - PIECE)});
    }
    std::string der = Unbase64(text);
    Needles bytes = PiecesOf(file, der.substr(der.size() / 2), "as DER");
    needles.insert(needles.end(), bytes.begin(), bytes.end());
    return needles;
}

Needles PasswordPieces() {
    std::string password = HARNESS_PASSWORD;

    return {{"the password", password},
            {"the password's beginning", password.substr(0, 8)},
            {"the password's end", password.substr(password.size() - 7)}};
}

/* --- Where it is looked for ----------------------------------------------------------------- */

/* All needles at once: where the first two bytes are not one's, the next place is looked at. */
class Search {
public:
    explicit Search(const Needles &needles) : by_start_(1 << 16) {
        for (const Needle &needle : needles)
            by_start_[StartOf(needle.bytes.data())].push_back(&needle);
    }

    void In(const char *bytes, size_t size, std::set<std::string> *found) const {
        const char *const end = bytes + size;
        const std::vector<const Needle *> *const by_start = by_start_.data();

        for (const char *at = bytes; at + 1 < end; at++) {
            const std::vector<const Needle *> *candidates = by_start + StartOf(at);

            if (!candidates->empty())
                Compare(*candidates, at, end, found);
        }
    }

    /* What can be read of a file, in chunks that overlap.  Much of the ledger and the board is zeros. */
    void InFile(int fd, uint64_t from, uint64_t to, std::set<std::string> *found) const {
        static std::vector<char> chunk(1 << 16);
        constexpr uint64_t OVERLAP = 64;

        while (from < to) {
            ssize_t got = pread(fd, chunk.data(), std::min<uint64_t>(chunk.size(), to - from),
                                static_cast<off_t>(from));

            if (got <= static_cast<ssize_t>(OVERLAP))
                return; /* the end, or [vvar] and its kind */
            if (chunk[0] != 0 || memcmp(&chunk[0], &chunk[1], static_cast<size_t>(got) - 1) != 0)
                In(chunk.data(), static_cast<size_t>(got), found);
            from += static_cast<uint64_t>(got);
            if (from < to)
                from -= OVERLAP;
        }
    }

private:
    static uint16_t StartOf(const char *bytes) {
        uint16_t start;

        memcpy(&start, bytes, sizeof(start));
        return start;
    }
    static void Compare(const std::vector<const Needle *> &candidates, const char *at,
                        const char *end, std::set<std::string> *found) {
        for (const Needle *needle : candidates) {
            if (needle->bytes.size() <= static_cast<size_t>(end - at) &&
                memcmp(at, needle->bytes.data(), needle->bytes.size()) == 0)
                found->insert(needle->name);
        }
    }

    std::vector<std::vector<const Needle *>> by_start_;
};

std::string ProcPath(pid_t pid, const std::string &name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

/* Everything that is mapped and readable, but for what is a program's or a library's own file. */
std::set<std::string> FindInMemory(pid_t pid, const Needles &needles) {
    std::set<std::string> found;
    Fd memory(open(ProcPath(pid, "mem").c_str(), O_RDONLY | O_CLOEXEC));
    std::ifstream maps(ProcPath(pid, "maps"));
    Search search(needles);
    size_t count = 0;

    EXPECT_GE(memory.get(), 0) << "the memory of " << pid << " cannot be read";
    for (std::string line; std::getline(maps, line);) {
        bool is_program = line.find(".so") != std::string::npos ||
                          line.find(harness_root()) != std::string::npos;
        uint64_t from, to;
        char rights[5];

        if (sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, rights) != 3 || rights[0] != 'r' ||
            (is_program && rights[1] != 'w'))
            continue;
        search.InFile(memory.get(), from, to, &found);
        count++;
    }
    EXPECT_GT(count, 5U) << "the maps of " << pid << " cannot be read";
    return found;
}

/* Files without a name that it holds but may not have mapped; and the key's own file, found by its path. */
std::set<std::string> FindInDescriptors(pid_t pid, const Needles &needles) {
    std::set<std::string> found;
    std::string folder = harness_cert("");
    Search search(needles);

    for (int fd = 0; fd < 4096; fd++) {
        std::string path = ProcPath(pid, "fd/" + std::to_string(fd));
        char link[256] = "";
        struct stat file;

        if (readlink(path.c_str(), link, sizeof(link) - 1) < 0)
            continue;
        if (strncmp(link, folder.c_str(), folder.size()) == 0)
            found.insert(std::string("the open file ") + link);
        if (strncmp(link, "/memfd:", strlen("/memfd:")) != 0)
            continue;
        Fd memfd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (memfd.get() >= 0 && fstat(memfd.get(), &file) == 0)
            search.InFile(memfd.get(), 0, static_cast<uint64_t>(file.st_size), &found);
    }
    return found;
}

std::string Names(const std::set<std::string> &names) {
    std::string text;

    for (const std::string &name : names)
        text += "\n    " + name;
    return text;
}

/* --- Connections in use --------------------------------------------------------------------- */

/* An owner that listens, and connections of it that are all in use, by a thread of their own. */
class Load {
public:
    Load(const harness_tree *tree, std::function<Listener(Client &, const std::string &)> listen)
        : client_(tree) {
        Listener descriptors = listen(client_, "");
        Listener messages = listen(client_, R"(, "delivery": "messages")");

        for (const char *priority : {TLS13, TLS12, TLS13}) {
            Accept(descriptors, priority);
            Accept(messages, priority);
        }
        Pause(descriptors);
        listeners_ = {descriptors.handle, messages.handle};
        if (!testing::Test::HasFailure())
            thread_ = std::thread([this] { Run(); });
    }
    ~Load() { Stop(); }

    void Stop() {
        is_stopping_ = true;
        if (thread_.joinable())
            thread_.join();
    }
    void CloseListeners() {
        for (const std::string &listener : listeners_)
            client_.Must("ssl.close", "{\"listener\": \"" + listener + "\"}");
    }
    /* Bytes that went through so far. */
    size_t Rounds() const { return rounds_; }
    size_t Connections() const { return connections_.size() + 1; }

private:
    void Accept(const Listener &listener, const char *priority) {
        harness_tls_options options = {};
        int64_t id = client_.Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");

        options.priority = priority;
        Tls peer(harness_connect_tcp(listener.port), options);
        EXPECT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
        Line line = client_.Reply(id);
        EXPECT_TRUE(line.IsResult()) << line.Text();
        connections_.emplace_back(OwnedOf(std::move(line)), std::move(peer));
    }

    /* A connection whose handshake stays where the server has signed and waits for the peer. */
    void Pause(const Listener &listener) {
        client_.Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
        paused_ = std::make_unique<Tls>(harness_connect_tcp(listener.port), harness_tls_options{});
        harness_tls_say_hello(paused_->get());
        EXPECT_TRUE(harness_wait_fd(harness_tls_fd(paused_->get()), POLLIN,
                                    harness_deadline(HARNESS_WAIT_MS)));
    }

    void Run() {
        const std::string bytes(8000, 'x');

        while (!is_stopping_) {
            for (auto &[owned, peer] : connections_) {
                if (owned.data.get() >= 0)
                    RoundByDescriptor(owned, peer, bytes);
                else
                    RoundByMessages(owned, peer, bytes);
            }
            rounds_++;
        }
    }
    static void RoundByDescriptor(Owned &owned, Tls &peer, const std::string &bytes) {
        EXPECT_TRUE(peer.Write(bytes));
        EXPECT_TRUE(WritePlain(owned.data, bytes));
        EXPECT_EQ(bytes, ReadPlain(owned.data, bytes.size()));
        EXPECT_EQ(bytes, peer.Read(bytes.size()));
    }
    void RoundByMessages(Owned &owned, Tls &peer, const std::string &bytes) {
        size_t size = 0;

        EXPECT_TRUE(peer.Write(bytes));
        client_.Must("ssl.send", OnConn(owned.conn, "\"text\": " + Quoted(bytes)));
        while (size < bytes.size()) {
            Line event = client_.Event("ssl", owned.conn);

            if (!event)
                return; /* has failed */
            size += Unbase64(event.String("params.data")).size();
        }
        EXPECT_EQ(bytes, peer.Read(bytes.size()));
    }

    Client client_;
    std::vector<std::pair<Owned, Tls>> connections_;
    std::unique_ptr<Tls> paused_;
    std::vector<std::string> listeners_;
    std::thread thread_;
    std::atomic<bool> is_stopping_{false};
    std::atomic<size_t> rounds_{0};
};

/* --- The tests ------------------------------------------------------------------------------ */

class SecretsTest : public ConnectionTest {
protected:
    void SetUp() override {
        ConnectionTest::SetUp();
#ifdef CORDON_SANITIZED
        GTEST_SKIP() << "the sanitizers' shadow memory is too large to be read, and what was freed "
                        "they keep as it was";
#endif
    }

    void ExpectClean(const process &p, const std::string &kind, const Needles &needles) {
        Needles all = needles;

        all.push_back({"its title", kind});
        std::set<std::string> found = FindInMemory(p.pid, all);
        EXPECT_EQ(1U, found.erase("its title")) << "what must be in " << kind << " is not found";
        EXPECT_TRUE(found.empty()) << "in the memory of " << p.title << ":" << Names(found);
        found = FindInDescriptors(p.pid, needles);
        EXPECT_TRUE(found.empty()) << p.title << " holds:" << Names(found);
    }

    std::vector<process> Living() {
        std::vector<process> found(1000);

        found.resize(processes_below(harness_tree_pid(tree_), found.data(), found.size()));
        found.erase(std::remove_if(found.begin(), found.end(),
                                   [](const process &p) { return p.state == 'Z'; }),
                    found.end());
        return found;
    }
    static std::string KindOf(const process &p) {
        return Census::KindOf(p, strncmp(p.title, "cordon ", strlen("cordon ")) != 0);
    }
    /* Not a helper, which does its one job and ends, nor a child of cordond that is not yet what it
     * will be. */
    bool Stays(const process &p) {
        static const std::set<std::string> kinds = {"cordon manager", "cordon keeper",
                                                    "cordon nursery", "cordon worker"};
        std::string kind = KindOf(p);

        return kind == "cordond" ? p.pid == harness_tree_pid(tree_)
                                 : kinds.count(kind) == 1 && p.title[0] != '\0';
    }

    /* No process but the keeper has any of it, and the log has not. */
    void ExpectNowhere(const Needles &needles, size_t workers) {
        std::vector<process> found;
        std::map<std::string, size_t> kinds;

        EXPECT_TRUE(Eventually([&] {
            found = Living();
            return std::all_of(found.begin(), found.end(),
                               [this](const process &p) { return Stays(p); });
        })) << "a helper does not end";
        for (const process &p : found) {
            std::string kind = KindOf(p);

            kinds[kind]++;
            if (kind != "cordon keeper")
                ExpectClean(p, kind, needles);
        }
        EXPECT_EQ(1U, kinds["cordon keeper"]);
        EXPECT_EQ(1U, kinds["cordond"]);
        EXPECT_EQ(1U, kinds["cordon manager"]);
        EXPECT_GE(kinds["cordon nursery"], 1U);
        EXPECT_EQ(workers, kinds["cordon worker"]);
        ExpectNotInLog(needles);
    }

    void ExpectNotInLog(const Needles &needles) {
        char *log = harness_tree_log(tree_);
        std::set<std::string> found;

        ASSERT_NE(nullptr, log);
        EXPECT_NE(nullptr, strstr(log, " opened peer=")) << "the log is not what it should be";
        Search(needles).In(log, strlen(log), &found);
        EXPECT_TRUE(found.empty()) << "in the log:" << Names(found);
        free(log);
    }

    /* The keeper has each number, in one order or the other. */
    void ExpectInKeeper(const std::vector<Number> &numbers) {
        for (const Number &number : numbers) {
            Needles both = {{"forwards", number.bytes}, {"backwards", Backwards(number.bytes)}};

            EXPECT_FALSE(FindInMemory(Pid("cordon keeper"), both).empty()) << number.name;
        }
    }
    void ExpectNotInKeeper(const Needles &needles) {
        std::set<std::string> found = FindInMemory(Pid("cordon keeper"), needles);

        EXPECT_TRUE(found.empty()) << "in the memory of the keeper:" << Names(found);
        found = FindInDescriptors(Pid("cordon keeper"), needles);
        EXPECT_TRUE(found.empty()) << "the keeper holds:" << Names(found);
    }
    void ExpectKeeperForgets(const Needles &needles, int64_t wait_ms = HARNESS_WAIT_MS) {
        auto is_forgotten = [&] { return FindInMemory(Pid("cordon keeper"), needles).empty(); };

        harness_wait_until(
            [](void *context) { return (*static_cast<decltype(is_forgotten) *>(context))(); },
            &is_forgotten, harness_deadline(wait_ms));
        ExpectNotInKeeper(needles);
    }
};

/* How a key comes to Cordon. */
struct SecretCase {
    const char *name;
    const char *identity;
    const char *certfile, *keyfile; /* keyfile NULL: in certfile */
    enum { PATH, DESCRIPTOR } files;
    enum { NONE, AS_TEXT, AS_DESCRIPTOR } password;

    /* Numbers as they are and as they are stored. */
    Needles Wanted() const {
        std::vector<Number> numbers = NumbersOf(identity);
        Needles needles = Stored();

        for (const Number &number : numbers) {
            Add(&needles, PiecesOf(number.name, number.bytes, "forwards"));
            Add(&needles, PiecesOf(number.name, Backwards(number.bytes), "backwards"));
        }
        if (password != NONE)
            Add(&needles, PasswordPieces());
        return needles;
    }
    /* What the keeper has no use for once the key is loaded. The password of a file that it can read
     * once more is not among it. */
    Needles Stored() const {
        const char *file = keyfile != nullptr ? keyfile : certfile;
        Needles needles = password != NONE ? EncryptedPieces(file)
                                           : StoredPieces(file, NumbersOf(identity));

        if (password != NONE && files == DESCRIPTOR)
            Add(&needles, PasswordPieces());
        return needles;
    }
};

class KeySecretsTest : public SecretsTest, public testing::WithParamInterface<SecretCase> {
protected:
    static std::string PasswordFile() {
        std::string path = std::string(harness_cert("")) + "password";
        std::string text = HARNESS_PASSWORD "\n";

        EXPECT_TRUE(harness_write_file(path.c_str(), text.data(), text.size(), 0600));
        return path;
    }

    /* Options and the descriptors that belong to them. */
    static std::string Options(std::vector<Fd> *fds) {
        const SecretCase &p = GetParam();
        auto by_descriptor = [fds](const std::string &path) {
            fds->emplace_back(open(path.c_str(), O_RDONLY | O_CLOEXEC));
            EXPECT_GE(fds->back().get(), 0) << path;
            return "{\"fd_index\": " + std::to_string(fds->size() - 1) + "}";
        };
        auto file = [&](const char *name) {
            return p.files == SecretCase::PATH ? CertFile(name) : by_descriptor(harness_cert(name));
        };
        std::string options = "\"certfile\": " + file(p.certfile);

        if (p.keyfile != nullptr)
            options += ", \"keyfile\": " + file(p.keyfile);
        if (p.password == SecretCase::AS_TEXT)
            options += ", \"password\": " + Quoted(HARNESS_PASSWORD);
        if (p.password == SecretCase::AS_DESCRIPTOR)
            options += ", \"password\": " + by_descriptor(PasswordFile());
        return options;
    }

    static Listener ListenWithKey(Client &client, const std::string &more) {
        std::vector<Fd> fds;
        std::string options = Options(&fds) + more;
        std::vector<int> numbers;

        for (const Fd &fd : fds)
            numbers.push_back(fd.get());
        Line line = client.Must("ssl.listen",
                                R"({"listen": {"address": "127.0.0.1", "port": 0}, "options": {)" +
                                    options + "}}",
                                numbers);
        return {line.String("result.listener"), static_cast<uint16_t>(line.Integer("result.port"))};
    }
};

TEST_P(KeySecretsTest, IsOnlyInTheKeeper) {
    Needles wanted = GetParam().Wanted();
    /* Two halves of the shortest number in two orders; where lines break decides how much is stored
     * in one stretch. */
    ASSERT_FALSE(GetParam().Stored().empty());
    ASSERT_GE(wanted.size(), GetParam().Stored().size() + 4U);
    Load load(tree_, ListenWithKey);
    ASSERT_FALSE(HasFailure());

    ExpectInKeeper(NumbersOf(GetParam().identity));
    size_t rounds = load.Rounds();
    ExpectNowhere(wanted, load.Connections());
    EXPECT_GT(load.Rounds(), rounds) << "nothing flowed while the memory was read";
    ExpectNotInKeeper(GetParam().Stored());
    load.Stop();
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, KeySecretsTest, testing::Values(
    SecretCase{"RsaInTwoFiles", "server", "server.pem", "server.key", SecretCase::PATH, SecretCase::NONE},
    SecretCase{"RsaInOneFile", "server", "server.both.pem", nullptr, SecretCase::PATH, SecretCase::NONE},
    SecretCase{"RsaPkcs1", "server", "server.pem", "server.pkcs1.key", SecretCase::PATH, SecretCase::NONE},
    SecretCase{"RsaByDescriptors", "server", "server.pem", "server.key", SecretCase::DESCRIPTOR, SecretCase::NONE},
    SecretCase{"RsaEncrypted", "server", "server.pem", "server.encrypted.key", SecretCase::PATH, SecretCase::AS_TEXT},
    SecretCase{"RsaEncryptedInOneFile", "server", "server.encrypted.both.pem", nullptr, SecretCase::PATH, SecretCase::AS_TEXT},
    SecretCase{"RsaEncryptedByDescriptors", "server", "server.pem", "server.encrypted.key", SecretCase::DESCRIPTOR, SecretCase::AS_DESCRIPTOR},
    SecretCase{"EcdsaInTwoFiles", "ecdsa", "ecdsa.pem", "ecdsa.key", SecretCase::PATH, SecretCase::NONE},
    SecretCase{"EcdsaInOneFile", "ecdsa", "ecdsa.both.pem", nullptr, SecretCase::PATH, SecretCase::NONE},
    SecretCase{"Ed25519InTwoFiles", "ed25519", "ed25519.pem", "ed25519.key", SecretCase::PATH, SecretCase::NONE}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

/* --- The other end of TLS ------------------------------------------------------------------- */

TEST_F(SecretsTest, AClientsKeyIsOnlyInTheKeeper) {
    const SecretCase p = {"Client", "client",         "client.both.pem",
                          nullptr,  SecretCase::PATH, SecretCase::NONE};
    harness_tls_options server = {};
    server.identity = "server";
    server.trust = harness_cert("ca.pem");
    server.request_client_certificate = true;
    auto [line, peer] = Connect("\"cacertfile\": " + CertFile("ca.pem") +
                                    ", \"certfile\": " + CertFile("client.both.pem"),
                                server);
    ASSERT_TRUE(line.IsResult()) << line.Text();
    Owned owned = OwnedOf(std::move(line));

    ExpectEcho(owned, peer);
    ExpectInKeeper(NumbersOf("client"));
    ExpectNowhere(p.Wanted(), 1);
    ExpectNotInKeeper(p.Stored());
}

/* --- What is refused ------------------------------------------------------------------------ */

struct RefusedCase {
    const char *name;
    const char *options; /* file names after @ */
    const char *option;  /* that is at fault */
};

class RefusedSecretsTest : public SecretsTest, public testing::WithParamInterface<RefusedCase> {
protected:
    static std::string WithFiles(std::string options) {
        for (size_t at; (at = options.find('@')) != std::string::npos;) {
            size_t end = std::min(options.find_first_of(",} ", at), options.size());

            options.replace(at, end - at, CertFile(options.substr(at + 1, end - at - 1)));
        }
        return options;
    }
    /* Of both forms of the server's key, and the password. */
    static Needles Wanted() {
        Needles needles = SecretCase{"",      "server",         "server.encrypted.key",
                                     nullptr, SecretCase::PATH, SecretCase::AS_TEXT}
                              .Wanted();

        Add(&needles, StoredPieces("server.key", NumbersOf("server")));
        return needles;
    }
};

TEST_P(RefusedSecretsTest, LeavesNothingBehind) {
    Line line = client().Call("ssl.listen",
                              R"({"listen": {"address": "127.0.0.1", "port": 0}, "options": {)" +
                                  WithFiles(GetParam().options) + "}}");
    std::set<std::string> found;
    std::string text = line.Text();

    EXPECT_EQ("options", line.Reason()) << text;
    EXPECT_EQ(GetParam().option, line.String("error.data.option")) << text;
    Search(Wanted()).In(text.data(), text.size(), &found);
    EXPECT_TRUE(found.empty()) << "in the answer:" << Names(found);
    ExpectNowhere(Wanted(), 0);
    ExpectKeeperForgets(Wanted());
}

/* clang-format off */
#define PASSWORD "\"password\": \"" HARNESS_PASSWORD "\""
INSTANTIATE_TEST_SUITE_P(, RefusedSecretsTest, testing::Values(
    RefusedCase{"WrongPassword", "\"certfile\": @server.pem, \"keyfile\": @server.encrypted.key, \"password\": \"Sesam, oeffne dich 0815\"", "password"},
    RefusedCase{"KeyAsTrust", "\"certfile\": @ecdsa.pem, \"keyfile\": @ecdsa.key, \"cacertfile\": @server.both.pem", "cacertfile"},
    RefusedCase{"KeyAsCertificate", "\"certfile\": @server.key, \"keyfile\": @server.pem", "certfile"},
    RefusedCase{"MissingCertificate", "\"certfile\": @nothing.pem, \"keyfile\": @server.encrypted.key, " PASSWORD, "certfile"},
    RefusedCase{"KeyOfAnother", "\"certfile\": @ecdsa.pem, \"keyfile\": @server.encrypted.key, " PASSWORD, "keyfile"},
    RefusedCase{"UnknownSuite", "\"certfile\": @server.encrypted.both.pem, " PASSWORD ", \"ciphers\": [\"none\"]", "ciphers"},
    RefusedCase{"UnknownOption", "\"certfile\": @server.encrypted.both.pem, " PASSWORD ", \"other\": 1", "other"}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

TEST_F(SecretsTest, ALineThatIsNotJsonLeavesNoPassword) {
    std::string line = R"({"jsonrpc": "2.0", "id": 1, "method": "ssl.listen", "params": {)"
                       R"("options": {"password": ")" HARNESS_PASSWORD "\"}}]}\n";
    Client other(tree_);
    ASSERT_TRUE(harness_client_send(other.raw(), line.data(), line.size(), nullptr, 0,
                                    harness_deadline(HARNESS_WAIT_MS)));
    Line answer;
    ASSERT_TRUE(harness_client_line(other.raw(), answer.raw(), harness_deadline(HARNESS_WAIT_MS)));
    EXPECT_EQ("parse_error", answer.Reason()) << answer.Text();
    EXPECT_EQ(std::string::npos, answer.Text().find(HARNESS_PASSWORD));
    ExpectNowhere(PasswordPieces(), 0);
}

/* --- The end of a key ----------------------------------------------------------------------- */

class ForgottenTest : public SecretsTest {
protected:
    /* The keeper has the key, then nobody uses it any more. */
    void UseAndLeave(const SecretCase &p) {
        Listener listener =
            Listen(client(), "\"certfile\": " + CertFile(p.certfile) + ", " PASSWORD);
        {
            auto [owned, peer] = Accept(listener);
            ExpectEcho(owned, peer);
            ExpectInKeeper(NumbersOf(p.identity));
            client().Must("ssl.close", OnConn(owned.conn));
        }
        client().Must("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
    }
    const SecretCase key_ = {"Forgotten", "server",         "server.encrypted.both.pem",
                             nullptr,     SecretCase::PATH, SecretCase::AS_TEXT};
};

TEST_F(ForgottenTest, WhenItsContextMakesRoomForAnother) {
    Restart(R"({"contexts_max": 1})");
    UseAndLeave(key_);
    Listen(client(), Identity("ed25519"));
    ExpectKeeperForgets(key_.Wanted());
    ExpectInKeeper(NumbersOf("ed25519"));
}

TEST_F(ForgottenTest, AMinuteAfterItsLastUse) {
    if (!harness_is_full())
        GTEST_SKIP() << "takes a minute: CORDON_FULL=1";
    UseAndLeave(key_);
    ExpectInKeeper(NumbersOf(key_.identity));
    ExpectKeeperForgets(key_.Wanted(), CONTEXT_UNUSED_MS + HARNESS_WAIT_MS);
}

} /* namespace */
