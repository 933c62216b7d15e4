/*
 * One program of the tree, started as cordond starts it: its mailbox at
 * descriptor 3, nothing else but stderr.  The test plays everybody around it.
 */
#ifndef CORDON_TESTS_PROCESS_TREE_CHILD_H
#define CORDON_TESTS_PROCESS_TREE_CHILD_H

extern "C" {
#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "ipc/message.h"
}

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace cordon_test {

inline std::string Root() {
    const char *root = getenv("CORDON_ROOT");

    return root ? root : ".";
}

inline size_t CountDescriptors(const std::string &pid = "self") {
    size_t count = 0;
    DIR *dir = opendir(("/proc/" + pid + "/fd").c_str());

    if (!dir)
        return 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

inline std::string ReadFile(const std::string &path) {
    std::ifstream file(path, std::ios::binary);

    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

inline void WriteFile(const std::string &path, const std::string &content, mode_t mode = 0644) {
    std::ofstream file(path, std::ios::binary);

    file << content;
    file.close();
    ASSERT_EQ(0, chmod(path.c_str(), mode)) << path;
}

inline std::string TextOf(const struct bytes &bytes) {
    return std::string(reinterpret_cast<const char *>(bytes.data), bytes.size);
}

inline struct bytes Borrow(const std::string &text) {
    struct bytes bytes = {reinterpret_cast<const uint8_t *>(text.data()), text.size()};

    return bytes;
}

/* A folder of its own, which every user may enter; gone with the object. */
class Folder {
public:
    Folder() {
        char name[] = "/tmp/cordon-test-XXXXXX";

        path_ = mkdtemp(name) ? name : "/nonexistent";
        (void)chmod(path_.c_str(), 0755);
    }
    ~Folder() { (void)!system(("rm -rf " + path_).c_str()); }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;

    std::string operator/(const std::string &name) const { return path_ + "/" + name; }

    /* A shell command in the folder; what it prints is shown if it fails. */
    void Run(const std::string &command) const {
        std::string whole = "cd " + path_ + " && umask 022 && (" + command + ") > out.txt 2>&1";

        ASSERT_EQ(0, system(whole.c_str())) << command << "\n" << ReadFile(*this / "out.txt");
    }

private:
    std::string path_;
};

class TreeChild {
public:
    TreeChild() = default;
    TreeChild(const TreeChild &) = delete;
    TreeChild &operator=(const TreeChild &) = delete;
    ~TreeChild() {
        if (pid_ > 0) {
            kill(pid_, SIGKILL);
            (void)Wait();
        }
        fd_close(&log_);
    }

    /* Takes mailbox.  uid 0: as who we are. */
    void Start(const std::string &program, int mailbox, uid_t uid = 0) {
        const std::string path = Root() + "/libexec/cordon/" + program;
        int file = open(path.c_str(), O_PATH | O_CLOEXEC);

        ASSERT_GE(file, 0) << path;
        log_ = memfd_create("log", MFD_CLOEXEC);
        ASSERT_GE(log_, 0);
        pid_ = fork();
        if (pid_ == 0)
            Exec(file, program, mailbox, uid);
        close(file);
        fd_close(&mailbox);
        ASSERT_GT(pid_, 0);
    }

    /* The status as from waitpid; ends the child after 60 s. */
    int Wait() {
        if (pid_ <= 0) { /* of kill(2), -1 means everybody */
            ADD_FAILURE() << "there is no child\n" << Log();
            return -1;
        }
        int status = -1;
        int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
        struct pollfd ended = {pidfd, POLLIN, 0};

        if (pidfd < 0 || poll(&ended, 1, 60000) != 1) {
            ADD_FAILURE() << "the child does not end\n" << Log();
            kill(pid_, SIGKILL);
        }
        fd_close(&pidfd);
        (void)waitpid(pid_, &status, 0);
        pid_ = -1;
        return status;
    }

    pid_t pid() const { return pid_; }

    /* What it wrote to stderr. */
    std::string Log() const {
        std::string text(65536, '\0');
        ssize_t size = pread(log_, &text[0], text.size(), 0);

        text.resize(size > 0 ? static_cast<size_t>(size) : 0);
        return text;
    }

private:
    [[noreturn]] void Exec(int file, const std::string &program, int mailbox, uid_t uid) {
        std::string name = "cordon " + program;
        char *argv[] = {&name[0], nullptr};

        /* Above what is wanted, so that nothing is overwritten before it is used. */
        int box = fcntl(mailbox, F_DUPFD_CLOEXEC, 100);
        int log = fcntl(log_, F_DUPFD_CLOEXEC, 100);
        int exe = fcntl(file, F_DUPFD_CLOEXEC, 100);
        int null = open("/dev/null", O_RDWR);

        (void)dup2(null, 0);
        (void)dup2(null, 1);
        (void)dup2(log, 2);
        if (box >= 0)
            (void)dup2(box, 3);
        else
            (void)close(3);
        if (uid != 0 && (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0))
            _exit(126);
        syscall(SYS_execveat, exe, "", argv, environ, AT_EMPTY_PATH);
        _exit(127);
    }

    pid_t pid_ = -1;
    int log_ = -1;
};

/* One message and the room it points into. */
class Received {
public:
    Received() : buffer_(MESSAGE_MAX_LARGE + 1) { memset(&m, 0, sizeof m); }
    Received(const Received &) = delete;
    Received &operator=(const Received &) = delete;
    ~Received() { Forget(); }

    enum result From(int mailbox, enum route route, int64_t timeout_ms = 30000) {
        const char *why = nullptr;
        enum result result;

        Forget();
        result = mailbox_receive_wait(mailbox, route, buffer_.data(), MESSAGE_MAX_LARGE, &m, &why,
                                      clock_now_ms() + timeout_ms);
        is_full_ = result == RESULT_OK;
        return result;
    }

    struct message m;

private:
    void Forget() {
        if (is_full_)
            message_fini(&m);
        is_full_ = false;
    }

    std::vector<char> buffer_;
    bool is_full_ = false;
};

} // namespace cordon_test

#endif
