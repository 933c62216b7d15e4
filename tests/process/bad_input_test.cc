/*
 * Bad input on the control socket: each gets an error that names the fault, nothing leaks, and
 * everybody else is undisturbed.
 */
#include "tests/harness/fixture.h"
#include "tests/process/json_cases.h"

#include <algorithm>
#include <fcntl.h>
#include <fstream>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <set>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

namespace {

using namespace harness;

constexpr uid_t STRANGER = 54321;

class BadInputTest : public TreeTest {
protected:
    void SetUp() override {
        TreeTest::SetUp();
        if (!HasFatalFailure()) {
            /* What a nursery opens while it gets ready is not ours. */
            EXPECT_TRUE(WaitLog("nursery=1 ready"));
            EXPECT_TRUE(WaitLog("nursery=2 ready"));
            before_ = Settled();
            witness_ = std::make_unique<Client>(tree_);
        }
    }
    void TearDown() override {
        if (witness_) {
            ExpectUndisturbed();
            EXPECT_FALSE(witness_->HasEvent("ssl_closed"));
        }
        witness_.reset();
        TreeTest::TearDown();
    }

    /* Another client, all the time. */
    void ExpectUndisturbed() {
        Line line = witness_->Call("ssl.versions");

        EXPECT_TRUE(line.IsResult()) << line.Text();
    }

    static bool Send(Client &c, const std::string &bytes, const std::vector<int> &fds = {}) {
        return harness_client_send(c.raw(), bytes.data(), bytes.size(), fds.data(), fds.size(),
                                   harness_deadline(HARNESS_WAIT_MS));
    }
    /* The next line, which must come. */
    static Line Next(Client &c) {
        Line line;

        EXPECT_TRUE(harness_client_line(c.raw(), line.raw(), harness_deadline(HARNESS_WAIT_MS)));
        return line;
    }
    static Line Answer(Client &c, const std::string &bytes, const std::vector<int> &fds = {}) {
        EXPECT_TRUE(Send(c, bytes, fds));
        return Next(c);
    }
    static void ExpectAlive(Client &c) { EXPECT_TRUE(c.Call("ssl.versions").IsResult()); }
    static void ExpectEnded(Client &c) {
        EXPECT_TRUE(harness_client_ended(c.raw(), harness_deadline(HARNESS_WAIT_MS)));
    }

    /* What the codes of JSON-RPC are for our reasons. */
    static int CodeOf(const std::string &reason) {
        if (reason == "parse_error" || reason == "line_too_long")
            return -32700;
        if (reason == "invalid_request")
            return -32600;
        if (reason == "method_not_found")
            return -32601;
        if (reason == "invalid_params")
            return -32602;
        return reason == "descriptors" ? -32050 : -32000;
    }
    static void ExpectError(const Line &line, const std::string &reason) {
        const char *version = json_string_value(line.At("jsonrpc"));

        EXPECT_EQ(reason, line.Reason()) << line.Text();
        EXPECT_EQ(CodeOf(reason), json_integer_value(line.At("error.code"))) << line.Text();
        EXPECT_STRNE("", line.String("error.message").c_str()) << line.Text();
        EXPECT_STREQ("2.0", version != nullptr ? version : "");
    }

    std::unique_ptr<Client> witness_;
};

std::string Request(const std::string &method, const std::string &params,
                    const std::string &more = "") {
    return R"({"jsonrpc":"2.0","id":7,"method":")" + method + R"(","params":)" + params + more +
           "}";
}

/* --- the table ------------------------------------------------------------------------------ */

struct Row {
    const char *name;
    std::string line;
    const char *reason;
    const char *names; /* what the error's data has to mention */
};

constexpr const char *PARSE = "parse_error";
constexpr const char *INVALID = "invalid_request";
constexpr const char *METHOD = "method_not_found";
constexpr const char *PARAM = "invalid_params";
constexpr const char *OPTION = "options";
constexpr const char *FDS = "descriptors";

std::string Connect(const std::string &options) {
    return Request("ssl.connect", R"({"host":"localhost","port":1,"options":{)" + options + "}}");
}

std::string Listen(const std::string &options) {
    return Request("ssl.listen", R"({"listen":{"port":0},"options":{)" + options + "}}");
}

/* clang-format off */
const std::vector<Row> &Rows() {
    static const std::vector<Row> rows = {
    /* Not JSON, or not one object. */
    {"empty line", "", PARSE, "empty"},
    {"blanks", " \t ", PARSE, "empty"},
    {"carriage return alone", "\r", PARSE, "empty"},
    {"a word", "hello", PARSE, "not an object"},
    {"http", "GET / HTTP/1.1", PARSE, "not an object"},
    {"TLS", "\x16\x03\x01\x02\x01", PARSE, "not an object"},
    {"a number", "17", PARSE, "not an object"},
    {"a string", "\"x\"", PARSE, "not an object"},
    {"true", "true", PARSE, "not an object"},
    {"null", "null", PARSE, "not an object"},
    {"an array", "[1,2]", PARSE, "array"},
    {"a batch", "[" + Request("ssl.versions", "{}") + "]", PARSE, "batches"},
    {"an empty batch", "[]", PARSE, "batches"},
    {"byte order mark", "\xef\xbb\xbf" + Request("ssl.versions", "{}"), PARSE, "not an object"},
    {"two objects", Request("ssl.versions", "{}") + Request("ssl.versions", "{}"), PARSE, "follows"},
    {"something behind", Request("ssl.versions", "{}") + " x", PARSE, "follows"},
    {"comma behind", Request("ssl.versions", "{}") + ",", PARSE, "follows"},
    {"not closed", R"({"jsonrpc":"2.0","id":7)", PARSE, "too early"},
    {"not closed string", R"({"jsonrpc":"2.0)", PARSE, "position"},
    {"comma before end", R"({"jsonrpc":"2.0",})", PARSE, "position"},
    {"no quotes", "{jsonrpc:2}", PARSE, "position"},
    {"single quotes", "{'jsonrpc':'2.0'}", PARSE, "position"},
    {"a comment", "{/* x */}", PARSE, "position"},
    {"NUL byte", std::string("{\"a\":\"\0\"}", 9), PARSE, "NUL"},
    {"NUL in the front", std::string("\0{}", 3), PARSE, "NUL"},
    {"escaped NUL", R"({"a":"\u0000"})", PARSE, "NUL"},
    {"not UTF-8", "{\"a\":\"\xff\"}", PARSE, "UTF-8"},
    {"half a surrogate pair", R"({"a":"\ud800"})", PARSE, "position"},
    {"huge integer", R"({"a":123456789012345678901234567890})", PARSE, "too large"},
    {"huge real", R"({"a":1e400})", PARSE, "too large"},
    {"NaN", R"({"a":NaN})", PARSE, "position"},
    {"duplicate key", R"({"jsonrpc":"2.0","jsonrpc":"2.0"})", PARSE, "twice"},
    {"duplicate id", R"({"jsonrpc":"2.0","id":1,"id":2,"method":"ssl.versions"})", PARSE, "twice"},
    {"duplicate parameter", Request("ssl.recv", R"({"conn":"c1.1","conn":"c1.2"})"), PARSE, "twice"},
    {"duplicate by escape", Request("ssl.recv", R"({"conn":"c1.1","\u0063onn":"c1.2"})"), PARSE, "twice"},
    {"33 deep", Request("ssl.format_error", R"({"reason":{"a":)" + json_cases::Repeat("[", 30) + json_cases::Repeat("]", 30) + "}}"), PARSE, "deeper than 32"},
    {"30,000 deep", "{\"a\":" + json_cases::Repeat("[", 30000), PARSE, "deeper than 32"},
    {"too many values", Request("ssl.send", "{\"conn\":\"c1.1\",\"bytes\":[" + json_cases::Repeat("1,", 10000) + "1]}"), PARSE, "too many values"},

    /* Not a JSON-RPC 2.0 request. */
    {"an empty object", "{}", INVALID, "jsonrpc"},
    {"no version", R"({"id":7,"method":"ssl.versions"})", INVALID, "jsonrpc"},
    {"version 1.0", R"({"jsonrpc":"1.0","id":7,"method":"ssl.versions"})", INVALID, "2.0"},
    {"version as number", R"({"jsonrpc":2.0,"id":7,"method":"ssl.versions"})", INVALID, "2.0"},
    {"version null", R"({"jsonrpc":null,"id":7,"method":"ssl.versions"})", INVALID, "2.0"},
    {"version with a blank", R"({"jsonrpc":"2.0 ","id":7,"method":"ssl.versions"})", INVALID, "2.0"},
    {"no id", R"({"jsonrpc":"2.0","method":"ssl.versions"})", INVALID, "notifications"},
    {"id null", R"({"jsonrpc":"2.0","id":null,"method":"ssl.versions"})", INVALID, "id must"},
    {"id true", R"({"jsonrpc":"2.0","id":true,"method":"ssl.versions"})", INVALID, "id must"},
    {"id real", R"({"jsonrpc":"2.0","id":1.5,"method":"ssl.versions"})", INVALID, "id must"},
    {"id array", R"({"jsonrpc":"2.0","id":[1],"method":"ssl.versions"})", INVALID, "id must"},
    {"id object", R"({"jsonrpc":"2.0","id":{},"method":"ssl.versions"})", INVALID, "id must"},
    {"id too long", R"({"jsonrpc":"2.0","id":")" + std::string(65, 'x') + R"(","method":"ssl.versions"})", INVALID, "64 bytes"},
    {"no method", R"({"jsonrpc":"2.0","id":7})", INVALID, "method"},
    {"method null", R"({"jsonrpc":"2.0","id":7,"method":null})", INVALID, "method"},
    {"method number", R"({"jsonrpc":"2.0","id":7,"method":1})", INVALID, "method"},
    {"method array", R"({"jsonrpc":"2.0","id":7,"method":["ssl.versions"]})", INVALID, "method"},
    {"an unknown member", Request("ssl.versions", "{}", R"(,"extra":1)"), INVALID, "extra"},
    {"member in capitals", R"({"JSONRPC":"2.0","id":7,"method":"ssl.versions"})", INVALID, "JSONRPC"},
    {"a reply", R"({"jsonrpc":"2.0","id":7,"result":{}})", INVALID, "result"},
    {"an error", R"({"jsonrpc":"2.0","id":7,"error":{}})", INVALID, "error"},
    {"fds text", Request("ssl.versions", "{}", R"(,"fds":"0")"), INVALID, "fds"},
    {"fds real", Request("ssl.versions", "{}", R"(,"fds":0.0)"), INVALID, "fds"},
    {"fds null", Request("ssl.versions", "{}", R"(,"fds":null)"), INVALID, "fds"},
    {"fds negative", Request("ssl.versions", "{}", R"(,"fds":-1)"), INVALID, "fds"},
    {"fds true", Request("ssl.versions", "{}", R"(,"fds":true)"), INVALID, "fds"},

    /* Unknown methods. */
    {"method empty", Request("", "{}"), METHOD, "method"},
    {"method unknown", Request("ssl.nothing", "{}"), METHOD, "ssl.nothing"},
    {"method in capitals", Request("SSL.VERSIONS", "{}"), METHOD, "SSL.VERSIONS"},
    {"method with a blank", Request("ssl.versions ", "{}"), METHOD, "ssl.versions"},
    {"method without prefix", Request("versions", "{}"), METHOD, "versions"},
    {"method of a later version", Request("ssl.prf", "{}"), METHOD, "ssl.prf"},
    {"method that is an event", Request("ssl_closed", "{}"), METHOD, "ssl_closed"},
    {"method of JSON-RPC", Request("rpc.discover", "{}"), METHOD, "rpc.discover"},
    {"method very long", Request(std::string(5000, 'm'), "{}"), METHOD, "mmm"},
    {"method with escapes", Request("a\\u001b[31m\\n", "{}"), METHOD, "x1b"},

    /* Parameters. */
    {"params array", Request("ssl.versions", "[]"), PARAM, "params"},
    {"params text", Request("ssl.versions", "\"x\""), PARAM, "params"},
    {"params number", Request("ssl.versions", "1"), PARAM, "params"},
    {"params null", Request("ssl.versions", "null"), PARAM, "params"},
    {"unknown parameter", Request("ssl.versions", R"({"x":1})"), PARAM, "\"x\""},
    {"unknown parameter null", Request("ssl.versions", R"({"x":null})"), PARAM, "\"x\""},
    {"unknown parameter empty", Request("ssl.versions", R"({"":1})"), PARAM, "param"},
    {"unknown parameter long", Request("ssl.versions", "{\"" + std::string(9000, 'p') + "\":1}"), PARAM, "ppp"},
    {"hello: client number", Request("cordon.hello", R"({"client":1})"), PARAM, "client"},
    {"hello: client empty", Request("cordon.hello", R"({"client":""})"), PARAM, "client"},
    {"hello: client long", Request("cordon.hello", "{\"client\":\"" + std::string(65, 'x') + "\"}"), PARAM, "64 bytes"},
    {"hello: want text", Request("cordon.hello", R"({"want":"ownership"})"), PARAM, "want"},
    {"hello: want unknown", Request("cordon.hello", R"({"want":["everything"]})"), PARAM, "want[0]"},
    {"connections: limit zero", Request("cordon.connections", R"({"limit":0})"), PARAM, "limit"},
    {"connections: limit large", Request("cordon.connections", R"({"limit":1001})"), PARAM, "limit"},
    {"connections: limit real", Request("cordon.connections", R"({"limit":1.0})"), PARAM, "limit"},
    {"connections: role", Request("cordon.connections", R"({"role":"both"})"), PARAM, "role"},
    {"connections: state", Request("cordon.connections", R"({"state":"x"})"), PARAM, "state"},
    {"connections: after", Request("cordon.connections", R"({"after":"l1.1"})"), PARAM, "after"},
    {"connections: owner", Request("cordon.connections", R"({"owner":"c1.1"})"), PARAM, "owner"},
    {"listeners: after", Request("cordon.listeners", R"({"after":5})"), PARAM, "after"},
    {"clients: after", Request("cordon.clients", R"({"after":"k"})"), PARAM, "after"},
    {"subscribe: types empty", Request("cordon.subscribe", R"({"types":[]})"), PARAM, "types"},
    {"subscribe: types unknown", Request("cordon.subscribe", R"({"types":["log","all"]})"), PARAM, "types[1]"},
    {"subscribe: conns handle", Request("cordon.subscribe", R"({"conns":["x"]})"), PARAM, "conns[0]"},
    {"unsubscribe: nothing", Request("cordon.unsubscribe", "{}"), PARAM, "subscription"},
    {"unsubscribe: handle", Request("cordon.unsubscribe", R"({"subscription":"c1.1"})"), PARAM, "subscription"},
    {"unsubscribe: unknown", Request("cordon.unsubscribe", R"({"subscription":"s1.999"})"), "not_found", "s1.999"},
    {"cancel: nothing", Request("cordon.cancel", "{}"), PARAM, "id"},
    {"cancel: real", Request("cordon.cancel", R"({"id":1.5})"), PARAM, "id"},
    {"cancel: unknown", Request("cordon.cancel", R"({"id":12345})"), "not_found", "request"},
    {"cancel: itself", Request("cordon.cancel", R"({"id":7})"), "bad_state", "running"},
    {"kill: nothing", Request("cordon.kill", "{}"), PARAM, "conn"},
    {"kill: how", Request("cordon.kill", R"({"conn":"c1.1","how":"softly"})"), PARAM, "how"},
    {"kill: unknown", Request("cordon.kill", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"log_level: unknown", Request("cordon.log_level", R"({"level":"loud"})"), PARAM, "level"},
    {"cipher_suites: type", Request("ssl.cipher_suites", R"({"type":"some"})"), PARAM, "type"},
    {"format_error: nothing", Request("ssl.format_error", "{}"), PARAM, "reason"},
    {"format_error: number", Request("ssl.format_error", R"({"reason":1})"), PARAM, "reason"},
    {"format_error: long", Request("ssl.format_error", "{\"reason\":\"" + std::string(256, 'x') + "\"}"), PARAM, "reason"},

    {"listen: nothing", Request("ssl.listen", "{}"), PARAM, "exactly one"},
    {"listen: both", Request("ssl.listen", R"({"listen":{"port":0},"fd_index":0})"), FDS, "fd_index"},
    {"listen: text", Request("ssl.listen", R"({"listen":"127.0.0.1:80"})"), PARAM, "listen"},
    {"listen: no port", Request("ssl.listen", R"({"listen":{"address":"::1"}})"), PARAM, "listen.port"},
    {"listen: port text", Request("ssl.listen", R"({"listen":{"port":"443"}})"), PARAM, "listen.port"},
    {"listen: port negative", Request("ssl.listen", R"({"listen":{"port":-1}})"), PARAM, "65535"},
    {"listen: port large", Request("ssl.listen", R"({"listen":{"port":65536}})"), PARAM, "65535"},
    {"listen: address number", Request("ssl.listen", R"({"listen":{"port":0,"address":1}})"), PARAM, "listen.address"},
    {"listen: member unknown", Request("ssl.listen", R"({"listen":{"port":0,"host":"x"}})"), PARAM, "listen.host"},
    {"listen: accept", Request("ssl.listen", R"({"listen":{"port":0},"accept":"always"})"), PARAM, "accept"},
    {"listen: handshakes_max", Request("ssl.listen", R"({"listen":{"port":0},"handshakes_max":0})"), PARAM, "handshakes_max"},
    {"listen: accept_queue", Request("ssl.listen", R"({"listen":{"port":0},"accept_queue":10001})"), PARAM, "accept_queue"},
    {"listen: options array", Request("ssl.listen", R"({"listen":{"port":0},"options":[]})"), PARAM, "options"},
    {"listen: no certificate", Listen(""), OPTION, "certfile"},
    {"listen: certfile number", Listen(R"("certfile":1)"), OPTION, "certfile"},
    {"listen: certfile relative", Listen(R"("certfile":"server.pem")"), OPTION, "absolute"},
    {"listen: certfile object", Listen(R"("certfile":{"path":"/x"})"), OPTION, "fd_index"},
    {"listen: certfile missing", Listen(R"("certfile":"/nonexistent/cert.pem")"), OPTION, "enoent"},
    {"listen: certfile long", Listen("\"certfile\":\"/" + std::string(4095, 'x') + "\""), OPTION, "4095"},
    {"listen: password number", Listen(R"("certfile":"/x","password":1)"), OPTION, "password"},
    {"listen: password long", Listen("\"certfile\":\"/x\",\"password\":\"" + std::string(1025, 'x') + "\""), OPTION, "1024"},
    {"listen: verify", Listen(R"("certfile":"/x","verify":true)"), OPTION, "verify"},
    {"listen: verify without CAs", Listen(R"("certfile":"/x","verify":"verify_peer")"), OPTION, "cacertfile"},
    {"listen: fail_if_no_peer_cert", Listen(R"("certfile":"/x","fail_if_no_peer_cert":true)"), OPTION, "fail_if_no_peer_cert"},
    {"listen: depth", Listen(R"("certfile":"/x","depth":256)"), OPTION, "depth"},
    {"listen: versions empty", Listen(R"("certfile":"/x","versions":[])"), OPTION, "versions"},
    {"listen: versions unknown", Listen(R"("certfile":"/x","versions":["sslv3"])"), OPTION, "sslv3"},
    {"listen: versions old", Listen(R"("certfile":"/x","versions":["tlsv1"])"), "not_supported", "versions"},
    {"listen: ciphers text", Listen(R"("certfile":"/x","ciphers":"HIGH:!aNULL")"), OPTION, "ciphers"},
    {"listen: ciphers unknown", Listen(R"("certfile":"/x","ciphers":["RC4-MD5-NONE"])"), OPTION, "RC4-MD5-NONE"},
    {"listen: ciphers of another version", Listen(R"("certfile":"/x","versions":["tlsv1.3"],"ciphers":["ECDHE-RSA-AES128-GCM-SHA256"])"), OPTION, "ciphers"},
    {"listen: client's option", Listen(R"("certfile":"/x","verify_hostname":"x")"), OPTION, "verify_hostname"},
    {"listen: ALPN empty name", Listen(R"("certfile":"/x","alpn_preferred_protocols":[""])"), OPTION, "alpn_preferred_protocols"},
    {"listen: delivery", Listen(R"("certfile":"/x","delivery":"path")"), OPTION, "delivery"},
    {"listen: lifetime", Listen(R"("certfile":"/x","delivery":"messages","lifetime":"descriptor")"), OPTION, "lifetime"},
    {"listen: backlog", Listen(R"("certfile":"/x","backlog":0)"), OPTION, "backlog"},
    {"listen: option of a later version", Listen(R"("certfile":"/x","packet":4)"), OPTION, "packet"},
    {"listen: fd_index missing", Request("ssl.listen", R"({"fd_index":0})"), FDS, "fd_index"},
    {"listen: fd_index text", Request("ssl.listen", R"({"fd_index":"0"})"), PARAM, "fd_index"},
    {"listen: fd_index large", Request("ssl.listen", R"({"fd_index":64})"), PARAM, "fd_index"},

    {"connect: nothing", Request("ssl.connect", "{}"), PARAM, "host"},
    {"connect: no port", Request("ssl.connect", R"({"host":"x"})"), PARAM, "port"},
    {"connect: host empty", Request("ssl.connect", R"({"host":"","port":1})"), PARAM, "host"},
    {"connect: host long", Request("ssl.connect", "{\"host\":\"" + std::string(256, 'x') + "\",\"port\":1}"), PARAM, "255"},
    {"connect: port zero", Request("ssl.connect", R"({"host":"x","port":0})"), PARAM, "port"},
    {"connect: timeout zero", Request("ssl.connect", R"({"host":"x","port":1,"timeout":0})"), PARAM, "timeout"},
    {"connect: timeout text", Request("ssl.connect", R"({"host":"x","port":1,"timeout":"1000"})"), PARAM, "timeout"},
    {"connect: key without certificate", Connect(R"("keyfile":"/x")"), OPTION, "keyfile"},
    {"connect: password without certificate", Connect(R"("password":"x")"), OPTION, "password"},
    {"connect: server's option", Connect(R"("honor_cipher_order":true)"), OPTION, "honor_cipher_order"},
    {"connect: nine protocols", Connect(R"("alpn_advertised_protocols":["1","2","3","4","5","6","7","8","9"])"), OPTION, "alpn_advertised_protocols"},
    {"connect: long protocol", Connect("\"alpn_advertised_protocols\":[\"" + std::string(32, 'p') + "\"]"), OPTION, "alpn_advertised_protocols"},
    {"connect: CAs missing", Connect(R"("cacertfile":"/nonexistent/ca.pem")"), OPTION, "enoent"},
    {"connect: descriptor missing", Connect(R"("cacertfile":{"fd_index":0})"), FDS, "options.cacertfile"},
    {"connect: fd_index real", Connect(R"("cacertfile":{"fd_index":0.0})"), OPTION, "cacertfile"},
    {"connect: fd_index negative", Connect(R"("cacertfile":{"fd_index":-1})"), FDS, "options.cacertfile"},
    {"connect: fd_index and more", Connect(R"("cacertfile":{"fd_index":0,"path":"/x"})"), OPTION, "cacertfile"},
    {"connect: old version with certificate", Connect(R"("versions":["tlsv1.1"],"certfile":"/x")"), OPTION, "versions"},

    {"upgrade: nothing", Request("ssl.upgrade", "{}"), PARAM, "fd_index"},
    {"upgrade: no descriptor", Request("ssl.upgrade", R"({"fd_index":0,"role":"client"})"), FDS, "fd_index"},
    {"upgrade: already_read", Request("ssl.upgrade", R"({"fd_index":0,"role":"client","already_read":"!"})"), FDS, "fd_index"},
    {"handshake: nothing", Request("ssl.handshake", "{}"), PARAM, "conn"},
    {"handshake: alias", Request("ssl.ssl_accept", "{}"), PARAM, "conn"},
    {"handshake: unknown", Request("ssl.handshake", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"handshake: listener's option", Request("ssl.handshake", R"({"conn":"c1.999","options":{"backlog":1}})"), OPTION, "backlog"},
    {"accept: handle of a connection", Request("ssl.accept", R"({"listener":"c1.1"})"), PARAM, "listener"},
    {"accept: unknown", Request("ssl.accept", R"({"listener":"l1.999"})"), "not_found", "l1.999"},
    {"transport_accept: unknown", Request("ssl.transport_accept", R"({"listener":"l9.1"})"), "not_found", "l9.1"},
    {"close: nothing", Request("ssl.close", "{}"), PARAM, "exactly one"},
    {"close: both", Request("ssl.close", R"({"conn":"c1.1","listener":"l1.1"})"), PARAM, "exactly one"},
    {"close: unknown", Request("ssl.close", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"shutdown: no how", Request("ssl.shutdown", R"({"conn":"c1.1"})"), PARAM, "how"},
    {"shutdown: how", Request("ssl.shutdown", R"({"conn":"c1.1","how":"both"})"), PARAM, "read_write"},
    {"shutdown: unknown", Request("ssl.shutdown", R"({"conn":"c1.999","how":"read"})"), "not_found", "c1.999"},
    {"setopts: unknown", Request("ssl.setopts", R"({"conn":"c1.999","options":{"active":true}})"), "not_found", "c1.999"},
    {"getopts: unknown", Request("ssl.getopts", R"({"conn":"c1.999","names":["active"]})"), "not_found", "c1.999"},
    {"close: listener unknown", Request("ssl.close", R"({"listener":"l1.999"})"), "not_found", "l1.999"},
    {"send: nothing", Request("ssl.send", R"({"conn":"c1.1"})"), PARAM, "exactly one"},
    {"send: data and text", Request("ssl.send", R"({"conn":"c1.1","data":"","text":""})"), PARAM, "exactly one"},
    {"send: base64", Request("ssl.send", R"({"conn":"c1.1","data":"abc"})"), PARAM, "base64"},
    {"send: bytes", Request("ssl.send", R"({"conn":"c1.1","bytes":[1,2,300]})"), PARAM, "bytes[2]"},
    {"send: too many bytes", Request("ssl.send", "{\"conn\":\"c1.1\",\"bytes\":[" + json_cases::Repeat("1,", 8000) + "1]}"), PARAM, "8000"},
    {"send: long text", Request("ssl.send", "{\"conn\":\"c1.1\",\"text\":\"" + std::string(32769, 'x') + "\"}"), PARAM, "32768"},
    {"send: unknown", Request("ssl.send", R"({"conn":"c1.999","text":"x"})"), "not_found", "c1.999"},
    {"recv: length", Request("ssl.recv", R"({"conn":"c1.1","length":65537})"), PARAM, "length"},
    {"recv: unknown", Request("ssl.recv", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"setopts: no options", Request("ssl.setopts", R"({"conn":"c1.1"})"), PARAM, "options"},
    {"setopts: once", Request("ssl.setopts", R"({"conn":"c1.1","options":{"active":"once"}})"), OPTION, "active"},
    {"setopts: mode", Request("ssl.setopts", R"({"conn":"c1.1","options":{"mode":"list"}})"), OPTION, "mode"},
    {"getopts: no names", Request("ssl.getopts", R"({"conn":"c1.1"})"), PARAM, "names"},
    {"getopts: unknown name", Request("ssl.getopts", R"({"conn":"c1.1","names":["packet"]})"), PARAM, "names[0]"},
    {"information: items", Request("ssl.connection_information", R"({"conn":"c1.1","items":["x"]})"), PARAM, "items[0]"},
    {"information: unknown", Request("ssl.connection_information", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"info: unknown", Request("ssl.connection_info", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"protocol: unknown", Request("ssl.negotiated_protocol", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"peercert: unknown", Request("ssl.peercert", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"peername: unknown", Request("ssl.peername", R"({"conn":"c1.999"})"), "not_found", "c1.999"},
    {"sockname: listener unknown", Request("ssl.sockname", R"({"listener":"l1.999"})"), "not_found", "l1.999"},
    };
    return rows;
}
/* clang-format on */

/* Whether the line can be answered with its own id. */
bool HasId(const Row &row) {
    return row.reason != PARSE && row.line.find("\"id\":7") != std::string::npos;
}

TEST_F(BadInputTest, EveryMalformedLineIsAnsweredByNameOfItsFault) {
    Client c(tree_);

    ASSERT_GE(Rows().size(), 150U);
    for (const Row &row : Rows()) {
        SCOPED_TRACE(row.name);
        Line line = Answer(c, row.line + "\n");

        ExpectError(line, row.reason);
        EXPECT_EQ(HasId(row) ? 7 : -1, line.Integer("id")) << line.Text();
        EXPECT_NE(std::string::npos, Dump(line.At("error.data")).find(row.names)) << line.Text();
        ASSERT_FALSE(HasFatalFailure());
    }
    ExpectAlive(c);
}

/* --- JSON, bare and as parameters ------------------------------------------------------------ */

TEST_F(BadInputTest, JsonIsReadOrRefusedAsItShouldBe) {
    std::vector<json_cases::JsonCase> cases = json_cases::All();
    Client c(tree_);

    ASSERT_GE(cases.size(), 318U);
    for (const json_cases::JsonCase &one : cases) {
        SCOPED_TRACE(one.name);
        std::string reason = Answer(c, one.text + "\n").Reason();
        size_t first = one.text.find_first_not_of(" \t\r");
        bool is_object = first != std::string::npos && one.text[first] == '{';

        if (one.name[0] == 'y')
            EXPECT_EQ(is_object ? INVALID : PARSE, reason);
        else if (one.name[0] == 'n')
            EXPECT_EQ(PARSE, reason);
        else
            EXPECT_TRUE(reason == PARSE || reason == INVALID) << reason;
    }
    ExpectAlive(c);
}

TEST_F(BadInputTest, JsonAsParametersIsReadOrRefusedAsItShouldBe) {
    Client c(tree_);

    for (const json_cases::JsonCase &one : json_cases::All()) {
        SCOPED_TRACE(one.name);
        Line line = Answer(c, Request("ssl.versions", one.text) + "\n");
        bool is_empty = one.text.find_first_not_of(" {}") == std::string::npos;

        if (one.name[0] == 'n')
            EXPECT_EQ(PARSE, line.Reason()) << line.Text();
        else if (one.name[0] == 'y' && is_empty)
            EXPECT_TRUE(line.IsResult()) << line.Text();
        else if (one.name[0] == 'y')
            EXPECT_EQ(PARAM, line.Reason()) << line.Text();
        else
            EXPECT_TRUE(line.Reason() == PARSE || line.Reason() == PARAM) << line.Text();
    }
    ExpectAlive(c);
}

/* --- lines ---------------------------------------------------------------------------------- */

TEST_F(BadInputTest, TheLongestLineIsReadAndOneByteMoreEndsTheClient) {
    std::string request = Request("ssl.versions", "{}");
    Client c(tree_);

    request += std::string(65536 - request.size(), ' ');
    EXPECT_TRUE(Answer(c, request + "\n").IsResult());
    Line line = Answer(c, request + " \n");
    ExpectError(line, "line_too_long");
    EXPECT_EQ(65536, line.Integer("error.data.max"));
    ExpectEnded(c);
}

TEST_F(BadInputTest, AMegabyteWithoutALineBreakIsAnsweredToo) {
    Client c(tree_);

    Send(c, std::string(1 << 20, 'x'));
    ExpectError(Next(c), "line_too_long");
    ExpectEnded(c);
}

TEST_F(BadInputTest, ALineMayBeSplitAtEveryByte) {
    const std::string request = Request("ssl.format_error", R"({"reason":"timeout"})") + "\n";
    Client c(tree_);

    for (size_t split = 1; split < request.size(); split++) {
        SCOPED_TRACE(split);
        ASSERT_TRUE(Send(c, request.substr(0, split)));
        ASSERT_TRUE(Send(c, request.substr(split)));
        Line line = Next(c);
        ASSERT_EQ("the time given was over", line.String("result.text")) << line.Text();
    }
    for (char byte : request)
        ASSERT_TRUE(Send(c, std::string(1, byte)));
    EXPECT_TRUE(Next(c).IsResult());
}

TEST_F(BadInputTest, DescriptorsFindTheirLineWhereverItIsSplit) {
    const std::string request =
        Request("ssl.upgrade", R"({"fd_index":0,"role":"client"})", ",\"fds\":1") + "\n";
    Fd pipe_end(open("/dev/null", O_RDONLY));
    Client c(tree_);

    for (size_t split = 1; split < request.size(); split++) {
        SCOPED_TRACE(split);
        /* With the first part, then with the second: the queue does not care. */
        for (bool is_first : {true, false}) {
            std::vector<int> one = {pipe_end.get()}, none;

            ASSERT_TRUE(Send(c, request.substr(0, split), is_first ? one : none));
            ASSERT_TRUE(Send(c, request.substr(split), is_first ? none : one));
            Line line = Next(c);
            ASSERT_EQ(FDS, line.Reason()) << line.Text();
            ASSERT_EQ("fd_index", line.String("error.data.param")) << line.Text();
        }
    }
    ExpectAlive(c);
}

TEST_F(BadInputTest, ManyLinesInOneWriteAreAnsweredEach) {
    std::string lines;
    std::set<int64_t> ids;
    Client c(tree_);

    for (int i = 1; i <= 500; i++)
        lines += R"({"jsonrpc":"2.0","id":)" + std::to_string(i) + R"(,"method":"ssl.versions"})" +
                 (i % 2 ? "\n" : "\nrubbish\n");
    ASSERT_TRUE(Send(c, lines));
    for (int i = 0; i < 750; i++)
        ids.insert(Next(c).Integer("id"));
    EXPECT_EQ(501U, ids.size()); /* and null */
}

TEST_F(BadInputTest, ALastLineWithoutALineBreakIsAnswered) {
    Client c(tree_);

    ASSERT_TRUE(Send(c, Request("ssl.versions", "{}")));
    shutdown(harness_client_fd(c.raw()), SHUT_WR);
    Line line = Next(c);
    ExpectError(line, PARSE);
    EXPECT_NE(std::string::npos, line.String("error.message").find("newline"));
    ExpectEnded(c);
}

TEST_F(BadInputTest, AHalfClosedClientGetsItsReplies) {
    Client c(tree_);

    ASSERT_TRUE(
        Send(c, Request("cordon.describe", "{}") + "\n" + Request("ssl.versions", "{}") + "\n"));
    shutdown(harness_client_fd(c.raw()), SHUT_WR);
    EXPECT_TRUE(Next(c).IsResult());
    EXPECT_TRUE(Next(c).IsResult());
    ExpectEnded(c);
}

/* --- descriptors ----------------------------------------------------------------------------- */

TEST_F(BadInputTest, AnnouncedDescriptorsThatDoNotComeEndTheClient) {
    for (const char *announced : {"1", "2", "64", "65", "1000000", "9223372036854775807"}) {
        SCOPED_TRACE(announced);
        Fd file(open("/dev/null", O_RDONLY));
        Client c(tree_);
        bool one_comes = strcmp(announced, "1") != 0;
        Line line =
            Answer(c, Request("ssl.versions", "{}", std::string(",\"fds\":") + announced) + "\n",
                   one_comes ? std::vector<int>{file.get()} : std::vector<int>{});

        ExpectError(line, FDS);
        EXPECT_EQ(7, line.Integer("id"));
        EXPECT_NE(std::string::npos, line.String("error.message").find(announced)) << line.Text();
        ExpectEnded(c);
    }
    ExpectUndisturbed();
}

TEST_F(BadInputTest, SurplusDescriptorsAreRefusedAndClosed) {
    for (size_t count : {1, 2, 8, 63, 64}) {
        SCOPED_TRACE(count);
        Fd file(open("/dev/null", O_RDONLY));
        Client c(tree_);
        Line line =
            Answer(c, Request("ssl.versions", "{}", ",\"fds\":" + std::to_string(count)) + "\n",
                   std::vector<int>(count, file.get()));

        ExpectError(line, FDS);
        ExpectAlive(c);
    }
}

TEST_F(BadInputTest, DescriptorsThatNobodyAnnouncesMayWaitUpTo64) {
    Fd file(open("/dev/null", O_RDONLY));

    for (size_t count : {1, 63, 64}) {
        SCOPED_TRACE(count);
        Client c(tree_);

        EXPECT_TRUE(
            Answer(c, Request("ssl.versions", "{}") + "\n", std::vector<int>(count, file.get()))
                .IsResult());
        ExpectAlive(c);
    }
    for (size_t count : {65, 100, 253}) {
        SCOPED_TRACE(count);
        Client c(tree_);

        EXPECT_TRUE(
            Answer(c, Request("ssl.versions", "{}") + "\n", std::vector<int>(count, file.get()))
                .IsResult());
        ExpectError(Next(c), FDS);
        ExpectEnded(c);
    }
}

TEST_F(BadInputTest, AnUnreadableLineLeavesNoDescriptorForTheNext) {
    Fd file(open("/dev/null", O_RDONLY));
    Client c(tree_);

    ExpectError(Answer(c, "rubbish\n", {file.get()}), PARSE);
    /* If the next line took the descriptor of the last one, it would be refused for its kind. */
    ExpectError(Answer(c, Request("ssl.versions", "{}", ",\"fds\":1") + "\n"), FDS);
    ExpectEnded(c);
}

TEST_F(BadInputTest, EachDescriptorIsNamedExactlyOnce) {
    Fd file(open(harness_cert("ca.pem"), O_RDONLY));
    Client c(tree_);
    Line line = c.Call("ssl.connect", R"({"host":"localhost","port":1})", {file.get()});

    ExpectError(line, FDS);
    line = c.Call("ssl.connect", R"({"host":"localhost","port":1,"options":{"cacertfile":
                  {"fd_index":0},"certfile":{"fd_index":0}}})",
                  {file.get()});
    ExpectError(line, FDS);
    EXPECT_NE(std::string::npos, line.String("error.data.why").find("twice")) << line.Text();
    line = c.Call("ssl.connect",
                  R"({"host":"localhost","port":1,"options":{"cacertfile":{"fd_index":1}}})",
                  {file.get()});
    ExpectError(line, FDS);
    EXPECT_EQ("options.cacertfile", line.String("error.data.param")) << line.Text();
    ExpectAlive(c);
}

Fd Listening() {
    uint16_t port;

    return Fd(harness_listen_tcp(&port));
}

Fd HalfOf(int type) {
    int pair[2] = {-1, -1};

    EXPECT_EQ(0, socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair));
    close(pair[1]);
    return Fd(pair[0]);
}

Fd PipeEnd() {
    int ends[2] = {-1, -1};

    EXPECT_EQ(0, pipe2(ends, O_CLOEXEC));
    close(ends[1]);
    return Fd(ends[0]);
}

struct Kind {
    const char *name;
    Fd (*make)();
    const char *says;
};

/* clang-format off */
const Kind kKinds[] = {
    {"file", [] { return Fd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)); }, "a regular file"},
    {"memfd", [] { return Fd(memfd_create("x", MFD_CLOEXEC)); }, "a regular file"},
    {"directory", [] { return Fd(open("/", O_RDONLY | O_CLOEXEC)); }, "a directory"},
    {"directory by path", [] { return Fd(open("/", O_PATH | O_CLOEXEC)); }, "a directory"},
    {"pipe", PipeEnd, "a pipe"},
    {"device", [] { return Fd(open("/dev/null", O_RDWR | O_CLOEXEC)); }, "a character device"},
    {"terminal", [] { return Fd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)); }, "terminal"},
    {"epoll", [] { return Fd(epoll_create1(EPOLL_CLOEXEC)); }, "an object of the kernel"},
    {"eventfd", [] { return Fd(eventfd(0, EFD_CLOEXEC)); }, "an object of the kernel"},
    {"datagram socket", [] { return Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }, "a datagram socket"},
    {"datagram pair", [] { return HalfOf(SOCK_DGRAM); }, "a datagram socket"},
    {"seqpacket pair", [] { return HalfOf(SOCK_SEQPACKET); }, "a seqpacket socket"},
    {"unconnected socket", [] { return Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }, "neither connected nor listening"},
    {"unconnected Unix socket", [] { return Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }, "neither connected nor listening"},
    {"listening socket", Listening, "a listening socket"},
};
/* clang-format on */

TEST_F(BadInputTest, DescriptorsOfAWrongKindAreNamed) {
    Client c(tree_);

    for (const Kind &kind : kKinds) {
        SCOPED_TRACE(kind.name);
        Fd fd = kind.make();
        bool is_listening = strcmp(kind.name, "listening socket") == 0;
        bool is_file = strstr(kind.says, "regular file") != nullptr;
        struct {
            const char *method, *params, *where;
            bool is_right;
        } asks[] = {
            {"ssl.upgrade", R"({"fd_index":0,"role":"client"})", "fd_index", false},
            {"ssl.listen", R"({"fd_index":0})", "fd_index", is_listening},
            {"ssl.connect",
             R"({"host":"localhost","port":1,"options":{"certfile":{"fd_index":0}}})",
             "options.certfile", is_file},
            {"ssl.connect",
             R"({"host":"localhost","port":1,"options":{"password":{"fd_index":0}}})",
             "options.password", is_file || strcmp(kind.name, "pipe") == 0},
        };
        for (const auto &ask : asks) {
            if (ask.is_right)
                continue;
            Line line = c.Call(ask.method, ask.params, {fd.get()});
            ExpectError(line, FDS);
            EXPECT_EQ(ask.where, line.String("error.data.param")) << line.Text();
            EXPECT_NE(std::string::npos, line.String("error.data.why").find(kind.says))
                << line.Text();
        }
    }
    ExpectAlive(c);
}

/* --- clients that take room ------------------------------------------------------------------ */

TEST_F(BadInputTest, AClientThatNeverReadsIsEndedAndDelaysNobody) {
    const std::string request = Request("cordon.describe", "{}") + "\n";
    size_t from = harness_tree_log_size(tree_);
    Client c(tree_);
    int fd = harness_client_fd(c.raw());
    size_t sent = 0;

    /* Until both its queue here and its queue in the kernel are full. */
    while (harness_wait_fd(fd, POLLOUT, harness_deadline(2000)) &&
           send(fd, request.data(), request.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        sent++;
    EXPECT_LT(sent, 5000U) << "it is read for ever";
    int64_t before_ms = harness_now_ms();
    ExpectUndisturbed();
    EXPECT_LT(harness_now_ms() - before_ms, 5000);
    EXPECT_TRUE(WaitLog("warn manager client=[^ ]* ended: it has not read for 30 s", from, 60000));
}

TEST_F(BadInputTest, AClientThatReadsLateGetsEveryReply) {
    Client c(tree_);
    int fd = harness_client_fd(c.raw());
    std::set<int64_t> ids;
    int64_t sent = 0;

    for (;;) {
        std::string request = R"({"jsonrpc":"2.0","id":)" + std::to_string(sent + 1) +
                              R"(,"method":"cordon.describe"})" + "\n";
        if (!harness_wait_fd(fd, POLLOUT, harness_deadline(1000)) ||
            send(fd, request.data(), request.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
        sent++;
    }
    EXPECT_GT(sent, 20);
    for (int64_t i = 0; i < sent; i++)
        ids.insert(Next(c).Integer("id"));
    EXPECT_EQ((size_t)sent, ids.size());
    ExpectAlive(c);
}

TEST_F(BadInputTest, IdleClientsDisturbNobody) {
    size_t count = harness_count(100, 1000);
    std::vector<std::unique_ptr<Client>> idle;

    for (size_t i = 0; i < count; i++)
        idle.push_back(std::make_unique<Client>(tree_));
    int64_t before_ms = harness_now_ms();
    Line status = witness_->Must("cordon.status");
    EXPECT_LT(harness_now_ms() - before_ms, 5000);
    ExpectAlive(*idle.back());
    status = witness_->Must("cordon.status");
    EXPECT_EQ((int64_t)count + 1, status.Integer("result.clients"));
    ExpectAlive(*idle.front());
}

TEST_F(BadInputTest, WhoHangsUpInTheMiddleLeavesNothing) {
    Fd file(open("/dev/null", O_RDONLY));
    const std::string request = Request("cordon.describe", "{}") + "\n";

    for (size_t i = 0; i < 100; i++) {
        Client c(tree_);

        ASSERT_TRUE(Send(c, request + request.substr(0, i % request.size() + 1),
                         std::vector<int>(i % 60, file.get())));
    }
    ExpectUndisturbed();
}

TEST_F(BadInputTest, RubbishFromARandomSourceEndsNobodyElse) {
    uint32_t random = 12345; /* the same rubbish each time */
    Client c(tree_);

    for (int i = 0; i < 300; i++) {
        std::string line;

        for (int j = 0; j < 40; j++) {
            random = random * 1664525 + 1013904223;
            line += "{}[]\":,\\ \t\r0123456789abcdefeEnul\xc3\xa4\x80\xff\x01"[random >> 24 & 31];
        }
        ExpectError(Answer(c, line + "\n"), PARSE);
    }
    ExpectAlive(c);
}

TEST_F(BadInputTest, AnIdInUseIsRefusedWithoutTouchingTheFirst) {
    Client c(tree_);
    Line listener = c.Must("ssl.listen", std::string(R"({"listen":{"address":"127.0.0.1","port":0},
                           "options":{"certfile":")") +
                                             harness_cert("server.both.pem") + "\"}}");
    std::string wait = Request("ssl.transport_accept",
                               R"({"listener":")" + listener.String("result.listener") + "\"}") +
                       "\n";

    ASSERT_TRUE(Send(c, wait));
    Line line = Answer(c, wait);
    ExpectError(line, INVALID);
    EXPECT_TRUE(json_is_null(line.At("id"))) << line.Text();
    ASSERT_TRUE(Send(c, R"({"jsonrpc":"2.0","id":8,"method":"cordon.cancel","params":{"id":7}})"
                        "\n"));
    line = Next(c);
    ExpectError(line, "cancelled");
    EXPECT_EQ(7, line.Integer("id"));
    EXPECT_TRUE(Next(c).IsResult());
    ExpectAlive(c);
}

/* --- limits ---------------------------------------------------------------------------------- */

class LimitsTest : public BadInputTest {
protected:
    void SetUp() override {
        struct harness_tree_options options = {};

        TreeTest::SetUp();
        options.config = R"({"clients_max":3,"requests_max":2})";
        ASSERT_NO_FATAL_FAILURE(Start(&options));
    }
};

TEST_F(LimitsTest, OneClientTooManyIsToldAndTheOthersStay) {
    Client a(tree_), b(tree_), c(tree_);

    ExpectAlive(a);
    ExpectAlive(b);
    ExpectAlive(c);
    {
        Client d(tree_);
        Line line = Next(d);
        ExpectError(line, "limit");
        EXPECT_EQ("clients", line.String("error.data.which"));
        EXPECT_EQ(3, line.Integer("error.data.max"));
        ExpectEnded(d);
    }
    b.Close();
    ASSERT_TRUE(WaitLog("client=[^ ]* closed"));
    Client e(tree_);
    ExpectAlive(e);
}

TEST_F(LimitsTest, OneRequestTooManyIsRefused) {
    Client c(tree_);
    Line listener = c.Must("ssl.listen", std::string(R"({"listen":{"address":"127.0.0.1","port":0},
                           "options":{"certfile":")") +
                                             harness_cert("server.both.pem") + "\"}}");
    std::string wait = R"({"listener":")" + listener.String("result.listener") + "\"}";
    int64_t first = c.Request("ssl.transport_accept", wait);
    int64_t second = c.Request("ssl.transport_accept", wait);
    Line line = c.Call("ssl.transport_accept", wait);

    ExpectError(line, "limit");
    EXPECT_EQ("requests", line.String("error.data.which"));
    EXPECT_EQ(2, line.Integer("error.data.max"));
    c.Close();
    (void)first;
    (void)second;
    Client other(tree_);
    ExpectAlive(other);
}

/* --- another uid ----------------------------------------------------------------------------- */

/* Opens control connections as somebody else: the kernel notes the effective uid of connect. */
class StrangerTest : public BadInputTest {
protected:
    void SetUp() override {
        if (geteuid() != 0)
            GTEST_SKIP() << "only root can be somebody else";
        BadInputTest::SetUp();
    }

    std::unique_ptr<Client> Stranger() {
        struct passwd *cordon = getpwnam("cordon");
        gid_t group = cordon != nullptr ? cordon->pw_gid : 0;
        std::unique_ptr<Client> c;

        EXPECT_EQ(0, setegid(group)); /* the socket is 0660 */
        EXPECT_EQ(0, seteuid(STRANGER));
        try {
            c = std::make_unique<Client>(tree_);
        } catch (const std::runtime_error &e) {
            ADD_FAILURE() << e.what();
        }
        EXPECT_EQ(0, seteuid(0));
        EXPECT_EQ(0, setegid(0));
        return c;
    }
};

TEST_F(StrangerTest, HasNeitherDescriptorsNorPaths) {
    std::unique_ptr<Client> c = Stranger();
    ASSERT_NE(nullptr, c);
    Fd file(open(harness_cert("ca.pem"), O_RDONLY));
    Fd pair = HalfOf(SOCK_STREAM);

    ExpectAlive(*c);
    ExpectError(c->Call("ssl.connect", R"({"host":"localhost","port":1})"), "not_supported");
    ExpectError(c->Call("ssl.connect", R"({"host":"localhost","port":1,"options":{
                        "delivery":"messages","cacertfile":"/etc/hostname"}})"),
                "not_supported");
    ExpectError(c->Call("ssl.connect", R"({"host":"localhost","port":1,"options":{
                        "delivery":"messages","cacertfile":{"fd_index":0}}})",
                        {file.get()}),
                "not_supported");
    ExpectError(c->Call("ssl.upgrade", R"({"fd_index":0,"role":"client"})", {pair.get()}),
                "not_supported");
    ExpectError(
        c->Call("ssl.listen", std::string(R"({"listen":{"port":0},"options":{"certfile":")") +
                                  harness_cert("server.both.pem") + "\"}}"),
        "not_supported");
    ExpectAlive(*c);
}

TEST_F(StrangerTest, IsLentNoPortBelow1024) {
    std::unique_ptr<Client> c = Stranger();
    ASSERT_NE(nullptr, c);
    auto listen = [&](int port) {
        return c->Call("ssl.listen",
                       R"({"listen":{"address":"127.0.0.1","port":)" + std::to_string(port) +
                           R"(},"deliver":{"client":{"host":"localhost","port":1,"options":{
                              "delivery":"messages","verify":"verify_none"}}}})");
    };

    for (int port : {1, 443, 1023}) {
        Line line = listen(port);
        ExpectError(line, "not_allowed");
        EXPECT_EQ("administrator", line.String("error.data.role")) << line.Text();
    }
    EXPECT_NE("", listen(0).String("result.listener"));
}

TEST_F(StrangerTest, DoesNotAdminister) {
    std::unique_ptr<Client> c = Stranger();
    ASSERT_NE(nullptr, c);

    for (const char *method : {"cordon.stop", "cordon.log_level"}) {
        Line line = c->Call(method);
        ExpectError(line, "not_allowed");
        EXPECT_EQ("administrator", line.String("error.data.role")) << line.Text();
    }
    ExpectError(c->Call("cordon.kill", R"({"conn":"c1.1"})"), "not_allowed");
}

TEST_F(StrangerTest, SeesOnlyItsOwn) {
    std::unique_ptr<Client> c = Stranger();
    ASSERT_NE(nullptr, c);
    Line clients = c->Must("cordon.clients");

    ASSERT_EQ(1U, json_array_size(clients.At("result.clients"))) << clients.Text();
    EXPECT_EQ((json_int_t)STRANGER, json_integer_value(json_object_get(
                                        json_array_get(clients.At("result.clients"), 0), "uid")));
    clients = witness_->Must("cordon.clients");
    EXPECT_EQ(2U, json_array_size(clients.At("result.clients"))) << clients.Text();
    c->Must("cordon.subscribe", R"({"types":["client_opened","client_closed"]})");
    {
        Client other(tree_);
        ExpectAlive(other);
    }
    std::unique_ptr<Client> own = Stranger();
    ASSERT_NE(nullptr, own);
    Line event = c->Event("cordon.event");
    EXPECT_EQ(1, event.Integer("params.seq")) << event.Text();
    EXPECT_EQ("client_opened", event.String("params.type")) << event.Text();
}

} // namespace
