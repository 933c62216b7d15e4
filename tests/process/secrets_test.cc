/*
 * Where private keys and passwords are not: in the memory of every process but
 * the keeper, read through /proc while connections are open and data flows.
 * The keeper's memory is searched in the same way, and there they are found.
 */
#include "tests/harness/connection.h"

namespace {

using namespace harness;

class SecretsTest : public ConnectionTest {};

TEST_F(SecretsTest, ThePasswordIsNotInTheManager) {
    Listen(client(), "\"certfile\": " + CertFile("server.encrypted.both.pem") +
                         ", \"password\": " + Quoted(HARNESS_PASSWORD));
    EXPECT_EQ(0, process_memory_count(Pid("cordon manager"), HARNESS_PASSWORD,
                                      strlen(HARNESS_PASSWORD)));
}

} /* namespace */
