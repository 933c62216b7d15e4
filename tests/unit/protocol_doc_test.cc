/* docs/protocol.md is what ipc/protocol_doc prints: documentation and code agree. */
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace {

std::string OutputOf(const std::string &command) {
    std::string output;
    char buffer[4096];
    size_t got;
    FILE *pipe = popen(command.c_str(), "r");

    if (pipe == nullptr)
        return "";
    while ((got = fread(buffer, 1, sizeof buffer, pipe)) > 0)
        output.append(buffer, got);
    EXPECT_EQ(0, pclose(pipe));
    return output;
}

TEST(ProtocolPage, IsWhatMessagesDefSays) {
    const char *root = getenv("CORDON_ROOT"), *source = getenv("CORDON_SOURCE");

    ASSERT_NE(nullptr, root);
    ASSERT_NE(nullptr, source);
    std::ifstream page(std::string(source) + "/docs/protocol.md");
    std::string text((std::istreambuf_iterator<char>(page)), std::istreambuf_iterator<char>());
    EXPECT_EQ(OutputOf(std::string(root) + "/ipc/protocol_doc"), text)
        << "run build/ipc/protocol_doc > docs/protocol.md";
}

} // namespace
