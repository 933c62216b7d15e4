/* Descriptors' numbers are used again: who gets one is heard, whatever ends meanwhile. */
#include "tests/harness/connection.h"

namespace {

using namespace harness;

class HandlesTest : public ConnectionTest {};

/* A closed listener lives on with its connections; the numbers of its descriptors do not. */
TEST_F(HandlesTest, ClientsAreHeardAfterTheLastConnectionOfAClosedListener) {
    Listener listener = Listen(client(), Identity("ecdsa"));
    auto [owned, peer] = Accept(listener);
    std::vector<std::unique_ptr<Client>> others;

    client().Must("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
    for (int i = 0; i < 8; i++) {
        others.push_back(std::make_unique<Client>(tree_));
        others.back()->Must("cordon.hello");
    }
    owned.data.Reset();
    EXPECT_TRUE(peer.ReadEnd());
    peer.Close();
    EXPECT_TRUE(Eventually([this, conn = owned.conn] { return StateOf(conn).empty(); }));
    for (auto &other : others)
        other->Must("cordon.hello");
}

} // namespace
