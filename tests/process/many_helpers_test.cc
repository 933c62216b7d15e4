/* Many questions to helpers at once: so many processes, and every question is answered. */
#include "tests/harness/connection.h"

#include <sstream>

namespace {

class ManyHelpersTest : public harness::ConnectionTest {
protected:
    struct Resolvers {
        size_t all = 0, now = 0, most = 0; /* most: at a time */
    };

    /* By cordond's log. */
    Resolvers SeenResolvers() {
        char *log = harness_tree_log(tree_);
        std::istringstream lines(log);
        std::string line;
        Resolvers seen;

        free(log);
        while (std::getline(lines, line)) {
            if (line.find("child=resolver pid=0 state=waiting event=start_due") !=
                std::string::npos)
                seen.all++, seen.most = std::max(seen.most, ++seen.now);
            else if (line.find("child=resolver ") != std::string::npos &&
                     line.find("next=ended") != std::string::npos)
                seen.now--;
        }
        return seen;
    }
};

TEST_F(ManyHelpersTest, AreAtMost64AtATime) {
    const int all = 300;
    std::vector<int64_t> asked;

    for (int i = 0; i < all; i++)
        asked.push_back(client().Request(
            "ssl.connect", R"({"host": "localhost", "port": 1, "timeout": "infinity", "options": )"
                           R"({"verify": "verify_none"}})"));
    for (int64_t id : asked) {
        harness::Line line = client().Reply(id, 3 * HARNESS_WAIT_MS);
        EXPECT_EQ("posix", line.Reason()) << line.Text();
    }
    EXPECT_TRUE(Eventually([&] { return SeenResolvers().now == 0; }));
    EXPECT_EQ(static_cast<size_t>(all), SeenResolvers().all);
    EXPECT_LE(SeenResolvers().most, 64U);
    EXPECT_GT(SeenResolvers().most, 8U) << "they wait for each other";
}

TEST_F(ManyHelpersTest, CountAlsoWhenNobodyWantsTheirAnswer) {
    std::vector<int64_t> asked;

    for (int i = 0; i < 200; i++)
        asked.push_back(client().Request(
            "ssl.connect", R"({"host": "localhost", "port": 1, "timeout": 1, "options": )"
                           R"({"verify": "verify_none"}})"));
    for (int64_t id : asked)
        client().Reply(id);
    EXPECT_TRUE(Eventually([&] { return SeenResolvers().now == 0; }));
    EXPECT_LE(SeenResolvers().most, 64U);
}

} /* namespace */
