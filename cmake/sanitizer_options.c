/*
 * What the sanitizers do when nobody says otherwise; linked into every program
 * of a sanitized build.
 *
 * A worker's report would be lost with the worker, so every report is a file
 * of its own, and scripts/test fails if there is one.  The leak checker needs
 * to examine its own process, which one that is not dumpable refuses; ctest
 * switches it on for the unit tests.
 */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
    return "detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1:max_free_fill_size=65536:"
           "handle_abort=0:exitcode=99:log_path=" CORDON_SANITIZER_LOG;
}

const char *
__ubsan_default_options(void)
{
    return "print_stacktrace=1:exitcode=99:log_path=" CORDON_SANITIZER_LOG;
}
